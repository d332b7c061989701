//! Plausible's own trackers in a real browser, with only their endpoint changed, and the official verifier of Standard Webhooks
//! behind the receiver.

mod chromium;
mod interface;
mod pages;
mod verifier;

use bellwether_testkit::receiver::{Received, Receiver};
use serde_json::{Value, json};
use thirtyfour::{By, WebDriver};

use crate::support::{Client, Home, Server, json};
use chromium::Chromium;
use pages::Pages;

/// A secret that somebody chose. It has no prefix, and is a key as it is.
const OWN_SECRET: &str = "a-secret-of-my-own";
/// Resolves when a scroll to the end of the page has been noticed.
const SCROLL: &str = "const done = arguments[arguments.length - 1];
    document.addEventListener('scroll', () => requestAnimationFrame(() => done()), { once: true });
    window.scrollTo(0, document.documentElement.scrollHeight);";

#[tokio::test]
async fn the_current_tracker_completes_goals_of_every_type() {
    let goals = [
        json!({"page_path": "/current/*"}),
        json!({"event_name": "Signup", "currency": "EUR"}),
        json!({"event_name": "Form: Submission"}),
        json!({"page_path": "/current/article", "scroll_threshold": 75}),
    ];
    let mut scene = Scene::set(&goals).await;
    let visit = |driver: WebDriver| async move {
        driver.goto(scene.pages.url("/current/article?utm_source=newsletter")).await?;
        let arrived = scene.arrived("Visit /current/*").await;
        assert_eq!((&arrived["path"], &arrived["goal_type"]), (&json!("/current/article"), &json!("page")));
        assert_eq!(arrived["source"], "newsletter");

        driver.find(By::Id("signup")).await?.click().await?;
        let arrived = scene.arrived("Signup").await;
        assert_eq!(arrived["props"], json!({"plan": "pro", "seats": "3"}));
        assert_eq!(arrived["revenue"], json!({"amount": "29.9", "currency": "EUR"}));

        driver.find(By::Id("send")).await?.click().await?;
        assert_eq!(scene.arrived("Form: Submission").await["props"], json!({"path": "/current/article"}));

        // Left without having been scrolled, and again afterwards.
        driver.goto(scene.pages.url("/empty")).await?;
        driver.goto(scene.pages.url("/current/article")).await?;
        scene.arrived("Visit /current/*").await;
        driver.execute_async(SCROLL, Vec::new()).await?;
        driver.goto(scene.pages.url("/empty")).await?;
        let arrived = scene.arrived("Scroll 75% on /current/article").await;
        assert_eq!((&arrived["path"], &arrived["goal_type"]), (&json!("/current/article"), &json!("scroll")));
        Ok(scene)
    };
    let scene = Chromium::start().await.run(visit).await;
    scene.ends_with_webhooks(5).await;
}

#[tokio::test]
async fn the_tracker_before_it_completes_goals_too() {
    let goals = [
        json!({"page_path": "/before/*"}),
        json!({"event_name": "Signup", "custom_props": {"plan": "pro"}}),
        json!({"event_name": "Outbound Link: Click"}),
    ];
    let mut scene = Scene::set(&goals).await;
    let visit = |driver: WebDriver| async move {
        driver.goto(scene.pages.url("/before/article")).await?;
        let arrived = scene.arrived("Visit /before/*").await;
        assert_eq!((&arrived["path"], &arrived["source"]), (&json!("/before/article"), &Value::Null));

        driver.find(By::Id("signup")).await?.click().await?;
        assert_eq!(scene.arrived("Signup").await["props"], json!({"plan": "pro", "seats": "3"}));

        driver.find(By::Id("next")).await?.click().await?;
        assert_eq!(scene.arrived("Visit /before/*").await["path"], "/before/next");

        driver.find(By::Id("out")).await?.click().await?;
        let elsewhere = scene.pages.url("/empty").replace("127.0.0.1", "localhost");
        assert_eq!(scene.arrived("Outbound Link: Click").await["props"], json!({"url": elsewhere}));
        Ok(scene)
    };
    let scene = Chromium::start().await.run(visit).await;
    scene.ends_with_webhooks(4).await;
}

/// A server with a site, two webhooks of it, their receivers, and the site's pages.
struct Scene {
    home: Home,
    server: Server,
    client: Client,
    pages: Pages,
    webhooks: [Watched; 2],
}

/// A webhook and what it has received.
struct Watched {
    webhook: Value,
    receiver: Receiver,
    received: Vec<Received>,
}

impl Scene {
    async fn set(goals: &[Value]) -> Self {
        let (home, receivers) = (Home::new(), [Receiver::start().await, Receiver::start().await]);
        let server = home.serve().await;
        let client = home.client(&server).await;
        let [first, second] = &receivers;
        let generated = client.set_up(goals, &first.url()).await;
        let own = json!({"url": second.url(), "triggers": ["goal_completion"], "secret": OWN_SECRET});
        let own = client.create_webhook(own).await;
        let [first, second] = receivers;
        let watched = |webhook, receiver| Watched { webhook, receiver, received: Vec::new() };
        let pages = Pages::serve(server.address).await;
        Self { home, server, client, pages, webhooks: [watched(generated, first), watched(own, second)] }
    }

    /// Waits for the next webhook, which must be of that goal; answers its data.
    async fn arrived(&mut self, goal: &str) -> Value {
        let mut data = Value::Null;
        for watched in &mut self.webhooks {
            let arrived = watched.receiver.next().await;
            data = json(&arrived)["data"].take();
            assert_eq!(data["goal_name"], goal, "{arrived:?}");
            watched.received.push(arrived);
        }
        data
    }

    /// So many came to each, no more, and the official verifier accepts them all.
    async fn ends_with_webhooks(mut self, count: usize) {
        for watched in &mut self.webhooks {
            assert_eq!(self.client.settled(&watched.webhook).await, count as u64, "{}", self.home.log());
            watched.received.extend(watched.receiver.so_far());
            assert_eq!(watched.received.len(), count);
        }
        let signed = self.webhooks.iter().flat_map(|watched| {
            watched.received.iter().map(|received| (watched.webhook["secret"].as_str().expect("a secret"), received))
        });
        verifier::accepts_all(signed.collect()).await;
        self.server.stop().await;
    }
}
