//! A story without a mouse: nothing but the Tab key, Enter, and what is typed.

use thirtyfour::WebDriver;
use thirtyfour::error::WebDriverResult;

use super::person::Person;
use super::{EMAIL, PASSWORD, Scene};
use crate::browser::chromium::Chromium;
use crate::support::{SITE, json};

#[tokio::test]
async fn a_webhook_is_added_and_tried_out_with_the_keyboard_alone() {
    let mut scene = Scene::set().await;
    let visit = |driver: WebDriver| async move {
        let person = scene.person(&driver);
        from_a_fresh_start_to_a_test(&scene, &person).await?;
        assert_eq!(json(&scene.receiver.next().await)["event_type"], "webhook_test");
        Ok(scene)
    };
    let scene = Chromium::start().await.run(visit).await;
    scene.server.stop().await;
    drop(scene.home);
}

async fn from_a_fresh_start_to_a_test(scene: &Scene, person: &Person<'_>) -> WebDriverResult<()> {
    person.open(&scene.setup).await?;
    fill(person, "email", EMAIL).await?;
    fill(person, "password", PASSWORD).await?;
    person.enter().await?;
    fill(person, "domain", SITE).await?;
    person.enter().await?;
    go(person, "Webhooks").await?;
    go(person, "Add a webhook").await?;
    fill(person, "url", "ftp://example.com").await?;
    go(person, "Add the webhook").await?;
    assert!(person.text_of("url-error").await?.starts_with("URL "));
    // What a field holds is chosen when the Tab key leads there, so that typing replaces it.
    fill(person, "url", &scene.receiver.url()).await?;
    person.enter().await?;
    person.sees("It is shown only now").await;
    go(person, "Send a test").await?;
    person.sees("success").await;
    Ok(())
}

async fn fill(person: &Person<'_>, id: &str, text: &str) -> WebDriverResult<()> {
    person.tab_to(id).await?;
    person.type_text(text).await
}

/// Follows a link, or presses a button.
async fn go(person: &Person<'_>, name: &str) -> WebDriverResult<()> {
    person.tab_to(name).await?;
    person.enter().await
}
