//! Changes of the configuration: what is refused, and that what is stored and what is in force never differ.

use bellwether_domain::id::{GoalId, SiteId, TriggerId, WebhookId};
use bellwether_engine::{Engine, ManageError, Settings, new_key};
use bellwether_store::Role;
use bellwether_testkit::receiver::Receiver;
use serde_json::{Value, json};

use super::rig::{Rig, goal_spec, new_webhook, rule, settings, site_change, webhook_change};

fn is_invalid<T>(result: Result<T, ManageError>, field: &str) -> bool {
    matches!(result.err(), Some(ManageError::Invalid(invalid)) if invalid.errors().keys().eq([field]))
}

fn exists<T>(result: Result<T, ManageError>) -> bool {
    matches!(result.err(), Some(ManageError::Conflict(_)))
}

fn is_missing<T>(result: Result<T, ManageError>) -> bool {
    matches!(result.err(), Some(ManageError::NotFound))
}

fn hook(triggers: Value) -> Value {
    json!({"url": "https://8.8.8.8/hook", "triggers": triggers})
}

#[tokio::test]
async fn sites_are_found_by_id_and_domain() {
    let rig = Rig::start().await;
    let added = rig.engine.create_site(site_change(&json!({"domain": "www.Another.example"}))).await.expect("a site");
    for known in [added.id.to_string(), "another.example".to_owned()] {
        assert_eq!(rig.engine.find_site(&known).expect("the site").site, added);
    }
    let domains: Vec<_> = rig.engine.sites().iter().map(|site| site.site.domain.to_string()).collect();
    assert_eq!(domains, ["another.example", "example.com"]);
    let unknown = SiteId::new(&rig.ambient).to_string();
    assert!(rig.engine.find_site("unknown.example").is_none() && rig.engine.find_site(&unknown).is_none());
}

#[tokio::test]
async fn a_domain_belongs_to_one_site_until_that_is_deleted() {
    let rig = Rig::start().await;
    let (engine, same) = (&rig.engine, json!({"domain": "example.com"}));
    let other = engine.create_site(site_change(&json!({"domain": "other.example"}))).await.expect("a site");
    assert!(exists(engine.create_site(site_change(&same)).await));
    assert!(exists(engine.update_site(other.id, site_change(&same)).await));
    assert_eq!(engine.find_site("other.example").expect("the site").site, other);
    engine.delete_site(rig.site_id).await.expect("a site");
    assert!(engine.find_site("example.com").is_none());
    let renamed = engine.update_site(other.id, site_change(&same)).await.expect("a site");
    assert_eq!(engine.find_site("example.com").expect("the site").site, renamed);
    assert!(engine.find_site("other.example").is_none());
}

#[tokio::test]
async fn the_same_goal_and_the_same_trigger_exist_once() {
    let rig = Rig::start().await;
    let (engine, site_id) = (&rig.engine, rig.site_id);
    assert!(exists(engine.create_goal(site_id, goal_spec(&json!({"event_name": "Signup", "display_name": "Other"}))).await));
    assert!(exists(engine.create_goal(site_id, goal_spec(&json!({"event_name": "Other", "display_name": "Signup"}))).await));
    assert!(exists(engine.create_webhook(site_id, new_webhook(&hook(json!(["goal_completion", "goal_completion"])))).await));
    let webhook = rig.webhook(hook(json!(["goal_completion"]))).await.webhook;
    assert!(exists(engine.create_trigger(site_id, webhook.id, rule(&json!("goal_completion"))).await));
    let twice = json!({"triggers": ["visitor_spike", "visitor_spike"]});
    assert!(exists(engine.update_webhook(site_id, webhook.id, webhook_change(&twice)).await));
    assert_eq!(rig.site().webhook(webhook.id).expect("the webhook").webhook, webhook);
    assert_eq!(rig.site().goals.len(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let rig = Rig::start().await;
    let (engine, site_id, ambient) = (&rig.engine, rig.site_id, &rig.ambient);
    let kept = rig.webhook(hook(json!(["goal_completion"]))).await.webhook;
    let deleted = rig.webhook(hook(json!(["goal_completion"]))).await.webhook;
    engine.delete_webhook(site_id, deleted.id).await.expect("a webhook");
    let other = engine.create_site(site_change(&json!({"domain": "other.example"}))).await.expect("a site").id;
    let unknown = SiteId::new(ambient);
    assert!(is_missing(engine.update_site(unknown, site_change(&json!({}))).await));
    assert!(is_missing(engine.delete_site(unknown).await));
    assert!(is_missing(engine.create_goal(unknown, goal_spec(&json!({"event_name": "a"}))).await));
    assert!(is_missing(engine.create_webhook(unknown, new_webhook(&hook(json!([])))).await));
    assert!(is_missing(engine.delete_goal(site_id, GoalId::new(ambient)).await));
    assert!(is_missing(engine.delete_goal(other, rig.goal_id).await), "another site's goal");
    let webhooks = [(site_id, WebhookId::new(ambient)), (site_id, deleted.id), (other, kept.id)];
    for (site_id, webhook_id) in webhooks {
        assert!(is_missing(engine.update_webhook(site_id, webhook_id, webhook_change(&json!({"name": "x"}))).await));
        assert!(is_missing(engine.delete_webhook(site_id, webhook_id).await));
        assert!(is_missing(engine.create_trigger(site_id, webhook_id, rule(&json!("visitor_spike"))).await));
        assert!(is_missing(engine.delete_trigger(site_id, webhook_id, kept.triggers[0].id).await));
    }
    assert!(is_missing(engine.delete_trigger(site_id, kept.id, TriggerId::new(ambient)).await));
}

#[tokio::test]
async fn what_is_wrong_is_named_and_changes_nothing() {
    let rig = Rig::start_with(Settings { max_webhooks_per_site: 2, ..settings() }).await;
    let (engine, site_id) = (&rig.engine, rig.site_id);
    let other = engine.create_site(site_change(&json!({"domain": "other.example"}))).await.expect("a site").id;
    let of_other = json!([{"type": "goal_completion", "goal_id": rig.goal_id}]);
    assert!(is_invalid(engine.create_webhook(other, new_webhook(&hook(of_other))).await, "triggers[0].goal_id"));
    assert!(is_invalid(engine.create_site(site_change(&json!({"name": "x"}))).await, "domain"));
    let webhook = rig.webhook(hook(json!([]))).await.webhook;
    assert_eq!(rig.site().webhook(webhook.id).expect("the webhook").webhook, webhook);
    rig.webhook(hook(json!([]))).await;
    assert!(is_invalid(engine.create_webhook(site_id, new_webhook(&hook(json!([])))).await, "webhooks"));
    engine.delete_webhook(site_id, webhook.id).await.expect("a webhook");
    rig.webhook(hook(json!([]))).await;
}

#[tokio::test]
async fn a_webhook_has_at_most_a_hundred_triggers() {
    let rig = Rig::start().await;
    let trigger = |threshold: u32| json!({"type": "visitor_spike", "threshold": threshold});
    let webhook = rig.webhook(hook((1..=99).map(trigger).collect())).await.webhook.id;
    rig.engine.create_trigger(rig.site_id, webhook, rule(&trigger(100))).await.expect("a trigger");
    assert!(is_invalid(rig.engine.create_trigger(rig.site_id, webhook, rule(&trigger(101))).await, "triggers"));
}

#[tokio::test]
async fn a_trigger_that_stays_keeps_its_id_and_what_was_counted() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let counted = json!({"type": "goal_completion", "threshold": 2});
    let webhook = rig.webhook(json!({"url": receiver.url(), "triggers": [counted]})).await.webhook;
    rig.complete().await;
    let more = json!({"triggers": ["visitor_spike", counted], "name": "Renamed"});
    let changed = rig.engine.update_webhook(rig.site_id, webhook.id, webhook_change(&more)).await.expect("a webhook");
    assert_eq!((&changed.triggers[1], changed.name.as_str()), (&webhook.triggers[0], "Renamed"));
    rig.complete().await;
    rig.engine.drained().await;
    assert_eq!(receiver.so_far().len(), 1);
}

#[tokio::test]
async fn a_new_webhook_has_defaults_and_shows_its_secret_once() {
    let rig = Rig::start().await;
    let new = rig.webhook(json!({"url": "https://8.8.8.8/hook"})).await;
    assert_eq!((new.webhook.name.as_str(), new.webhook.enabled), ("8.8.8.8", true));
    assert!(new.webhook.triggers.is_empty() && new.webhook.retry_schedule.is_none());
    assert!(new.secret.reveal().starts_with("whsec_"));
    let stored = &rig.engine.store().all_webhooks().await.expect("the webhooks")[0];
    assert!(!stored.sealed.secret.windows(8).any(|part| new.secret.reveal().as_bytes().windows(8).any(|plain| plain == part)));
}

/// Whoever asks for a change may go away in the middle of it.
#[tokio::test]
async fn a_change_that_nobody_waits_for_is_made_whole() {
    let rig = Rig::start().await;
    let webhook = rig.webhook(hook(json!(["goal_completion"]))).await.webhook.id;
    tokio::select! {
        biased;
        _ = rig.engine.delete_webhook(rig.site_id, webhook) => panic!("it waits for the disk first"),
        () = async {} => {}
    }
    // Changes follow each other, so this waits for the one before.
    rig.engine.update_site(rig.site_id, site_change(&json!({"name": "Later"}))).await.expect("a site");
    let stored = rig.engine.store().all_webhooks().await.expect("the webhooks");
    assert!(stored[0].deleted_at.is_some());
    assert_eq!(rig.site().webhook(webhook).expect("the webhook").deleted_at, stored[0].deleted_at);
}

#[tokio::test]
async fn changes_at_the_same_time_follow_each_other() {
    let rig = Rig::start().await;
    let added = (0..20).map(|number| json!({"event_name": format!("Goal {number}")}));
    let added: Vec<_> = added.collect();
    futures_util::future::try_join_all(added.iter().map(|goal| rig.engine.create_goal(rig.site_id, goal_spec(goal))))
        .await
        .expect("goals");
    let stored: Vec<_> = rig.engine.store().goals().await.expect("the goals").into_iter().map(|(_, goal)| goal.id).collect();
    let mut in_force: Vec<_> = rig.site().goals.iter().map(|goal| goal.id).collect();
    in_force.sort_unstable();
    assert_eq!((in_force.len(), in_force), (21, stored));
}

#[tokio::test]
async fn a_key_says_who_bears_it() {
    let rig = Rig::start().await;
    let caller = async |key: &str| rig.engine.caller(key).await.expect("an answer");
    for (site_id, role) in [(None, Role::Admin), (Some(rig.site_id), Role::Viewer)] {
        let (text, key) = new_key(&rig.ambient, "a key".to_owned(), site_id, role);
        assert_eq!(caller(&text).await, None);
        rig.engine.store().add_key(key).await.expect("a key");
        let bearer = caller(&text).await.expect("a bearer");
        assert_eq!(bearer.role_on(rig.site_id), Some(role));
        assert_eq!((bearer.may_change(rig.site_id), bearer.may_add_sites()), (role == Role::Admin, site_id.is_none()));
        assert_eq!(bearer.sees(SiteId::new(&rig.ambient)), site_id.is_none());
        assert_eq!(caller(&text.to_uppercase()).await, None);
    }
    let (text, key) = new_key(&rig.ambient, "a key".to_owned(), Some(rig.site_id), Role::Admin);
    rig.engine.store().add_key(key).await.expect("a key");
    rig.engine.delete_site(rig.site_id).await.expect("a site");
    assert_eq!(caller(&text).await, None);
}

#[tokio::test]
async fn a_database_can_be_checked_without_starting() {
    let rig = Rig::start().await;
    rig.webhook(hook(json!([]))).await;
    let (store, ambient) = (rig.engine.store(), &rig.ambient);
    assert_eq!(Engine::check(store, ambient, &settings()).await.expect("a number of sites"), 1);
    assert!(Engine::check(store, ambient, &Settings { secret_key: [9; 32], ..settings() }).await.is_err());
}
