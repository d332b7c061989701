//! The pages of people: sites, who has a part in them, and who may use which page.

mod accounts;
mod forms;
mod history;
mod once;
mod samples;
mod sites;
mod templates;

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use bellwether_domain::delivery::Status;
use bellwether_domain::id::{DeliveryId, ReplayId};
use bellwether_domain::time::Timestamp;
use bellwether_store::{Replay, ReplayFilter};
use serde_json::json;

use crate::support::{Browser, NOWHERE, OWNER, PASSWORD, Past, Server, fill};

/// Where the pages are written down.
const SOURCE: &str = include_str!("../src/pages.rs");

/// A person's page, and who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    Everybody,
    SignedIn,
    Owner,
    Viewer,
    Admin,
}

/// Every page there is: method, path, whose it is, and a form with which it succeeds.
const PAGES: [(&str, &str, For, &str); 43] = [
    ("GET", "/", For::Everybody, ""),
    ("GET", "/setup", For::Everybody, ""),
    ("GET", "/sign-in", For::Everybody, ""),
    ("GET", "/assets/{name}", For::Everybody, ""),
    ("GET", "/docs/api", For::Everybody, ""),
    ("POST", "/sign-out", For::SignedIn, ""),
    ("GET", "/account", For::SignedIn, ""),
    ("POST", "/account/password", For::SignedIn, "old_password=purple-otters-juggle-7&password=green-badgers-whistle-9"),
    ("POST", "/account/sessions/{session_id}/delete", For::SignedIn, ""),
    ("GET", "/sites", For::SignedIn, ""),
    ("POST", "/sites", For::Owner, "domain=new-{unique}.example"),
    ("GET", "/sites/{site_id}", For::Viewer, ""),
    ("POST", "/sites/{site_id}", For::Admin, "domain=renamed-{unique}.example&name=Renamed&timezone=UTC"),
    ("POST", "/sites/{site_id}/delete", For::Admin, ""),
    ("GET", "/sites/{site_id}/live", For::Viewer, ""),
    ("GET", "/sites/{site_id}/goals", For::Viewer, ""),
    ("POST", "/sites/{site_id}/goals", For::Admin, "kind=event&event_name=Order"),
    ("POST", "/sites/{site_id}/goals/{goal_id}/delete", For::Admin, ""),
    ("GET", "/sites/{site_id}/webhooks", For::Viewer, ""),
    ("POST", "/sites/{site_id}/webhooks", For::Admin, "url=https%3A%2F%2Fnowhere.example%2Fx"),
    ("GET", "/sites/{site_id}/webhooks/new", For::Admin, ""),
    ("GET", "/sites/{site_id}/webhooks/{webhook_id}", For::Viewer, ""),
    ("GET", "/sites/{site_id}/webhooks/{webhook_id}/edit", For::Admin, ""),
    ("POST", "/sites/{site_id}/webhooks/{webhook_id}/edit", For::Admin, "url=https%3A%2F%2Fnowhere.example%2Fx&name=Another"),
    ("POST", "/sites/{site_id}/webhooks/{webhook_id}/enabled", For::Admin, "enabled=false"),
    ("POST", "/sites/{site_id}/webhooks/{webhook_id}/test", For::Admin, ""),
    ("POST", "/sites/{site_id}/webhooks/{webhook_id}/secret", For::Admin, "grace_seconds=0"),
    ("POST", "/sites/{site_id}/webhooks/{webhook_id}/delete", For::Admin, ""),
    ("GET", "/sites/{site_id}/webhooks/{webhook_id}/deliveries", For::Viewer, ""),
    ("GET", "/sites/{site_id}/webhooks/{webhook_id}/deliveries/{delivery_id}", For::Viewer, ""),
    ("POST", "/sites/{site_id}/webhooks/{webhook_id}/deliveries/{delivery_id}/resend", For::Admin, ""),
    // Before any replay is asked for by a form: nobody goes on with this one.
    ("POST", "/sites/{site_id}/webhooks/{webhook_id}/replays/{replay_id}/delete", For::Admin, ""),
    ("POST", "/sites/{site_id}/webhooks/{webhook_id}/replay", For::Admin, "status=failed&all=yes"),
    ("GET", "/sites/{site_id}/people", For::Viewer, ""),
    ("POST", "/sites/{site_id}/people", For::Admin, "role=viewer"),
    ("POST", "/sites/{site_id}/people/{user_id}", For::Admin, "role=admin"),
    ("POST", "/sites/{site_id}/people/{user_id}/delete", For::Admin, ""),
    ("POST", "/sites/{site_id}/invitations/{invitation_id}/delete", For::Admin, ""),
    ("GET", "/invitations/{token}", For::Everybody, ""),
    // What these need is no part in a site, and is tried by itself below.
    ("POST", "/setup", For::Everybody, ""),
    ("POST", "/sign-in", For::Everybody, ""),
    ("POST", "/invitations/{token}", For::Everybody, ""),
    ("GET", "/nowhere", For::Everybody, ""),
];

async fn site(server: &Server) -> String {
    server.add_site("example.com").await
}

#[tokio::test]
async fn only_our_own_pages_change_anything() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let id = site(&server).await;
    for from in ["cross-site", "same-site"] {
        browser.post_from(from, &format!("/sites/{id}/delete"), &[]).await.html(403);
        browser.post_from(from, "/sites", &[("domain", "evil.example")]).await.html(403);
        browser.post_from(from, "/sign-out", &[]).await.html(403);
        browser.post_from(from, "/sign-in", &[("email", OWNER), ("password", PASSWORD)]).await.html(403);
    }
    let api = |from: &'static str| {
        let request = Request::post("/api/sites").header("content-type", "application/json").header("sec-fetch-site", from);
        browser.send(request, Body::from(r#"{"domain": "api.example"}"#))
    };
    api("cross-site").await.problem(403);
    api("same-origin").await.json(201);
    let sites = server.get("/api/sites").await;
    let domains: Vec<_> = sites["sites"].as_array().expect("sites").iter().map(|site| site["domain"].clone()).collect();
    assert_eq!(domains, [json!("api.example"), json!("example.com")]);
    browser.get("/account").await.html(200);
}

#[tokio::test]
async fn sites_are_added_changed_and_deleted() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    assert!(browser.get("/sites").await.html(200).contains("No site yet"));
    let refused = browser.post("/sites", &[("domain", ""), ("name", "Kept")]).await;
    let html = refused.html(422);
    assert!(html.contains("Domain is required.") && html.contains(r#"value="Kept""#), "{html}");
    let made = browser.post("/sites", &[("domain", "https://www.Example.com/"), ("name", "<script>alert(1)</script>")]).await;
    let path = made.header("location").expect("a place to go").to_owned();
    let html = browser.get(&path).await.html(200).to_owned();
    assert!(html.contains("No event lately") && html.contains("endpoint: 'http://127.0.0.1:8090/api/event'"), "{html}");
    let list = browser.get("/sites").await.html(200).to_owned();
    assert!(list.contains("&#60;script&#62;alert(1)") && !list.contains("<script>alert"), "{list}");
    let twice = browser.post("/sites", &[("domain", "example.com")]).await;
    assert!(twice.html(422).contains("there is a site with this domain already"));
    let refused = browser.post(&path, &[("domain", "example.com"), ("name", "New"), ("timezone", "Mars")]).await;
    assert!(refused.html(422).contains("Time zone must be a time zone like Europe/Berlin."));
    let changed = browser.submit(&path, &[("domain", "example.org"), ("name", "New"), ("timezone", "Europe/Berlin")]).await;
    assert!(changed.html(200).contains("The site was changed.") && changed.text().contains(r#"value="example.org""#));
    browser.post(&format!("{path}/delete"), &[]).await.sent_to("/sites");
    browser.get(&path).await.html(404);
}

#[tokio::test]
async fn people_are_invited_once_and_do_what_their_role_allows() {
    let server = Server::start().await;
    let owner = Browser::of_owner(&server).await;
    let (id, other) = (site(&server).await, server.add_site("other.example").await);
    let link = owner.invite(&id, "viewer").await;
    let viewer = Browser::new(&server);
    assert!(viewer.get(&link).await.html(200).contains("You are invited as viewer."));
    let taken = viewer.post(&link, &[("email", OWNER), ("password", PASSWORD)]).await;
    assert!(taken.html(422).contains("has an account already"));
    viewer.post(&link, &[("email", "v@example.com"), ("password", PASSWORD)]).await.sent_to(&format!("/sites/{id}"));
    Browser::new(&server).get(&link).await.html(404);
    Browser::new(&server).post(&link, &[("email", "w@example.com"), ("password", PASSWORD)]).await.html(404);

    let list = viewer.get("/sites").await.html(200).to_owned();
    assert!(list.contains("example.com") && !list.contains("other.example") && !list.contains("Add a site"), "{list}");
    viewer.get(&format!("/sites/{other}")).await.html(404);
    viewer.post(&format!("/sites/{id}/delete"), &[]).await.html(403);
    assert!(!viewer.get(&format!("/sites/{id}/people")).await.html(200).contains("Make a link"));

    // Somebody who has an account joins with it. Who may do as much already leaves the link to others.
    let link = owner.invite(&other, "admin").await;
    assert!(owner.post(&link, &[]).await.html(422).contains("the link is still good for somebody else"));
    viewer.post(&link, &[]).await.sent_to(&format!("/sites/{other}"));
    let link = owner.invite(&other, "viewer").await;
    assert!(viewer.post(&link, &[]).await.html(422).contains("you may do as much here already"));
    viewer.get(&link).await.html(200);
    viewer.get(&format!("/sites/{other}/people")).await.html(200);
    let html = owner.get(&format!("/sites/{id}/people")).await.html(200).to_owned();
    assert!(html.contains("v@example.com"));
    let member = html.split(&format!("/sites/{id}/people/")).nth(1).and_then(|rest| rest.split('"').next()).expect("a member");
    owner.post(&format!("/sites/{id}/people/{member}"), &[("role", "admin")]).await.sent_to(&format!("/sites/{id}/people"));
    assert!(viewer.get(&format!("/sites/{id}/people")).await.html(200).contains("Make a link"));
    owner.post(&format!("/sites/{id}/people/{member}/delete"), &[]).await.sent_to(&format!("/sites/{id}/people"));
    viewer.get(&format!("/sites/{id}")).await.html(404);
}

#[tokio::test]
async fn an_invitation_ends_and_can_be_taken_back() {
    let server = Server::start().await;
    let owner = Browser::of_owner(&server).await;
    let id = site(&server).await;
    let (old, taken_back) = (owner.invite(&id, "admin").await, owner.invite(&id, "viewer").await);
    let html = owner.get(&format!("/sites/{id}/people")).await.html(200).to_owned();
    let paths: Vec<_> = html.split("action=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let path = paths.iter().rfind(|path| path.contains("/invitations/")).expect("an invitation");
    owner.post(path, &[]).await.sent_to(&format!("/sites/{id}/people"));
    let left = [old, taken_back];
    let mut open = 0;
    for link in &left {
        open += usize::from(Browser::new(&server).get(link).await.status == 200);
    }
    assert_eq!(open, 1);
    server.clock.advance(Duration::from_secs(7 * 86_400));
    for link in &left {
        Browser::new(&server).get(link).await.html(404);
    }
    assert!(!Browser::of_owner(&server).await.get(&format!("/sites/{id}/people")).await.html(200).contains("Open links"));
}

#[tokio::test]
async fn every_page_lets_in_whom_it_should_and_nobody_else() {
    let server = Server::start().await;
    let owner = Browser::of_owner(&server).await;
    let elsewhere = server.add_site("elsewhere.example").await;
    let mut people = vec![(Somebody::Nobody, Browser::new(&server)), (Somebody::Owner, Browser::of_owner(&server).await)];
    for (somebody, email) in
        [(Somebody::AdminOfAnother, "a@example.com"), (Somebody::Viewer, "v@example.com"), (Somebody::Admin, "b@example.com")]
    {
        people.push((somebody, Browser::of_member(&server, &owner, &elsewhere, email, "admin").await));
    }
    for (number, (method, path, whose, form)) in PAGES.into_iter().enumerate() {
        if method == "POST" && whose == For::Everybody || path == "/nowhere" {
            continue;
        }
        for (somebody, browser) in &people {
            let id = server.add_site(&format!("{number}-{somebody:?}.example")).await;
            let role = match somebody {
                Somebody::Viewer => Some("viewer"),
                Somebody::Admin => Some("admin"),
                _ => None,
            };
            if let Some(role) = role {
                browser.post(&owner.invite(&id, role).await, &[]).await.sent_to(&format!("/sites/{id}"));
            }
            let path = concrete(&server, &owner, &id, path).await;
            let form = form.replace("{unique}", &format!("{number}-{somebody:?}").to_lowercase());
            let fields: Vec<_> = form_urlencoded::parse(form.as_bytes()).into_owned().collect();
            let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let ends_session = matches!(path.as_str(), "/sign-out" | "/account/password");
            let last_cookie = browser.cookie();
            let answer = match method {
                "GET" => browser.get(&path).await,
                _ => browser.post(&path, &fields).await,
            };
            let (status, what) = (answer.status.as_u16(), format!("{method} {path} as {somebody:?}: {}", answer.text()));
            match refusal(whose, *somebody) {
                Some(303) => assert!(answer.header("location").is_some_and(|to| to.starts_with("/sign-in")), "{what}"),
                Some(refused) => assert_eq!(status, refused, "{what}"),
                None if path.starts_with("/account/sessions/") => assert_eq!(status, 404, "{what}"),
                None if path == "/sign-out" => assert_eq!(answer.header("location"), Some("/sign-in"), "{what}"),
                None if whose == For::Everybody => assert!(matches!(status, 200 | 303), "{what}"),
                None if method == "GET" => assert_eq!(status, 200, "{what}"),
                None => assert!(status == 303 && answer.header("location") != Some("/sign-in"), "{what}"),
            }
            if ends_session && last_cookie.is_some() {
                let (email, password) = somebody.credentials(&path);
                browser.sign_in(email, password).await.sent_to("/sites");
                if path == "/account/password" {
                    let back = [("old_password", password), ("password", PASSWORD)];
                    browser.post(&path, &back).await.sent_to("/account?changed");
                }
                owner.sign_in(OWNER, PASSWORD).await.sent_to("/sites");
            }
        }
    }
}

/// Somebody who asks for a page of a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Somebody {
    Nobody,
    AdminOfAnother,
    Viewer,
    Admin,
    Owner,
}

impl Somebody {
    /// With which they sign in again, after they have used this path.
    fn credentials(self, path: &str) -> (&'static str, &'static str) {
        let password = if path == "/account/password" { "green-badgers-whistle-9" } else { PASSWORD };
        let email = match self {
            Self::AdminOfAnother => "a@example.com",
            Self::Viewer => "v@example.com",
            Self::Admin => "b@example.com",
            Self::Nobody | Self::Owner => OWNER,
        };
        (email, password)
    }
}

/// The status with which somebody is refused a page, 303 where they are asked to sign in; none if they are not.
fn refusal(whose: For, somebody: Somebody) -> Option<u16> {
    match (whose, somebody) {
        (For::Everybody, _) => None,
        (_, Somebody::Nobody) => Some(303),
        (For::SignedIn, _) | (_, Somebody::Owner) => None,
        (For::Owner, _) => Some(403),
        (_, Somebody::AdminOfAnother) => Some(404),
        (For::Admin, Somebody::Viewer) => Some(403),
        (For::Viewer | For::Admin, _) => None,
    }
}

/// A path with something that is there in the place of its parameters.
async fn concrete(server: &Server, owner: &Browser<'_>, site_id: &str, path: &str) -> String {
    let people = format!("/sites/{site_id}/people");
    let first =
        |html: &str, before: &str| html.split(before).nth(1).and_then(|rest| rest.split(['"', '/']).next()).map(str::to_owned);
    let (mut user, mut invitation, mut session, mut token) = Default::default();
    if path.contains("{user_id}") {
        let email = format!("{}@example.com", server.engine.ambient().bytes::<4>().map(|byte| byte.to_string()).concat());
        Browser::of_member(server, owner, site_id, &email, "viewer").await;
        let html = owner.get(&people).await.html(200).to_owned();
        let row = html.split(&email).nth(1).expect("the member").to_owned();
        user = first(&row, &format!("{people}/"));
    }
    if path.contains("{invitation_id}") {
        owner.invite(site_id, "viewer").await;
        invitation = first(owner.get(&people).await.html(200), &format!("/sites/{site_id}/invitations/"));
    }
    if path.contains("{token}") {
        token = owner.invite(site_id, "viewer").await.rsplit('/').next().map(str::to_owned);
    }
    let subject = match path.contains("{goal_id}") || path.contains("{webhook_id}") {
        true => Some(Subject::of(server, site_id).await),
        false => None,
    };
    let subject = subject.as_ref();
    if path.contains("{session_id}") {
        session = Some("0198c0de-0000-7000-8000-000000000000".to_owned());
    }
    let parameters = [
        ("site_id", Some(site_id.to_owned())),
        ("user_id", user),
        ("invitation_id", invitation),
        ("token", token),
        ("session_id", session),
        ("name", Some("style.css".to_owned())),
        ("goal_id", subject.map(|subject| subject.goal.clone())),
        ("webhook_id", subject.map(|subject| subject.webhook.clone())),
        ("delivery_id", subject.map(|subject| subject.delivery.clone())),
        ("replay_id", subject.map(|subject| subject.replay.clone())),
    ];
    let filled: Vec<_> = parameters.iter().map(|(name, value)| (*name, value.as_deref().unwrap_or_default())).collect();
    fill(path, &filled)
}

/// What a site has that pages are about.
struct Subject {
    goal: String,
    webhook: String,
    delivery: String,
    replay: String,
}

impl Subject {
    async fn of(server: &Server, site_id: &str) -> Self {
        let goal = server.add_goal(site_id, "Signup").await;
        let webhook = server.add_webhook(site_id, &json!(["goal_completion"])).await;
        let failed = Past { status: Status::Failed, codes: &[500], ..Past::success("{}") };
        let delivery = server.record(&webhook, &failed).await;
        let webhook = webhook.rsplit('/').next().expect("an id").to_owned();
        let webhook_id = webhook.parse().expect("an id");
        let until = server.engine.ambient().now();
        let filter = ReplayFilter { webhook_id, status: Status::Failed, since: Timestamp::EPOCH, until };
        let id = ReplayId::new(server.engine.ambient());
        let replay = Replay { id, filter, after: DeliveryId::from_bytes([0; 16]), total: 1, done: 0 };
        server.engine.store().add_replay(replay, 10).await.expect("a replay");
        Self { goal, webhook, delivery, replay: id.to_string() }
    }
}

#[test]
fn the_table_has_every_page() {
    let routes = |beginning: &str| SOURCE.matches(beginning).count();
    assert_eq!(routes(".route("), routes(".route(\""), "a route stands on one line, where it is found");
    let mut found = BTreeSet::new();
    for rest in SOURCE.split(".route(\"").skip(1) {
        let (path, handlers) = rest.split_once("\", ").expect("a path and its handlers");
        let handlers = handlers.split('\n').next().unwrap_or_default();
        for (call, method) in [("get(", "GET"), ("post(", "POST")] {
            if handlers.contains(call) {
                found.insert((method, path));
            }
        }
    }
    let listed: BTreeSet<_> =
        PAGES.iter().filter(|(_, path, ..)| *path != "/nowhere").map(|(method, path, ..)| (*method, *path)).collect();
    assert_eq!(listed, found);
}

#[tokio::test]
async fn pages_allow_no_script_but_their_own() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let id = site(&server).await;
    for path in ["/sites", "/account", &format!("/sites/{id}"), &format!("/sites/{id}/people"), "/sites/nowhere"] {
        let page = browser.get(path).await;
        let policy = page.header("content-security-policy").expect("a policy");
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("cache-control"), Some("no-store"));
        let html = page.text().to_owned();
        assert!(!html.contains("<style") && !html.contains(" style=") && !html.contains("onclick"), "{html}");
        assert_eq!(html.matches("<script").count(), 1);
        for name in ["style.css", "live.js", "icon.svg"] {
            let link = html.split('"').find(|text| text.contains(name)).expect("a link").to_owned();
            let asset = browser.get(&link).await;
            assert_eq!((asset.status.as_u16(), asset.header("x-content-type-options")), (200, Some("nosniff")), "{link}");
            assert!(asset.header("cache-control").is_some_and(|value| value.contains("immutable")));
        }
    }
    browser.get("/assets/secret.key").await.html(404);
}

#[tokio::test]
async fn many_sites_are_found_and_shown_in_pages() {
    let server = Server::start().await;
    for number in 0..61 {
        server.add_site(&format!("site-{number:02}.example")).await;
    }
    let browser = Browser::of_owner(&server).await;
    let shown = async |path: &str| browser.get(path).await.html(200).matches("<li class=\"card\">").count();
    assert_eq!((shown("/sites").await, shown("/sites?page=2").await, shown("/sites?page=3").await), (60, 1, 0));
    assert_eq!((shown("/sites?q=SITE-0").await, shown("/sites?q=nothing").await), (10, 0));
    let html = browser.get("/sites?q=site").await.html(200).to_owned();
    assert!(html.contains("/sites?q=site&amp;page=2") && !html.contains("Previous"), "{html}");
    assert_eq!((shown("/sites?page=x&q=site&q=").await, shown("/sites?page=99999999999999999999").await), (60, 60));
    assert!(browser.get("/sites?q=site&page=2").await.html(200).contains("/sites?q=site&amp;page=1"));
}

#[tokio::test]
async fn what_others_write_is_shown_as_text_on_every_page() {
    const MARKUP: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>";
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let id = server.add_site("example.com").await;
    server.patch(&format!("/api/sites/{id}"), &json!({"name": MARKUP})).await;
    server.post(&format!("/api/sites/{id}/goals"), &json!({"event_name": MARKUP})).await;
    let path = format!("/api/sites/{id}/webhooks");
    let hook = json!({"url": "https://nowhere.example/?q=<script>", "name": MARKUP, "triggers": ["goal_completion"]});
    let webhook = server.post(&path, &hook).await["webhook"]["id"].as_str().expect("an id").to_owned();
    let goal = server.get(&format!("/api/sites/{id}/goals")).await["goals"][0]["id"].clone();
    server.post(&format!("{path}/{webhook}/triggers"), &json!({"type": "goal_completion", "goal_id": goal})).await;
    let payload = json!({"name": MARKUP}).to_string();
    let answered = Past { status: Status::Failed, codes: &[400], body: MARKUP, ..Past::success(&payload) };
    let delivery = server.record(&format!("{path}/{webhook}"), &answered).await;
    let of_webhook = format!("/sites/{id}/webhooks/{webhook}");
    let pages = [
        "/sites".to_owned(),
        format!("/sites?q={}", form_urlencoded::byte_serialize(MARKUP.as_bytes()).collect::<String>()),
        format!("/sites/{id}"),
        format!("/sites/{id}/goals"),
        format!("/sites/{id}/goals?q=%3Cscript%3E"),
        format!("/sites/{id}/webhooks"),
        of_webhook.clone(),
        format!("{of_webhook}/edit"),
        format!("{of_webhook}/deliveries"),
        format!("{of_webhook}/deliveries?status=%3Cscript%3E&since=%3Cscript%3E"),
        format!("{of_webhook}/deliveries/{delivery}"),
    ];
    let mut shown = 0;
    for path in pages {
        let page = browser.get(&path).await;
        let html = page.text();
        assert!(matches!(page.status.as_u16(), 200 | 422), "{path}: {html}");
        assert!(!html.contains("<script>") && !html.contains("<img src=x"), "{path}: {html}");
        shown += usize::from(html.contains("&#60;script&#62;alert(1)"));
    }
    assert!(shown >= 8, "{shown}");
}

#[tokio::test]
async fn a_form_for_a_webhook_keeps_what_was_typed_and_says_what_is_wrong_where() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let id = site(&server).await;
    let path = format!("/sites/{id}/webhooks");
    assert!(browser.get(&path).await.html(200).contains("No webhook yet"));
    let form = [
        ("url", "https://private.example/hook"),
        ("name", "Kept"),
        ("triggers-0-type", "visitor_spike"),
        ("triggers-0-threshold", "0"),
        ("triggers-0-unit", "percent"),
        ("triggers-0-window_seconds", "600"),
    ];
    let page = browser.post(&path, &form).await;
    let html = page.html(422);
    assert!(html.contains("id=\"triggers-0-threshold-error\">Threshold must be a whole number from 1 to 10000."), "{html}");
    for kept in ["value=\"https://private.example/hook\"", "value=\"Kept\"", "value=\"600\"", "value=\"0\""] {
        assert!(html.contains(kept), "{kept}: {html}");
    }
    let form = form.map(|(name, value)| (name, if name == "triggers-0-threshold" { "80" } else { value }));
    let html = browser.post(&path, &form).await.html(422).to_owned();
    assert!(html.contains("id=\"url-error\">URL "), "{html}");
    assert!(server.get(&format!("/api/sites/{id}/webhooks")).await["webhooks"].as_array().expect("webhooks").is_empty());

    let form = form.map(|(name, value)| (name, if name == "url" { NOWHERE } else { value }));
    let previewed: Vec<_> = form.iter().copied().chain([("preview", "yes")]).collect();
    let html = browser.post(&path, &previewed).await.html(200).to_owned();
    assert!(html.contains("more than 80 % above the 10 minutes before") && html.contains("It would not have fired."), "{html}");
    let html = browser.submit(&path, &form).await.html(200).to_owned();
    let secret = html.split("id=\"secret\" readonly value=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a secret");
    assert!(secret.starts_with("whsec_") && html.matches(secret).count() == 5, "shown once, and in four samples: {html}");
    let shown = server.get(&format!("/api/sites/{id}/webhooks")).await["webhooks"][0].clone();
    assert_eq!((&shown["name"], &shown["triggers"][0]["threshold"]), (&json!("Kept"), &json!(80)));
    let webhook = format!("{path}/{}", shown["id"].as_str().expect("an id"));
    assert!(!browser.get(&webhook).await.html(200).contains(secret));

    // Headers, limits and a schedule that the form does not show are left as they are.
    let api = format!("/api{webhook}");
    server.patch(&api, &json!({"retry_schedule": [7], "headers": {"x-a": "b"}, "rate_limit_per_second": 3})).await;
    browser.post(&format!("{webhook}/edit"), &[("url", NOWHERE), ("name", "Other")]).await.sent_to(&webhook);
    let shown = server.get(&api).await["webhook"].clone();
    assert_eq!(
        (&shown["name"], &shown["retry_schedule"], &shown["rate_limit_per_second"]),
        (&json!("Other"), &json!([7]), &json!(3))
    );
    assert_eq!((&shown["headers"], &shown["triggers"]), (&json!({"x-a": null}), &json!([])));
    let rotated = browser.submit(&format!("{webhook}/secret"), &[("grace_seconds", "0")]).await.html(200).to_owned();
    assert!(rotated.contains("It is shown only now") && !rotated.contains(secret));
    browser.post(&format!("{webhook}/secret"), &[("grace_seconds", "-1")]).await.html(422);
}
