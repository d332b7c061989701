//! Every page that there is, looked at in every way: whether everybody can use it, in light, in dark and on a phone.

use std::fs;
use std::path::PathBuf;

use axum::http::Method;
use serde_json::{Value, json};
use thirtyfour::WebDriver;
use thirtyfour::error::WebDriverResult;

use super::person::Person;
use super::{Scene, id_of, make_the_first_account};
use crate::browser::chromium::Chromium;
use crate::support::SITE;

/// Where pictures of all pages are to be written, if they are.
const SCREENSHOTS: &str = "BELLWETHER_SCREENSHOTS";
/// How a page may be looked at: a name, the scheme of colours, and the width in pixels.
pub(super) const LOOKS: [(&str, &str, u32); 3] = [("light", "light", 1_280), ("dark", "dark", 1_280), ("phone", "light", 390)];
/// Where all pages are listed.
const ROUTES: &str = include_str!("../../../../../web/src/pages.rs");
/// What answers GET with something that nobody looks at: a way on, word of changes, and what pages load.
const NO_PAGES: [&str; 3] = ["/", "/sites/{site_id}/live", "/assets/{name}"];
/// So many deliveries of a slow webhook are lost that sending them again takes a while.
const LOST: u64 = 40;

#[tokio::test]
async fn every_page_can_be_used_by_everybody_in_light_in_dark_and_on_a_phone() {
    let mut scene = Scene::set().await;
    let visit = |driver: WebDriver| async move {
        let mut person = scene.person(&driver);
        person.screenshots = std::env::var_os(SCREENSHOTS).map(PathBuf::from);
        if let Some(folder) = &person.screenshots {
            fs::create_dir_all(folder).expect("a folder for the pictures");
        }
        beginnings(&scene, &person).await?;
        let invitation = what_is_shown_once(&scene, &person).await?;
        what_has_happened(&mut scene, &person).await?;
        a_running_replay(&scene, &person).await?;
        person.check(&[("invitation-signed-in", invitation.clone())]).await?;
        person.open("/account").await?;
        person.press("Sign out").await?;
        person.check(&[("sign-in", "/sign-in".to_owned()), ("invitation", invitation)]).await?;
        assert_eq!(not_looked_at(&person.looked_at.borrow()), Vec::<&str>::new());
        Ok(scene)
    };
    let scene = Chromium::start().await.run(visit).await;
    scene.server.stop().await;
    drop(scene.home);
}

/// Pages before there is anything, and one whose form is refused.
async fn beginnings(scene: &Scene, person: &Person<'_>) -> WebDriverResult<()> {
    person.check(&[("setup", scene.setup.clone()), ("setup-closed", "/setup".to_owned())]).await?;
    make_the_first_account(scene, person).await?;
    person.check_shown("sites-empty").await?;
    person.fill("domain", SITE).await?;
    person.press("Add the site").await?;
    person.follow("Goals").await?;
    person.check_shown("goals-empty").await?;
    person.follow("Add a scroll depth").await?;
    person.check_shown("goals-add").await?;
    person.follow("Webhooks").await?;
    person.check_shown("webhooks-empty").await?;
    person.follow("Add a webhook").await?;
    person.fill("url", "ftp://example.com").await?;
    person.press("Add: Visitor spike").await?;
    person.fill("triggers-1-threshold", "many").await?;
    person.press("Add the webhook").await?;
    assert_eq!(person.count(".error").await?, 2);
    person.check_shown("webhook-refused").await?;
    person.choose("payload", "own").await?;
    person.waits_for("a place for the template", async || Ok(person.count("#template-body").await? == 1)).await;
    person.fill("template-body", "{{ parameters.token }} {{ message.text | round }}").await?;
    person.sees("This would fail").await;
    person.check_shown("webhook-template").await
}

/// Pages as they are seen after a form and not again. Answers the path of an invitation.
async fn what_is_shown_once(scene: &Scene, person: &Person<'_>) -> WebDriverResult<String> {
    person.follow("Webhooks").await?;
    person.follow("Add a webhook").await?;
    person.fill("url", &scene.receiver.url()).await?;
    person.fill("name", "Shop").await?;
    person.press("Add the webhook").await?;
    person.sees("It is shown only now").await;
    person.check_shown("webhook-secret").await?;
    person.press("Send a test").await?;
    person.sees("See all of it").await;
    person.check_shown("webhook-test").await?;
    person.follow("People").await?;
    person.press("Make a link").await?;
    person.sees("Open links").await;
    person.check_shown("people-link").await?;
    let link = person.value_of("link").await?;
    Ok(link.split_once(&scene.server.address.to_string()).expect("a link to here").1.to_owned())
}

/// Pages of a site on which something has happened.
async fn what_has_happened(scene: &mut Scene, person: &Person<'_>) -> WebDriverResult<()> {
    scene.receiver.so_far();
    scene.client.create(&format!("/sites/{SITE}/goals"), json!({"event_name": "Signup"})).await;
    scene.client.create(&format!("/sites/{SITE}/goals"), json!({"page_path": "/thanks"})).await;
    scene.receiver.behave_next([200, 400]);
    for visitor in 1..=2 {
        scene.event(visitor, "Signup").await;
        scene.receiver.next().await;
    }
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 2});
    let triggers = json!([spike, "webhook_disabled", "new_source"]);
    let hook = json!({"url": scene.receiver.url(), "name": "Alarm", "enabled": false, "triggers": triggers});
    scene.client.create_webhook(hook).await;
    let (shop, alarm) = (scene.webhook("Shop").await, scene.webhook("Alarm").await);
    scene.client.settled(&shop).await;
    let deliveries = scene.client.get(&format!("/sites/{SITE}/webhooks/{}/deliveries", id_of(&shop))).await;
    let of_site = |path: &str| format!("/sites/{}{path}", shop["site_id"].as_str().expect("an id"));
    let of_webhook = |webhook: &Value, path: &str| of_site(&format!("/webhooks/{}{path}", id_of(webhook)));
    let pages = [
        ("sites", "/sites".to_owned()),
        ("account", "/account".to_owned()),
        ("api", "/docs/api".to_owned()),
        ("site", of_site("")),
        ("goals", of_site("/goals")),
        ("people", of_site("/people")),
        ("webhooks", of_site("/webhooks")),
        ("webhook", of_webhook(&shop, "")),
        ("webhook-add", of_site("/webhooks/new")),
        ("webhook-edit", of_webhook(&alarm, "/edit")),
        ("deliveries", of_webhook(&shop, "/deliveries")),
        ("deliveries-empty", of_webhook(&alarm, "/deliveries")),
        ("dead-letters", of_webhook(&shop, "/deliveries?status=failed")),
        ("delivery", of_webhook(&shop, &format!("/deliveries/{}", id_of(&deliveries["deliveries"][0])))),
        ("not-found", "/nowhere".to_owned()),
        ("not-allowed", of_webhook(&shop, "/test")),
    ];
    person.check(&pages).await
}

/// What a slow webhook lost is on its way again, until that is stopped.
async fn a_running_replay(scene: &Scene, person: &Person<'_>) -> WebDriverResult<()> {
    let hook = json!({"url": scene.receiver.url(), "name": "Slow", "rate_limit_per_second": 1, "triggers": ["goal_completion"]});
    let slow = scene.client.create_webhook(hook).await;
    for _ in 0..LOST {
        scene.event(3, "Signup").await;
    }
    let path = format!("/sites/{SITE}/webhooks/{}", id_of(&slow));
    for enabled in [false, true] {
        scene.client.ask(Method::PATCH, &path, Some(json!({"enabled": enabled})), axum::http::StatusCode::OK).await;
        scene.client.settled(&slow).await;
    }
    assert!(scene.client.count(&slow, "cancelled").await > LOST / 2);
    person.open(&format!("{path}/deliveries?status=cancelled")).await?;
    person.press("Send all of them again").await?;
    person.sees(" of ").await;
    person.check_shown("replay").await?;
    person.press("Stop").await?;
    assert_eq!(person.count("progress").await?, 0, "it was stopped");
    assert!(scene.client.count(&slow, "cancelled").await > 0, "before it was done");
    Ok(())
}

/// The pages that are found with GET and were not looked at.
fn not_looked_at(paths: &[String]) -> Vec<&'static str> {
    let routes = ROUTES.split(".route(\"").skip(1).filter_map(|rest| rest.lines().next()?.split_once("\", "));
    let pages = routes.filter(|(route, handlers)| handlers.contains("get(") && !NO_PAGES.contains(route));
    pages.map(|(route, _)| route).filter(|route| !paths.iter().any(|path| is_of(path, route))).collect()
}

/// Whether a path is one of a route: a parameter stands for one of its parts, unless that has a page of its own.
fn is_of(path: &str, route: &str) -> bool {
    let (parts, pattern) = (path.split('/'), route.split('/'));
    let fits = |(part, pattern): (&str, &str)| part == pattern || pattern.starts_with('{') && part != "new";
    parts.clone().count() == pattern.clone().count() && parts.zip(pattern).all(fits)
}
