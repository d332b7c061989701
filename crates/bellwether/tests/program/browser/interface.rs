//! The pages of Bellwether itself in a real browser: what people do with them, with a script and without, and whether everybody can.

mod person;

use std::fs;
use std::path::PathBuf;

use bellwether_testkit::receiver::{Answer, Receiver};
use serde_json::json;
use thirtyfour::WebDriver;
use thirtyfour::error::WebDriverResult;

use super::chromium::{Chromium, Scripts};
use crate::support::{Client, Home, SITE, Server, json};
use person::Person;

/// Where pictures of all pages are to be written, if they are.
const SCREENSHOTS: &str = "BELLWETHER_SCREENSHOTS";
/// How a page may be looked at: a name, the scheme of colours, and the width in pixels.
const LOOKS: [(&str, &str, u32); 3] = [("light", "light", 1_280), ("dark", "dark", 1_280), ("phone", "light", 390)];

/// A server without anybody, somebody in front of it, and a receiver.
struct Scene {
    home: Home,
    server: Server,
    setup: String,
    client: Client,
    receiver: Receiver,
}

impl Scene {
    async fn set() -> Self {
        let home = Home::new();
        let mut server = home.serve().await;
        let (setup, client) = (server.setup_path().await, home.client(&server).await);
        Self { home, server, setup, client, receiver: Receiver::start().await }
    }

    fn person<'a>(&self, driver: &'a WebDriver) -> Person<'a> {
        Person::new(driver, self.server.address)
    }

    /// The site's visitors do something, each of whom is another.
    async fn event(&self, visitor: u8, name: &str) {
        let agent = format!("Mozilla/5.0 (X11; Linux x86_64; rv:{visitor}.0) Gecko/20100101 Firefox/{visitor}.0");
        let client = self.client.visiting_from("203.0.113.1", &agent);
        assert_eq!(client.event(json!({"n": name})).await.expect("an answer"), 202);
    }
}

/// From a server that nobody has used to a webhook that is active. Everything that is clicked or filled in is counted.
async fn from_a_fresh_start_to_a_webhook(scene: &Scene, person: &Person<'_>) -> WebDriverResult<()> {
    person.open(&scene.setup).await?;
    person.fill("email", "owner@example.com").await?;
    person.fill("password", "purple-otters-juggle-7").await?;
    person.press("Make the account").await?;
    person.fill("domain", SITE).await?;
    person.press("Add the site").await?;
    person.follow("Webhooks").await?;
    person.follow("Add a webhook").await?;
    person.fill("url", &scene.receiver.url()).await?;
    person.press("Add the webhook").await?;
    person.sees("It is shown only now").await;
    assert!(person.clicks() <= 5 && person.fields() <= 4, "{} clicks, {} fields", person.clicks(), person.fields());
    Ok(())
}

/// The five stories, by which it can be told whether the pages are of use.
async fn the_stories(scene: &mut Scene, person: &Person<'_>) -> WebDriverResult<()> {
    from_a_fresh_start_to_a_webhook(scene, person).await?;
    let receiver = scene.receiver.url();

    // A test shows its answer right there.
    scene.receiver.behave(Answer { status: 200, body: b"<b>thanks</b>".to_vec(), ..Answer::default() });
    person.press("Send a test").await?;
    person.sees("<b>thanks</b>").await;
    assert_eq!(json(&scene.receiver.next().await)["event_type"], "webhook_test");

    // A goal of each type.
    for (kind, field, value, name) in [
        ("Add a custom event", "event_name", "Signup", "Signup"),
        ("Add a pageview", "page_path", "/thanks", "Visit /thanks"),
        ("Add a scroll depth", "page_path", "/blog/*", "Scroll 90% on /blog/*"),
    ] {
        person.follow("Goals").await?;
        person.follow(kind).await?;
        person.fill(field, value).await?;
        person.press("Add the goal").await?;
        person.sees(name).await;
    }

    // An invalid URL is refused beside its field, and nothing typed is lost; a valid one saves.
    person.follow("Webhooks").await?;
    person.follow("Add a webhook").await?;
    person.fill("url", "ftp://example.com").await?;
    person.fill("name", "Shop <i>system</i>").await?;
    person.press("Add the webhook").await?;
    assert!(person.text_of("url-error").await?.starts_with("URL "), "{}", person.text_of("url-error").await?);
    assert_eq!(
        (person.value_of("name").await?, person.value_of("url").await?),
        ("Shop <i>system</i>".to_owned(), "ftp://example.com".to_owned())
    );
    person.fill("url", &receiver).await?;

    // Selected triggers fire and others do not: this one waits for many visitors, and fires only when there are as many.
    person.press("Remove").await?;
    person.press("Add: Visitor spike").await?;
    person.choose("triggers-0-unit", "visitors").await?;
    person.fill("triggers-0-threshold", "4").await?;
    person.press("Add the webhook").await?;
    person.sees("Shop <i>system</i>").await;
    person.sees("Fires when there are at least 4 visitors within 5 minutes.").await;
    for visitor in 1..=3 {
        scene.event(visitor, "pageview").await;
    }
    scene.event(1, "Signup").await;
    let first = json(&scene.receiver.next().await);
    assert_eq!((first["event_type"].as_str(), first["data"]["goal_name"].as_str()), (Some("goal_completion"), Some("Signup")));
    scene.event(4, "pageview").await;
    let second = json(&scene.receiver.next().await);
    assert_eq!((second["event_type"].as_str(), second["data"]["current_visitors"].as_u64()), (Some("visitor_spike"), Some(4)));

    // The history shows time, status and code, and a delivery everything that was sent and answered.
    person.follow("Deliveries").await?;
    person.sees("Visitor spike").await;
    let row = person.row_of("Visitor spike").await?;
    assert!(row.contains("success") && row.contains("200") && row.contains("ms"), "{row}");
    person.follow("Details").await?;
    for part in ["\"event_type\": \"visitor_spike\"", "webhook-signature", "<b>thanks</b>", "Payload"] {
        person.sees(part).await;
    }
    person.press("Send it once more").await?;
    assert_eq!(json(&scene.receiver.next().await)["event_id"], second["event_id"]);

    // An edit changes, a switch switches, and a deletion stops.
    person.follow("Shop <i>system</i>").await?;
    person.follow("Edit").await?;
    person.press("Remove").await?;
    person.press("Add: Goal completion").await?;
    person.press("Save").await?;
    person.sees("Fires each time any goal is completed.").await;
    scene.event(5, "Signup").await;
    for _ in 0..2 {
        assert_eq!(json(&scene.receiver.next().await)["data"]["goal_name"], "Signup");
    }
    person.press("On").await?;
    person.sees("Switch the webhook on first.").await;
    person.press("Off").await?;
    person.unfold("Delete the webhook").await?;
    person.press("Delete Shop <i>system</i>").await?;
    scene.event(6, "Signup").await;
    scene.receiver.next().await;
    assert_eq!(scene.receiver.so_far().len(), 0, "the deleted webhook is told of nothing");
    Ok(())
}

#[tokio::test]
async fn people_do_everything_with_a_script() {
    let mut scene = Scene::set().await;
    let visit = |driver: WebDriver| async move {
        let person = scene.person(&driver);
        the_stories(&mut scene, &person).await?;
        watch(&mut scene, &driver).await?;
        // A page that is open waits for word of changes, and holds nothing up.
        person_at_live_page(&scene, &driver).await?;
        scene.server.stop().await;
        assert!(!scene.home.log().contains("did not end in time"), "{}", scene.home.log());
        Ok(())
    };
    Chromium::start().await.run(visit).await;
}

#[tokio::test]
async fn people_do_everything_without_a_script() {
    let mut scene = Scene::set().await;
    let visit = |driver: WebDriver| async move {
        let person = scene.person(&driver);
        the_stories(&mut scene, &person).await?;
        Ok(scene)
    };
    let scene = Chromium::start().await.run_with(Scripts::Blocked, visit).await;
    scene.server.stop().await;
    drop(scene.home);
}

/// Leaves a page open that is told of changes.
async fn person_at_live_page(scene: &Scene, driver: &WebDriver) -> WebDriverResult<()> {
    const IS_TOLD: &str = "return performance.getEntriesByType('resource').some((one) => one.name === location.href)";
    let person = scene.person(driver);
    person.follow("Webhooks").await?;
    let is_told = async || driver.execute(IS_TOLD, Vec::new()).await?.convert::<bool>();
    person.waits_for("word of changes", is_told).await;
    Ok(())
}

/// What a script adds: open pages are as things are now, previews follow what is typed, and times are those of the reader.
async fn watch(scene: &mut Scene, driver: &WebDriver) -> WebDriverResult<()> {
    let person = scene.person(driver);
    person.follow("Webhooks").await?;
    person.follow("Deliveries").await?;
    let before = person.count("#deliveries tbody tr").await?;
    scene.event(7, "Signup").await;
    scene.receiver.next().await;
    person.waits_for("a new delivery by itself", async || Ok(person.count("#deliveries tbody tr").await? == before + 1)).await;
    assert!(!person.text_of("deliveries").await?.contains("T0"), "times are those of the reader");

    // Dead letters: one is chosen and sent again, then the rest with its progress.
    scene.receiver.behave(400);
    for visitor in 8..11 {
        scene.event(visitor, "Signup").await;
        scene.receiver.next().await;
    }
    person.waits_for("three dead letters", async || Ok(person.count("#deliveries .pill.failed").await? == 3)).await;
    scene.receiver.behave(200);
    person.choose("status", "failed").await?;
    person.press("Filter").await?;
    person.press("Send the chosen ones again").await?;
    person.sees("choose some first").await;
    person.tick("#deliveries tbody input").await?;
    person.press("Send the chosen ones again").await?;
    scene.receiver.next().await;
    person.waits_for("two that are left", async || Ok(person.count("#deliveries tbody tr").await? == 2)).await;
    person.press("Send all of them again").await?;
    for _ in 0..2 {
        scene.receiver.next().await;
    }
    person.waits_for("none that is left", async || Ok(person.count("#deliveries tbody tr").await? == 0)).await;

    person.follow("Webhooks").await?;
    person.follow("Add a webhook").await?;
    person.press("Add: Visitor spike").await?;
    person.sees("It would not have fired.").await;
    person.choose("triggers-1-unit", "visitors").await?;
    person.fill("triggers-1-threshold", "3").await?;
    person.sees("at least 3 visitors within 5 minutes").await;
    person.sees("It would have fired once.").await;
    person.fill("triggers-1-threshold", "many").await?;
    person.sees("Something is not right in the fields below.").await;
    assert_eq!(person.value_of("triggers-1-threshold").await?, "many");
    Ok(())
}

/// Every page that there is to be looked at, of a site on which something has happened.
async fn all_pages(scene: &mut Scene, person: &Person<'_>) -> WebDriverResult<Vec<(&'static str, String)>> {
    person.check(&[("setup", scene.setup.clone()), ("setup-closed", "/setup".to_owned())]).await?;
    from_a_fresh_start_to_a_webhook(scene, person).await?;
    let site = scene.client.get(&format!("/sites/{SITE}")).await["site"]["id"].as_str().expect("an id").to_owned();
    let webhook =
        scene.client.get(&format!("/sites/{SITE}/webhooks")).await["webhooks"][0]["id"].as_str().expect("an id").to_owned();
    person
        .check(&[("goals-empty", format!("/sites/{site}/goals")), ("goals-add", format!("/sites/{site}/goals?add=scroll"))])
        .await?;
    scene.client.create(&format!("/sites/{SITE}/goals"), json!({"event_name": "Signup"})).await;
    scene.client.create(&format!("/sites/{SITE}/goals"), json!({"page_path": "/thanks"})).await;
    scene.receiver.behave_next([200, 400]);
    for visitor in 1..=2 {
        scene.event(visitor, "Signup").await;
        scene.receiver.next().await;
    }
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 2});
    let hook = json!({"url": scene.receiver.url(), "name": "Alarm", "enabled": false, "triggers": [spike, "webhook_disabled"]});
    let alarm = scene.client.create_webhook(hook).await["id"].as_str().expect("an id").to_owned();
    scene.client.settled(&json!({"id": webhook})).await;
    let deliveries = scene.client.get(&format!("/sites/{SITE}/webhooks/{webhook}/deliveries")).await;
    let delivery = deliveries["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    let of_site = |path: &str| format!("/sites/{site}{path}");
    let pages = vec![
        ("sites", "/sites".to_owned()),
        ("account", "/account".to_owned()),
        ("api", "/docs/api".to_owned()),
        ("site", of_site("")),
        ("goals", of_site("/goals")),
        ("people", of_site("/people")),
        ("webhooks", of_site("/webhooks")),
        ("webhook", of_site(&format!("/webhooks/{webhook}"))),
        ("webhook-add", of_site("/webhooks/new")),
        ("webhook-edit", of_site(&format!("/webhooks/{alarm}/edit"))),
        ("deliveries", of_site(&format!("/webhooks/{webhook}/deliveries"))),
        ("deliveries-empty", of_site(&format!("/webhooks/{alarm}/deliveries"))),
        ("dead-letters", of_site(&format!("/webhooks/{webhook}/deliveries?status=failed"))),
        ("delivery", of_site(&format!("/webhooks/{webhook}/deliveries/{delivery}"))),
        ("not-found", "/nowhere".to_owned()),
    ];
    Ok(pages)
}

#[tokio::test]
async fn every_page_can_be_used_by_everybody_in_light_in_dark_and_on_a_phone() {
    let mut scene = Scene::set().await;
    let visit = |driver: WebDriver| async move {
        let mut person = scene.person(&driver);
        person.screenshots = std::env::var_os(SCREENSHOTS).map(PathBuf::from);
        if let Some(folder) = &person.screenshots {
            fs::create_dir_all(folder).expect("a folder for the pictures");
        }
        let pages = all_pages(&mut scene, &person).await?;
        person.check(&pages).await?;
        person.open("/account").await?;
        person.press("Sign out").await?;
        person.check(&[("sign-in", "/sign-in".to_owned())]).await?;
        Ok(scene)
    };
    let scene = Chromium::start().await.run(visit).await;
    scene.server.stop().await;
    drop(scene.home);
}
