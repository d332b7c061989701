//! The pages of Bellwether itself in a real browser: what people do with them, with a script and without, and whether everybody can.

mod keyboard;
mod looks;
mod person;

use std::time::Duration;

use bellwether_testkit::receiver::{Answer, Receiver};
use serde_json::{Value, json};
use thirtyfour::WebDriver;
use thirtyfour::error::WebDriverResult;
use tokio::time::timeout;

use super::chromium::{Chromium, Scripts};
use crate::support::{Client, Home, SITE, Server, json};
use person::Person;

const EMAIL: &str = "owner@example.com";
const PASSWORD: &str = "purple-otters-juggle-7";
/// More windows than connections that a browser makes to a server.
const WINDOWS: usize = 8;
/// A page that waits for the connection of another window's takes longer.
const PAGE_TIME: Duration = Duration::from_secs(10);
/// Counts how often a page is asked for anew.
const ASKED: &str = "return performance.getEntriesByType('resource').filter((one) => one.name === location.href).length";

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

    /// The webhook of this name.
    async fn webhook(&self, name: &str) -> Value {
        let mut shown = self.client.get(&format!("/sites/{SITE}/webhooks")).await;
        let webhooks = shown["webhooks"].as_array_mut().expect("webhooks");
        webhooks.iter_mut().find(|webhook| webhook["name"] == name).expect("a webhook").take()
    }

    /// The site's visitors do something, each of whom is another.
    async fn event(&self, visitor: u8, name: &str) {
        let agent = format!("Mozilla/5.0 (X11; Linux x86_64; rv:{visitor}.0) Gecko/20100101 Firefox/{visitor}.0");
        let client = self.client.visiting_from("203.0.113.1", &agent);
        assert_eq!(client.event(json!({"n": name})).await.expect("an answer"), 202);
    }
}

async fn make_the_first_account(scene: &Scene, person: &Person<'_>) -> WebDriverResult<()> {
    person.open(&scene.setup).await?;
    person.fill("email", EMAIL).await?;
    person.fill("password", PASSWORD).await?;
    person.press("Make the account").await
}

/// From a server that nobody has used to a webhook that is active. Everything that is clicked or filled in is counted.
async fn from_a_fresh_start_to_a_webhook(scene: &Scene, person: &Person<'_>) -> WebDriverResult<()> {
    make_the_first_account(scene, person).await?;
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
    let deleted = scene.webhook("Shop <i>system</i>").await;
    let before = scene.client.settled(&deleted).await;
    person.unfold("Delete the webhook").await?;
    person.press("Delete Shop <i>system</i>").await?;
    scene.event(6, "Signup").await;
    scene.receiver.next().await;
    // What an event sets off is written before it is answered, for all webhooks at once.
    let deliveries = scene.client.get(&format!("/sites/{SITE}/webhooks/{}/deliveries", id_of(&deleted))).await;
    assert_eq!(deliveries["pagination"]["total_count"], before, "the deleted webhook is told of nothing");
    Ok(())
}

#[tokio::test]
async fn people_do_everything_with_a_script() {
    let mut scene = Scene::set().await;
    let visit = |driver: WebDriver| async move {
        let person = scene.person(&driver);
        the_stories(&mut scene, &person).await?;
        copy_the_secret(&person).await?;
        watch(&mut scene, &driver).await?;
        // A page that is open waits for word of changes, and holds nothing up.
        person_at_live_page(&scene, &driver).await?;
        open_many_windows(&scene, &driver).await?;
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
        person.follow("Webhooks").await?;
        person.follow("127.0.0.1").await?;
        person.press("Make a new secret").await?;
        assert_eq!((person.count("#secret").await?, person.count("#secret + button").await?), (1, 0), "scripts are blocked");
        Ok(scene)
    };
    let scene = Chromium::start().await.run_with(Scripts::Blocked, visit).await;
    scene.server.stop().await;
    drop(scene.home);
}

/// Leaves a page open that is told of changes.
async fn person_at_live_page(scene: &Scene, driver: &WebDriver) -> WebDriverResult<()> {
    let person = scene.person(driver);
    person.follow("Webhooks").await?;
    person.waits_for("word of changes", async || Ok(asked(driver).await? > 0)).await;
    Ok(())
}

/// However many windows are open, pages are answered in each; and the one that is looked at again is told of changes again.
async fn open_many_windows(scene: &Scene, driver: &WebDriver) -> WebDriverResult<()> {
    let (first, path) = (driver.window().await?, driver.current_url().await?.path().to_owned());
    for _ in 0..WINDOWS {
        let window = driver.new_tab().await?;
        driver.switch_to_window(window).await?;
        to_front(driver).await?;
        let opened = timeout(PAGE_TIME, scene.person(driver).open(&path)).await;
        opened.expect("a page in one more window")?;
    }
    driver.switch_to_window(first).await?;
    let before = asked(driver).await?;
    to_front(driver).await?;
    scene.person(driver).waits_for("word of changes", async || Ok(asked(driver).await? > before)).await;
    Ok(())
}

async fn to_front(driver: &WebDriver) -> WebDriverResult<()> {
    driver.cdp().send_raw("Page.bringToFront", json!({})).await.map(drop)
}

async fn asked(driver: &WebDriver) -> WebDriverResult<u32> {
    driver.execute(ASKED, Vec::new()).await?.convert()
}

/// What is shown once is copied with a button, and can be pasted.
async fn copy_the_secret(person: &Person<'_>) -> WebDriverResult<()> {
    person.follow("Webhooks").await?;
    person.follow("127.0.0.1").await?;
    person.press("Make a new secret").await?;
    let secret = person.value_of("secret").await?;
    person.click("Copy").await?;
    person.sees("Copied").await;
    person.follow("Edit").await?;
    person.paste("name").await?;
    assert!(secret.starts_with("whsec_"), "{secret}");
    assert_eq!(person.value_of("name").await?, secret);
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
    let text = person.text_of("deliveries").await?;
    assert!(!["T0", "T1", "T2"].iter().any(|hour| text.contains(hour)), "times are those of the reader: {text}");

    // Dead letters, with what can be done with them, come by themselves. One is chosen and sent again, then the rest.
    person.choose("status", "failed").await?;
    person.press("Filter").await?;
    person.sees("There is nothing here.").await;
    scene.receiver.behave(400);
    for visitor in 8..11 {
        scene.event(visitor, "Signup").await;
        scene.receiver.next().await;
    }
    person.waits_for("three dead letters", async || Ok(person.count("#deliveries .pill.failed").await? == 3)).await;
    scene.receiver.behave(200);
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

/// The id of something that the API shows.
fn id_of(shown: &Value) -> &str {
    shown["id"].as_str().expect("an id")
}
