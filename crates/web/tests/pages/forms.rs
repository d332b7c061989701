//! Forms for what there is already, which hold the whole of it, so that a field that was cleared is not one that stays; and what a
//! webhook's form shows beside its fields.

use std::time::Duration;

use bellwether_domain::history::{Gaps, Minute, minute_of};
use serde_json::{Value, json};

use crate::support::{Browser, NOWHERE, Server};

#[tokio::test]
async fn a_site_loses_its_name_and_nothing_else_that_was_cleared() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let path = format!("/sites/{}", server.add_site("example.com").await);
    let whole = [("domain", "example.com"), ("name", "Shop"), ("timezone", "Europe/Berlin")];
    browser.post(&path, &whole).await;
    let shown = async || server.get(&format!("/api{path}")).await["site"].clone();
    let before = shown().await;
    for (field, sentence) in [("domain", "Domain is required."), ("timezone", "Time zone is required.")] {
        let page = browser.post(&path, &without(&whole, field)).await;
        let html = page.html(422);
        assert!(html.contains(sentence) && html.contains(r#"value="Shop""#), "{html}");
        assert_eq!(shown().await, before, "{field}");
    }
    browser.post(&path, &without(&whole, "name")).await;
    assert_eq!(shown().await["name"], "example.com");
}

#[tokio::test]
async fn a_webhook_loses_its_name_and_no_url_that_was_cleared() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let site = server.add_site("example.com").await;
    let api = server.add_webhook(&site, &json!(["goal_completion"])).await;
    let path = api.strip_prefix("/api").expect("a path").to_owned();
    let whole = [("url", NOWHERE), ("name", "Shop"), ("triggers-0-type", "webhook_disabled")];
    let edit = format!("{path}/edit");
    browser.post(&edit, &whole).await.sent_to(&path);
    let shown = async || server.get(&api).await["webhook"].clone();
    let before = shown().await;
    assert_eq!((&before["name"], &before["triggers"][0]["type"]), (&json!("Shop"), &json!("webhook_disabled")));
    let page = browser.post(&edit, &without(&whole, "url")).await;
    assert!(page.html(422).contains(r#"id="url-error">URL is required."#), "{}", page.text());
    assert_eq!(shown().await, before);
    browser.post(&edit, &without(&whole, "name")).await.sent_to(&path);
    assert_eq!(shown().await["name"], "nowhere.example");
    browser.post(&edit, &whole[..2]).await.sent_to(&path);
    assert_eq!(shown().await["triggers"], Value::Array(Vec::new()));
}

#[tokio::test]
async fn a_goal_that_was_deleted_meanwhile_does_not_become_any_goal() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let site = server.add_site("example.com").await;
    let goal = server.add_goal(&site, "Signup").await;
    server.delete(&format!("/api/sites/{site}/goals/{goal}")).await;
    let form =
        [("url", NOWHERE), ("triggers-0-type", "goal_completion"), ("triggers-0-goal_id", &*goal), ("triggers-0-threshold", "1")];
    let page = browser.post(&format!("/sites/{site}/webhooks"), &form).await;
    let html = page.html(422);
    assert!(html.contains(&format!(r#"<option value="{goal}" selected>a goal that is gone</option>"#)), "{html}");
    assert!(html.contains("Goal must be the id of a goal of the site."), "{html}");
}

#[tokio::test]
async fn a_trial_knows_of_what_fired_before_the_days_that_it_shows() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let site = server.add_site("example.com").await;
    server.clock.advance(Duration::from_secs(9 * 86_400));
    let now = minute_of(server.engine.ambient().now().second());
    let many = |minute| Minute { minute, visitors: visitors(20), ..Minute::default() };
    let minutes = [now - 7 * 1_440 - 30, now - 60].map(|minute| (site.parse().expect("an id"), many(minute)));
    server.engine.store().add_minutes(minutes.into()).await.expect("minutes");
    let preview = async |window: &str, cooldown: &str| {
        let form = [
            ("triggers-0-type", "visitor_spike"),
            ("triggers-0-unit", "visitors"),
            ("triggers-0-threshold", "20"),
            ("triggers-0-window_seconds", window),
            ("triggers-0-cooldown_seconds", cooldown),
            ("preview", "yes"),
        ];
        browser.post(&format!("/sites/{site}/webhooks"), &form).await.html(200).to_owned()
    };
    assert!(preview("60", "3600").await.contains("It would have fired once."));
    assert!(preview("60", "604800").await.contains("It would not have fired."), "it was silent still");
    const NOTE: &str = "counted once more here for each return";
    assert!(!preview("1800", "0").await.contains(NOTE) && preview("1801", "0").await.contains(NOTE));
}

#[tokio::test]
async fn a_milestone_is_added_said_in_words_and_saved() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let site = server.add_site("example.com").await;
    let now = minute_of(server.engine.ambient().now().second());
    let minute = Minute { minute: now, pageviews: 12, ..Minute::default() };
    server.engine.store().add_minutes(vec![(site.parse().expect("an id"), minute)]).await.expect("minutes");
    let path = format!("/sites/{site}/webhooks");
    let added = browser.post(&path, &[("url", NOWHERE), ("add", "pageview_milestone")]).await.html(200).to_owned();
    for part in [
        "Fires once, when there have been 10000 pageviews in all.",
        r#"id="triggers-0-threshold" name="triggers-0-threshold" inputmode="numeric" value="10000""#,
        r#"<option value="total" selected>all that there ever were</option>"#,
        r#"id="triggers-0-page" name="triggers-0-page" inputmode="text" value="""#,
        r#"<option value="false" selected>are not told</option>"#,
        "at most 12 pageviews in all. It would not have fired.",
    ] {
        assert!(added.contains(part), "{part}: {added}");
    }
    let form = |threshold, page| {
        [
            ("url", NOWHERE),
            ("triggers-0-type", "pageview_milestone"),
            ("triggers-0-threshold", threshold),
            ("triggers-0-period", "total"),
            ("triggers-0-page", page),
            ("triggers-0-repeat", "false"),
        ]
    };
    let preview = [&form("10", "")[..], &[("preview", "yes")]].concat();
    let passed = browser.post(&path, &preview).await.html(200).to_owned();
    assert!(passed.contains("That is reached by now: saved now, it never fires."), "{passed}");
    let refused = browser.post(&path, &form("many", "/blog/*")).await.html(422).to_owned();
    assert!(refused.contains("Pageviews must be a whole number from 1 to 1000000000."), "{refused}");
    assert!(refused.contains(r#"value="/blog/*""#), "{refused}");
    browser.post(&path, &form("500", "/blog/*")).await;
    let saved = server.get(&format!("/api{path}")).await["webhooks"][0]["triggers"][0].clone();
    assert_eq!((&saved["threshold"], &saved["page"], &saved["repeat"]), (&json!(500), &json!("/blog/*"), &json!(false)));
}

fn visitors(number: u32) -> Gaps {
    let mut visitors = Gaps::default();
    visitors[0] = number;
    visitors
}

/// A form with a field that was cleared.
fn without<'a>(whole: &[(&'a str, &'a str)], cleared: &str) -> Vec<(&'a str, &'a str)> {
    whole.iter().map(|(name, value)| (*name, if *name == cleared { "" } else { value })).collect()
}

#[tokio::test]
async fn a_scroll_depth_that_is_no_depth_makes_no_goal() {
    let server = Server::start().await;
    let (owner, id) = (Browser::of_owner(&server).await, server.add_site("example.com").await);
    for depth in ["", "-1", "101", "deep"] {
        let form = [("kind", "scroll"), ("page_path", "/blog"), ("scroll_threshold", depth)];
        let page = owner.post(&format!("/sites/{id}/goals"), &form).await;
        let html = page.html(422);
        assert!(html.contains("Scroll depth in percent must be"), "{depth}: {html}");
        // The Enter that sent a form would reach the field, and send it again.
        assert!(!html.contains("autofocus"), "{html}");
    }
    assert!(owner.get(&format!("/sites/{id}/goals")).await.html(200).contains("No goal yet"));
}

#[tokio::test]
async fn triggers_are_added_and_removed_whatever_stands_in_the_other_fields() {
    let server = Server::start().await;
    let (owner, id) = (Browser::of_owner(&server).await, server.add_site("example.com").await);
    let html = owner.get(&format!("/sites/{id}/webhooks/new")).await.html(200).to_owned();
    for button in ["<button name=\"add\" formnovalidate", "<button name=\"remove\" formnovalidate"] {
        assert!(html.contains(button), "{button}: {html}");
    }
}

#[tokio::test]
async fn the_form_says_of_new_sources_what_it_can() {
    let server = Server::start().await;
    let (owner, id) = (Browser::of_owner(&server).await, server.add_site("example.com").await);
    let path = format!("/sites/{id}/webhooks");
    let typed = [("url", NOWHERE), ("triggers-0-type", "new_source"), ("triggers-0-min_visitors", "0"), ("add", "new_source")];
    let page = owner.post(&path, &typed).await;
    let html = page.html(200);
    for part in [
        "<legend>New source</legend>",
        r#"name="triggers-1-min_visitors" inputmode="numeric" value="10""#,
        r#"name="triggers-1-window_seconds" inputmode="numeric" value="3600""#,
        "Something is not right in the fields below.",
        "Fires when a source that this site has not seen for 30 days brings at least 10 visitors within 1 hour.",
        "There is not enough history yet: before it is known of 30 days which sources this site has seen it does not fire.",
        "the history of traffic does not tell where visitors came from",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("Show what it would have done"), "{html}");
    let refused = owner.post(&path, &typed[..3]).await;
    assert!(refused.html(422).contains("Visitors must be a whole number from 1 to 10000."));

    for _ in 0..30 {
        server.clock.advance(Duration::from_secs(86_400));
        server.engine.store_history(u32::MAX).await.expect("notes");
    }
    let owner = Browser::of_owner(&server).await;
    let page = owner.post(&path, &[("add", "new_source")]).await;
    let html = page.html(200);
    assert!(html.contains("What it would have done cannot be shown") && !html.contains("not enough history"), "{html}");
    let saved = [
        ("url", NOWHERE),
        ("triggers-0-type", "new_source"),
        ("triggers-0-min_visitors", "3"),
        ("triggers-0-window_seconds", "60"),
    ];
    owner.post(&path, &saved).await;
    let webhooks = server.get(&format!("/api/sites/{id}/webhooks")).await;
    let trigger = &webhooks["webhooks"][0]["triggers"][0];
    assert_eq!(
        (&trigger["type"], &trigger["min_visitors"], &trigger["window_seconds"]),
        (&json!("new_source"), &json!(3), &json!(60))
    );
}

#[tokio::test]
async fn whoever_adds_a_site_is_led_back_to_the_form_below_the_others() {
    let server = Server::start().await;
    let (owner, _) = (Browser::of_owner(&server).await, server.add_site("example.com").await);
    let page = owner.post("/sites", &[("domain", "<b>")]).await;
    let html = page.html(422);
    for part in [r##"href="#add""##, r#"id="add""#, r##"action="/sites#add""##] {
        assert!(html.contains(part), "{part}: {html}");
    }
}
