//! Sites, goals, webhooks, keys, people and salts: what is kept, what may be there once, and what goes with what.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::goal::MAX_GOALS_PER_SITE;
use bellwether_domain::id::{GoalId, KeyId, SiteId, UserId, WebhookId};
use bellwether_domain::retry::Schedule;
use bellwether_domain::site::Site;
use bellwether_domain::visitor::Salt;
use bellwether_domain::webhook::Webhook;
use bellwether_domain::webhook_template::{TemplateChange, WebhookTemplate};
use bellwether_store::{Key, NewKey, NewUser, Role, Sealed, SealedWebhook, StoreError};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

use super::rig::Rig;

fn exists<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Exists))
}

fn is_gone<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Gone))
}

#[tokio::test]
async fn sites_come_back_as_they_were_kept_by_domain() {
    let rig = Rig::new().await;
    let (second, first) = (rig.site("example.com").await, rig.site("another.example/ä").await);
    assert_eq!(rig.store.sites().await.expect("the sites"), [first.clone(), second.clone()]);
    rig.clock.advance(Duration::from_secs(1));
    let changed = Site {
        domain: "changed.example".into(),
        name: "Ünïcode".into(),
        timezone: "Europe/Berlin".into(),
        updated_at: rig.now(),
        ..second
    };
    rig.store.update_site(changed.clone(), second.updated_at).await.expect("a site");
    assert_eq!(rig.store.sites().await.expect("the sites"), [first, changed]);
    rig.store.check().await.expect("a database");
}

#[tokio::test]
async fn a_domain_is_there_once_until_its_site_is_deleted() {
    let rig = Rig::new().await;
    let (site, other) = (rig.site("example.com").await, rig.site("other.example").await);
    assert!(exists(rig.store.add_site(rig.unsaved_site("example.com")).await));
    assert!(exists(rig.store.update_site(Site { domain: site.domain.clone(), ..other.clone() }, other.updated_at).await));
    rig.store.delete_site(site.id, rig.now()).await.expect("a site");
    let again = rig.site("example.com").await;
    assert_eq!(rig.store.sites().await.expect("the sites"), [again.clone(), other]);
    rig.store.delete_site(again.id, rig.now()).await.expect("a site");
    rig.site("example.com").await;
}

#[tokio::test]
async fn what_is_gone_is_not_changed() {
    let rig = Rig::new().await;
    let (site, never) = (rig.site("example.com").await, rig.unsaved_site("never.example"));
    let webhook = rig.webhook(site.id, vec![]).await;
    rig.store.delete_webhook(webhook.id, rig.now()).await.expect("a webhook");
    rig.store.delete_site(site.id, rig.now()).await.expect("a site");
    for site in [site, never] {
        assert!(is_gone(rig.store.update_site(site.clone(), site.updated_at).await));
        assert!(is_gone(rig.store.delete_site(site.id, rig.now()).await));
    }
    assert!(is_gone(rig.update(webhook.clone(), webhook.updated_at).await));
    for id in [webhook.id, WebhookId::new(&rig.ambient)] {
        assert!(is_gone(rig.store.delete_webhook(id, rig.now()).await));
    }
    let (unknown, goal) = (SiteId::new(&rig.ambient), rig.unsaved_goal(&json!({"event_name": "a"})));
    assert!(is_gone(rig.store.add_goal(unknown, goal).await));
    assert!(is_gone(rig.store.add_webhook(rig.unsaved_webhook(unknown, vec![]), 10, false).await));
    assert!(is_gone(rig.store.add_key(key(&rig, Some(unknown), Role::Admin, 1)).await));
}

#[tokio::test]
async fn goals_of_every_type_come_back_as_they_were_kept() {
    let rig = Rig::new().await;
    let (site, other) = (rig.site("example.com").await, rig.site("other.example").await);
    let specs = [
        json!({"event_name": "Signup"}),
        json!({"event_name": "Signup", "custom_props": {"plan": "pro", "ä": "ö"}, "display_name": "Pro", "currency": "EUR"}),
        json!({"page_path": "/blog/*"}),
        json!({"page_path": "/blog/*", "scroll_threshold": 0}),
        json!({"page_path": "/blog/*", "scroll_threshold": 100}),
    ];
    let mut expected = Vec::new();
    for spec in &specs {
        expected.push((site.id, rig.goal(site.id, spec).await));
        rig.clock.advance(Duration::from_secs(1));
    }
    expected.push((other.id, rig.goal(other.id, &specs[0]).await));
    assert_eq!(rig.store.goals().await.expect("the goals"), expected);
}

#[tokio::test]
async fn goals_with_the_same_name_or_the_same_meaning_are_there_once() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let goals = [
        json!({"event_name": "Buy", "custom_props": {"a": "1", "b": "2"}}),
        json!({"page_path": "/a"}),
        json!({"page_path": "/a", "scroll_threshold": 50}),
    ];
    for goal in &goals {
        rig.goal(site, goal).await;
    }
    let duplicates = [
        json!({"event_name": "Other", "display_name": "Buy"}),
        json!({"event_name": "Buy", "custom_props": {"b": "2", "a": "1"}, "display_name": "X", "currency": "EUR"}),
        json!({"page_path": "/a", "display_name": "Y"}),
        json!({"page_path": "/a", "scroll_threshold": 50, "display_name": "Z"}),
    ];
    for goal in &duplicates {
        assert!(exists(rig.store.add_goal(site, rig.unsaved_goal(goal)).await), "{goal}");
    }
    let others = [
        json!({"event_name": "Buy", "display_name": "Any"}),
        json!({"event_name": "buy"}),
        json!({"page_path": "/a", "scroll_threshold": 51}),
        json!({"page_path": "/a", "custom_props": {"a": "1"}, "display_name": "With a"}),
    ];
    for goal in &others {
        rig.goal(site, goal).await;
    }
}

#[tokio::test]
async fn a_site_has_only_so_many_goals() {
    let rig = Rig::new().await;
    let (site, other) = (rig.site("example.com").await.id, rig.site("other.example").await.id);
    let goal = |number| rig.store.add_goal(site, rig.unsaved_goal(&json!({"event_name": format!("Goal {number}")})));
    try_join_all((0..MAX_GOALS_PER_SITE).map(goal)).await.expect("goals");
    let one_more = rig.unsaved_goal(&json!({"event_name": "One more"}));
    let added = rig.store.add_goal(site, one_more.clone()).await;
    assert!(matches!(added, Err(StoreError::TooMany(MAX_GOALS_PER_SITE))), "{added:?}");
    rig.store.add_goal(other, one_more).await.expect("another site's goal");
}

#[tokio::test]
async fn the_triggers_that_wait_for_a_goal_go_with_it() {
    let rig = Rig::new().await;
    let (site, other) = (rig.site("example.com").await.id, rig.site("other.example").await.id);
    let goal = rig.goal(site, &json!({"event_name": "Signup"})).await;
    let kept = rig.goal(site, &json!({"event_name": "Other"})).await;
    let waits_for = |id: GoalId| rig.trigger(&json!({"type": "goal_completion", "goal_id": id}));
    let triggers = vec![
        waits_for(goal.id),
        rig.trigger(&json!("visitor_spike")),
        rig.trigger(&json!("goal_completion")),
        waits_for(kept.id),
    ];
    rig.webhook(site, triggers.clone()).await;
    assert!(is_gone(rig.store.delete_goal(other, goal.id).await), "another site's goal");
    rig.store.delete_goal(site, goal.id).await.expect("a goal");
    assert!(is_gone(rig.store.delete_goal(site, goal.id).await));
    assert_eq!(rig.store.goals().await.expect("the goals"), [(site, kept)]);
    assert_eq!(rig.store.all_webhooks().await.expect("the webhooks")[0].webhook.triggers, triggers[1..]);
    let late = rig.unsaved_webhook(site, vec![waits_for(goal.id)]);
    assert!(is_gone(rig.store.add_webhook(late, 10, false).await), "a trigger that waits for a goal that is gone");
    assert_eq!(rig.store.all_webhooks().await.expect("the webhooks").len(), 1);
}

fn template(value: &Value) -> Arc<WebhookTemplate> {
    let change = TemplateChange::read(value).expect("a template");
    Arc::new(change.applied(None).expect("a template without parameters"))
}

/// Rules may become stricter than they were when a template was saved, and what nobody can read is told.
#[tokio::test]
async fn templates_that_are_taken_no_more_come_back_all_the_same() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    rig.webhook(site, vec![]).await;
    let put = |statement: &'static str| rig.store.write(move |connection| connection.run_all(statement));
    put(r#"UPDATE webhooks SET template = '{"body":"{{ 5 * 1000 }}","content_type":"text/plain","method":"POST"}'"#)
        .await
        .expect("a statement");
    let kept = rig.store.all_webhooks().await.expect("the webhooks").remove(0).webhook.template.expect("a template");
    assert!(kept.render(&json!({})).expect_err("no body").to_string().contains("* is not allowed"));
    put(r#"UPDATE webhooks SET template = '{"preset":"fax"}'"#).await.expect("a statement");
    assert!(matches!(rig.store.all_webhooks().await, Err(StoreError::Unreadable(_))));
}

#[tokio::test]
async fn webhooks_come_back_as_they_were_kept() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let rules: [Value; 4] = [
        json!({"type": "goal_completion", "threshold": 5, "window_seconds": 60}),
        json!({"type": "visitor_spike", "unit": "visitors", "threshold": 7, "window_seconds": 1, "cooldown_seconds": 0}),
        json!("goal_completion"),
        json!("visitor_spike"),
    ];
    let mut plain = rig.unsaved_webhook(site, rules.iter().map(|rule| rig.trigger(rule)).collect());
    plain.sealed = Sealed {
        secret: vec![0, 255, 128],
        previous: Some((vec![1], rig.later(60))),
        headers: Some(vec![2]),
        parameters: Some(vec![3, 0]),
    };
    plain.webhook.template = Some(template(&json!({"preset": "slack"})));
    rig.store.add_webhook(plain.clone(), 10, false).await.expect("a webhook");
    rig.clock.advance(Duration::from_secs(1));
    let mut special = rig.unsaved_webhook(site, vec![]);
    special.webhook.enabled = false;
    special.webhook.disabled_reason = Some("it answered 410".to_owned());
    special.webhook.rate_limit_per_second = Some(7);
    special.webhook.template =
        Some(template(&json!({"body": "{{ message.text }}\n😀", "content_type": "text/plain", "method": "PUT"})));
    special.webhook.retry_schedule = Some(Schedule::read(&json!([1, 86_400])).expect("a schedule"));
    rig.store.add_webhook(special.clone(), 10, false).await.expect("a webhook");
    let stored = rig.store.all_webhooks().await.expect("the webhooks");
    assert_eq!(stored.len(), 2);
    let first = rig.store.webhooks(WebhookId::from_bytes([0; 16]), 1).await.expect("a webhook");
    let rest = rig.store.webhooks(first[0].webhook.id, 2).await.expect("a webhook");
    assert!(first.iter().chain(&rest).map(|kept| &kept.webhook).eq(stored.iter().map(|kept| &kept.webhook)));
    for (stored, expected) in stored.iter().zip([&plain, &special]) {
        assert_eq!((&stored.webhook, &stored.sealed), (&expected.webhook, &expected.sealed));
        assert_eq!(stored.deleted_at, None);
    }
}

#[tokio::test]
async fn a_changed_webhook_has_its_new_triggers_and_its_old_secret() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let (stays, goes, comes) = (
        rig.trigger(&json!("goal_completion")),
        rig.trigger(&json!("visitor_spike")),
        rig.trigger(&json!({"type": "visitor_spike", "threshold": 9})),
    );
    let webhook = rig.webhook(site, vec![stays.clone(), goes]).await;
    let other = rig.webhook(site, vec![rig.trigger(&json!("goal_completion"))]).await;
    rig.clock.advance(Duration::from_secs(1));
    let changed = Webhook {
        name: "Changed".to_owned(),
        url: "https://changed.example/".into(),
        enabled: false,
        disabled_reason: Some("a reason".to_owned()),
        triggers: vec![comes, stays],
        retry_schedule: Some(Schedule::default()),
        rate_limit_per_second: Some(9),
        template: Some(template(&json!({"preset": "ntfy"}))),
        updated_at: rig.now(),
        ..webhook.clone()
    };
    rig.update(changed.clone(), webhook.updated_at).await.expect("a webhook");
    let mut expected = [changed, other];
    expected.sort_by_key(|webhook| webhook.id);
    let stored = rig.store.all_webhooks().await.expect("the webhooks");
    assert!(stored.iter().all(|sealed| sealed.sealed.secret == b"sealed"));
    assert!(stored.into_iter().map(|sealed| sealed.webhook).eq(expected));
}

#[tokio::test]
async fn the_same_trigger_twice_changes_nothing() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let twice = vec![rig.trigger(&json!("goal_completion")), rig.trigger(&json!("goal_completion"))];
    assert!(exists(rig.store.add_webhook(rig.unsaved_webhook(site, twice.clone()), 10, false).await));
    assert!(rig.store.all_webhooks().await.expect("the webhooks").is_empty());
    let webhook = rig.webhook(site, vec![twice[0].clone()]).await;
    let changed = Webhook { triggers: vec![twice[1].clone(), twice[0].clone()], name: "Changed".to_owned(), ..webhook.clone() };
    assert!(exists(rig.update(changed.clone(), changed.updated_at).await));
    assert_eq!(rig.store.all_webhooks().await.expect("the webhooks")[0].webhook, webhook);
}

#[tokio::test]
async fn a_site_has_only_so_many_webhooks_the_deleted_not_counted() {
    let rig = Rig::new().await;
    let (site, other) = (rig.site("example.com").await.id, rig.site("other.example").await.id);
    let add = async |site| rig.store.add_webhook(rig.unsaved_webhook(site, vec![]), 2, false).await;
    let deleted = rig.webhook(site, vec![]).await.id;
    add(site).await.expect("a webhook");
    assert!(matches!(add(site).await, Err(StoreError::TooMany(2))));
    add(other).await.expect("another site's webhook");
    rig.store.delete_webhook(deleted, rig.now()).await.expect("a webhook");
    add(site).await.expect("a webhook in place of the deleted one");
    assert!(matches!(add(site).await, Err(StoreError::TooMany(2))));
}

#[tokio::test]
async fn a_deleted_webhook_stays_with_its_time_until_its_site_is_deleted() {
    let rig = Rig::new().await;
    let (site, other) = (rig.site("example.com").await.id, rig.site("other.example").await.id);
    let webhook = rig.webhook(site, vec![rig.trigger(&json!("goal_completion"))]).await;
    let elsewhere = rig.webhook(other, vec![]).await;
    rig.clock.advance(Duration::from_secs(1));
    rig.store.delete_webhook(webhook.id, rig.now()).await.expect("a webhook");
    let find = async |id| -> Option<SealedWebhook> {
        rig.store
            .webhooks(WebhookId::from_bytes([0; 16]), 100)
            .await
            .expect("the webhooks")
            .into_iter()
            .find(|sealed| sealed.webhook.id == id)
    };
    let deleted = find(webhook.id).await.expect("the webhook");
    assert_eq!((deleted.webhook, deleted.deleted_at), (webhook.clone(), Some(rig.now())));
    rig.store.delete_site(site, rig.now()).await.expect("a site");
    assert!(find(webhook.id).await.is_none());
    assert!(find(elsewhere.id).await.is_some_and(|sealed| sealed.deleted_at.is_none()));
}

fn key(rig: &Rig, site_id: Option<SiteId>, role: Role, hash: u8) -> NewKey {
    let key = Key { id: KeyId::new(&rig.ambient), site_id, role };
    NewKey { key, name: "A key".to_owned(), hash: [hash; 32], created_at: rig.now() }
}

#[tokio::test]
async fn keys_are_found_by_their_hash_and_go_with_their_site() {
    let rig = Rig::new().await;
    let (site, other) = (rig.site("example.com").await.id, rig.site("other.example").await.id);
    let keys = [
        key(&rig, Some(site), Role::Viewer, 1),
        key(&rig, Some(site), Role::Admin, 2),
        key(&rig, Some(other), Role::Admin, 3),
        key(&rig, None, Role::Admin, 4),
    ];
    for key in &keys {
        rig.store.add_key(key.clone()).await.expect("a key");
    }
    let find = async |hash: u8| rig.store.find_key([hash; 32]).await.expect("an answer");
    for key in &keys {
        assert_eq!(find(key.hash[0]).await.as_ref(), Some(&key.key));
    }
    assert_eq!(find(9).await, None);
    assert!(exists(rig.store.add_key(key(&rig, None, Role::Viewer, 4)).await));
    rig.store.delete_site(site, rig.now()).await.expect("a site");
    assert_eq!((find(1).await, find(2).await), (None, None));
    assert!(find(3).await.is_some() && find(4).await.is_some());
}

#[tokio::test]
async fn an_address_belongs_to_one_person() {
    let rig = Rig::new().await;
    let user = |email: &str, owner| NewUser {
        id: UserId::new(&rig.ambient),
        email: email.to_owned(),
        password_hash: "$argon2id$".to_owned(),
        owner,
        created_at: rig.now(),
    };
    rig.store.add_user(user("a@example.com", true)).await.expect("a person");
    rig.store.add_user(user("b@example.com", false)).await.expect("a person");
    assert!(exists(rig.store.add_user(user("a@example.com", false)).await));
}

#[tokio::test]
async fn a_day_has_one_salt_and_old_ones_are_forgotten() {
    let rig = Rig::new().await;
    let salt = |day: i64, byte: u8| Salt { day, key: [byte; 16] };
    let keep = async |salt, oldest| rig.store.keep_salt(salt, oldest).await.expect("the salts");
    assert!(keep(salt(5, 1), 4).await == [salt(5, 1)]);
    assert!(keep(salt(5, 2), 4).await == [salt(5, 1)], "the first of a day stays");
    assert!(keep(salt(6, 3), 5).await == [salt(5, 1), salt(6, 3)]);
    assert!(keep(salt(7, 4), 6).await == [salt(6, 3), salt(7, 4)]);
    assert!(keep(salt(6, 5), 5).await == [salt(6, 3), salt(7, 4)], "a clock that is set back finds its salt");
}
