//! Accounts: the first one, signing in and out, guesses, and passwords.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use bellwether_domain::id::UserId;
use bellwether_engine::hash_password;
use bellwether_store::NewUser;
use futures_util::future::join_all;

use crate::support::{Browser, OWNER, PASSWORD, Server};

#[tokio::test]
async fn the_first_account_is_for_whoever_has_the_code() {
    let server = Server::start().await;
    let code = server.engine.setup_code().await.expect("an answer").expect("a code");
    let browser = Browser::new(&server);
    browser.get("/sign-in").await.sent_to("/setup");
    assert!(browser.get("/setup").await.html(200).contains("Open the link that the server printed"));
    let closed = browser.get("/setup?code=wrong").await;
    let told = closed.html(200);
    for said in ["Open the link that the server printed", "/setup?code=</code>", "bellwether user create", "docker compose exec"]
    {
        assert!(told.contains(said), "{told}");
    }
    assert!(!told.contains(&code));
    let form = |code: &'static str| [("code", code), ("email", OWNER), ("password", PASSWORD)];
    browser.post("/setup", &form("wrong")).await.html(404);
    browser.post("/setup", &form("")).await.html(404);

    let page = browser.get(&format!("/setup?code={code}")).await;
    assert!(page.html(200).contains(&format!(r#"name="code" value="{code}""#)));
    let refused = browser.post("/setup", &[("code", &code), ("email", "<b>"), ("password", "short")]).await;
    let html = refused.html(422);
    assert!(html.contains("E-mail address is no e-mail address.") && html.contains("Password must be 10 characters"), "{html}");
    assert!(
        html.contains(r#"value="&#60;b&#62;""#) && !html.contains("short"),
        "what was typed is kept, but no password: {html}"
    );

    let made = browser.post("/setup", &[("code", &code), ("email", " Owner@Example.COM "), ("password", PASSWORD)]).await;
    made.sent_to("/sites");
    let cookie = made.header("set-cookie").expect("a cookie");
    for part in ["Path=/", "HttpOnly", "SameSite=Lax"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(browser.get("/sites").await.html(200).contains(OWNER));
    Browser::new(&server).get(&format!("/setup?code={code}")).await.sent_to("/sign-in");
    let again = [("code", code.as_str()), ("email", "b@example.com"), ("password", PASSWORD)];
    Browser::new(&server).post("/setup", &again).await.html(404);
}

#[tokio::test]
async fn the_first_account_may_be_made_elsewhere() {
    let server = Server::start().await;
    let code = server.engine.setup_code().await.expect("an answer").expect("a code");
    let browser = Browser::new(&server);
    browser.get("/sign-in").await.sent_to("/setup");
    let (ambient, password_hash) = (server.engine.ambient(), hash_password(PASSWORD, [1; 16]));
    let (id, email) = (UserId::new(ambient), OWNER.to_owned());
    let owner = NewUser { id, email, password_hash, owner: true, created_at: ambient.now() };
    server.engine.store().add_user(owner).await.expect("an account");
    browser.get("/sign-in").await.html(200);
    browser.get(&format!("/setup?code={code}")).await.sent_to("/sign-in");
    browser.post("/setup", &[("code", &code), ("email", "b@example.com"), ("password", PASSWORD)]).await.html(404);
    browser.sign_in(OWNER, PASSWORD).await.sent_to("/sites");
}

#[tokio::test]
async fn whoever_is_signed_in_stays_so_while_nothing_can_be_written() {
    let server = Server::start().await;
    let browser = Browser::of_owner(&server).await;
    let forbid = server.engine.store().write(|connection| connection.run_all("PRAGMA query_only = ON"));
    forbid.await.expect("a change");
    server.clock.advance(Duration::from_secs(600));
    browser.get("/sites").await.html(200);
    browser.post("/sites", &[("domain", "example.com")]).await.html(503);
}

#[tokio::test]
async fn signing_in_and_out() {
    let server = Server::start().await;
    Browser::of_owner(&server).await;
    let browser = Browser::new(&server);
    browser.get("/account?x=1").await.sent_to("/sign-in?next=%2Faccount%3Fx%3D1");
    let html = browser.get("/sign-in?next=/account").await;
    assert!(html.html(200).contains(r#"name="next" value="/account""#));
    for (email, password) in [(OWNER, "wrong"), ("nobody@example.com", PASSWORD), ("", "")] {
        let page = browser.sign_in(email, password).await;
        assert!(page.html(422).contains("the e-mail address or the password is wrong"));
    }
    let form = [("email", "OWNER@example.com"), ("password", PASSWORD), ("next", "/account")];
    browser.post("/sign-in", &form).await.sent_to("/account");
    assert!(browser.get("/account").await.html(200).contains("Firefox on Linux"));
    let elsewhere = Browser::new(&server);
    elsewhere.post("/sign-in", &[("email", OWNER), ("password", PASSWORD), ("next", "//evil.example")]).await.sent_to("/sites");
    browser.post("/sign-out", &[]).await.sent_to("/sign-in");
    browser.get("/account").await.sent_to("/sign-in?next=%2Faccount");
    elsewhere.get("/account").await.html(200);
    server.clock.advance(Duration::from_secs(15 * 86_400));
    elsewhere.get("/account").await.sent_to("/sign-in?next=%2Faccount");
}

#[tokio::test]
async fn over_https_a_cookie_is_for_this_host_alone() {
    let server = Server::start_at("https://bellwether.example/", &[]).await;
    let browser = Browser::of_owner(&server).await;
    let signed_in = browser.sign_in(OWNER, PASSWORD).await;
    let cookie = signed_in.header("set-cookie").expect("a cookie");
    let (pair, attributes) = cookie.split_once("; ").expect("attributes");
    assert!(pair.starts_with("__Host-bellwether_session="), "{cookie}");
    assert_eq!(attributes, "Path=/; HttpOnly; SameSite=Lax; Max-Age=34560000; Secure");
    browser.get("/account").await.html(200);
    // Another host of the same domain could have set this one.
    let plain = pair.trim_start_matches("__Host-");
    let request = Request::get("/account").header("cookie", plain);
    Browser::new(&server).send(request, Body::empty()).await.sent_to("/sign-in?next=%2Faccount");
    let signed_out = browser.post("/sign-out", &[]).await;
    let gone = "__Host-bellwether_session=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0; Secure";
    assert_eq!(signed_out.header("set-cookie"), Some(gone));
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let server = Server::start().await;
    Browser::of_owner(&server).await;
    let browser = Browser::new(&server);
    for _ in 0..5 {
        browser.sign_in(OWNER, "wrong").await.html(422);
    }
    let wait = browser.sign_in(OWNER, PASSWORD).await;
    assert!(wait.html(429).contains("there were too many mistakes: try again in 30 s"), "{}", wait.text());
    assert_eq!(wait.header("retry-after"), Some("31"));
    browser.sign_in("other@example.com", "wrong").await.html(422);
    server.clock.advance(Duration::from_secs(30));
    browser.sign_in(OWNER, PASSWORD).await.sent_to("/sites");
}

#[tokio::test]
async fn nobody_is_kept_out_by_guesses_from_elsewhere() {
    let server = Server::start_behind(&["0.0.0.0/32".parse().expect("a network")]).await;
    let owner = Browser::of_owner(&server).await;
    let from = |address: &'static str| Browser::new(&server).behind(address);
    for _ in 0..5 {
        from("2001:db8:1:2::3").sign_in(OWNER, "wrong").await.html(422);
    }
    from("2001:db8:1:2::4").sign_in(OWNER, PASSWORD).await.html(429);
    from("2001:db8:1:3::4").sign_in(OWNER, PASSWORD).await.sent_to("/sites");

    // Guesses at the password of a session count by themselves.
    let change =
        async |old| owner.post("/account/password", &[("old_password", old), ("password", "green-badgers-whistle-9")]).await;
    for _ in 0..5 {
        assert!(change("wrong").await.html(422).contains("Old password is wrong."));
    }
    assert!(change(PASSWORD).await.html(422).contains("Old password was wrong too often: try again in 30 s."));
    from("203.0.113.7").sign_in(OWNER, PASSWORD).await.sent_to("/sites");
    server.clock.advance(Duration::from_secs(30));
    change(PASSWORD).await.sent_to("/account?changed");
}

#[tokio::test]
async fn whoever_comes_to_a_crowded_door_is_asked_to_try_again() {
    let server = Server::start().await;
    let browsers: Vec<_> = (0..100).map(|number| (Browser::new(&server), format!("{number}@example.com"))).collect();
    let answers = join_all(browsers.iter().map(|(browser, email)| browser.sign_in(email, PASSWORD))).await;
    let refused = answers.iter().find(|answer| answer.status == 503).expect("one of a hundred at once");
    assert!(refused.html(503).contains("too many people are signing in: try again in a few seconds"), "{}", refused.text());
    assert_eq!(refused.header("retry-after"), Some("5"));
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_and_each_can_be_ended_alone() {
    let server = Server::start().await;
    let first = Browser::of_owner(&server).await;
    let (second, third) = (Browser::of_owner(&server).await, Browser::of_owner(&server).await);
    let new = "green-badgers-whistle-9";
    let wrong = first.post("/account/password", &[("old_password", "wrong"), ("password", new)]).await;
    assert!(wrong.html(422).contains("Old password is wrong."));
    let weak = first.post("/account/password", &[("old_password", PASSWORD), ("password", "password1234")]).await;
    assert!(weak.html(422).contains("New password is easy to guess"));
    second.get("/account").await.html(200);
    first.post("/account/password", &[("old_password", PASSWORD), ("password", new)]).await.sent_to("/account?changed");
    assert!(first.get("/account?changed").await.html(200).contains("The password was changed."));
    for other in [&second, &third] {
        other.get("/account").await.sent_to("/sign-in?next=%2Faccount");
    }
    second.sign_in(OWNER, PASSWORD).await.html(422);
    second.sign_in(OWNER, new).await.sent_to("/sites");
    let html = first.get("/account").await.html(200).to_owned();
    let rows: Vec<_> = html.split("<tr>").filter(|row| row.contains("/account/sessions/")).collect();
    assert_eq!(rows.len(), 2);
    let other = rows.iter().find(|row| !row.contains("this one")).expect("another session");
    let end = other.split("action=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a form");
    first.post(end, &[]).await.sent_to("/account");
    second.get("/account").await.sent_to("/sign-in?next=%2Faccount");
    first.get("/account").await.html(200);
}
