//! Goals of a site.

use bellwether_domain::goal::{Goal, GoalSpec};
use bellwether_domain::id::GoalId;
use futures_util::future::join_all;
use insta::assert_json_snapshot;
use serde_json::json;

use crate::support::{NOWHERE, Server, id_of, numbered};

const GOALS: &str = "/api/sites/example.com/goals";

#[tokio::test]
async fn goals_of_every_kind_are_made_and_listed_in_their_order() {
    let server = Server::start().await;
    server.add_site("example.com").await;
    let event = server.post(GOALS, &json!({"event_name": "Purchase", "currency": "eur", "custom_props": {"plan": "pro"}})).await;
    assert_json_snapshot!(numbered(&event), @r#"
    {
      "goal": {
        "id": "[id 1]",
        "display_name": "Purchase",
        "goal_type": "event",
        "event_name": "Purchase",
        "page_path": null,
        "scroll_threshold": -1,
        "custom_props": {
          "plan": "pro"
        },
        "currency": "EUR",
        "created_at": "2026-02-25T12:00:00.000Z"
      }
    }
    "#);
    let page = server.post(GOALS, &json!({"page_path": " blog/** ", "display_name": "Reads the blog"})).await;
    assert_json_snapshot!(numbered(&page), @r#"
    {
      "goal": {
        "id": "[id 1]",
        "display_name": "Reads the blog",
        "goal_type": "page",
        "event_name": null,
        "page_path": "/blog/**",
        "scroll_threshold": -1,
        "custom_props": {},
        "currency": null,
        "created_at": "2026-02-25T12:00:00.000Z"
      }
    }
    "#);
    let scroll = server.post(GOALS, &json!({"page_path": "/pricing", "scroll_threshold": 75})).await;
    assert_json_snapshot!(numbered(&scroll), @r#"
    {
      "goal": {
        "id": "[id 1]",
        "display_name": "Scroll 75% on /pricing",
        "goal_type": "scroll",
        "event_name": null,
        "page_path": "/pricing",
        "scroll_threshold": 75,
        "custom_props": {},
        "currency": null,
        "created_at": "2026-02-25T12:00:00.000Z"
      }
    }
    "#);
    let goals = [event, page, scroll].map(|made| made["goal"].clone());
    assert_eq!(server.get(GOALS).await, json!({"goals": goals}));
}

#[tokio::test]
async fn a_deleted_goal_is_gone_with_the_triggers_that_wait_for_it() {
    let server = Server::start().await;
    let site = server.add_site("example.com").await;
    let (gone, stays) = (server.add_goal(&site, "Signup").await, server.add_goal(&site, "Purchase").await);
    let trigger = |goal: &str| json!({"type": "goal_completion", "goal_id": goal});
    let webhook = server.add_webhook(&site, &json!([trigger(&gone), trigger(&stays), "visitor_spike"])).await;
    server.delete(&format!("{GOALS}/{gone}")).await;
    let goals = server.get(GOALS).await;
    assert_eq!(goals["goals"].as_array().expect("goals").iter().map(id_of).collect::<Vec<_>>(), [stays.as_str()]);
    let shown = server.get(&webhook).await;
    let triggers = shown["webhook"]["triggers"].as_array().expect("triggers");
    assert_eq!(triggers.len(), 2);
    assert_eq!((&triggers[0]["goal_id"], &triggers[1]["type"]), (&json!(stays), &json!("visitor_spike")));
    server.call_raw("DELETE", &format!("{GOALS}/{gone}"), "").await.problem(404);
    server.add_goal(&site, "Signup").await;
}

#[tokio::test]
async fn a_goal_is_deleted_only_on_its_own_site() {
    let server = Server::start().await;
    let site = server.add_site("example.com").await;
    server.add_site("other.example").await;
    let goal = server.add_goal(&site, "Signup").await;
    server.call_raw("DELETE", &format!("/api/sites/other.example/goals/{goal}"), "").await.problem(404);
    assert_eq!(server.get(GOALS).await["goals"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_is_wrong_with_a_goal_is_said_and_nothing_is_saved() {
    let server = Server::start().await;
    let site = server.add_site("example.com").await;
    server.add_goal(&site, "Signup").await;
    let depth = "must be a whole number from 0 to 100, or -1 for none";
    let props = "must have keys of 1 to 300 characters and texts of 1 to 2000 characters";
    let few = "must be an object with at most 3 properties";
    let cases = [
        (json!({}), "event_name", "is required, or page_path is"),
        (json!({"event_name": null}), "event_name", "is required, or page_path is"),
        (json!({"event_name": " "}), "event_name", "can't be blank"),
        (json!({"event_name": 404}), "event_name", "must be a text"),
        (json!({"event_name": "x".repeat(121)}), "event_name", "must be at most 120 characters"),
        (json!({"event_name": "Engagement"}), "event_name", "the event name 'engagement' is reserved"),
        (json!({"event_name": "a", "page_path": "/a"}), "event_name", "can't be given together with page_path"),
        (json!({"page_path": ""}), "page_path", "can't be blank"),
        (json!({"page_path": "/".repeat(2_001)}), "page_path", "must be at most 2000 characters"),
        (json!({"event_name": "a", "scroll_threshold": 50}), "scroll_threshold", "needs page_path"),
        (json!({"page_path": "/a", "scroll_threshold": 101}), "scroll_threshold", depth),
        (json!({"page_path": "/a", "scroll_threshold": -2}), "scroll_threshold", depth),
        (json!({"page_path": "/a", "scroll_threshold": 49.5}), "scroll_threshold", depth),
        (json!({"page_path": "/a", "scroll_threshold": "50"}), "scroll_threshold", depth),
        (json!({"event_name": "a", "display_name": "x".repeat(256)}), "display_name", "must be at most 255 characters"),
        (json!({"event_name": "a", "currency": "E1"}), "currency", "must be a currency code like EUR"),
        (json!({"event_name": "a", "currency": "EURO"}), "currency", "must be at most 3 characters"),
        (json!({"event_name": "a", "custom_props": {"a": "1", "b": "2", "c": "3", "d": "4"}}), "custom_props", few),
        (json!({"event_name": "a", "custom_props": []}), "custom_props", few),
        (json!({"event_name": "a", "custom_props": {"a": 1}}), "custom_props", props),
        (json!({"event_name": "a", "custom_props": {"": "1"}}), "custom_props", props),
        (json!({"event_name": "a", "custom_props": {"a": "x".repeat(2_001)}}), "custom_props", props),
        (json!({"event_name": "a", "goal_type": "event"}), "goal_type", "is not a known field"),
        (json!("Signup"), "", "must be a JSON object"),
    ];
    server.assert_refusals("POST", GOALS, GOALS, &cases).await;
}

#[tokio::test]
async fn no_two_goals_of_a_site_have_the_same_name_or_are_completed_by_the_same_events() {
    let server = Server::start().await;
    server.add_site("example.com").await;
    server.add_site("other.example").await;
    let made = [
        json!({"event_name": "Signup", "display_name": "Joined"}),
        json!({"page_path": "/a"}),
        json!({"page_path": "/a", "scroll_threshold": 50}),
        json!({"event_name": "Signup", "custom_props": {"plan": "pro"}, "display_name": "Joined as pro"}),
    ];
    for goal in &made {
        server.post(GOALS, goal).await;
        server.post("/api/sites/other.example/goals", goal).await;
    }
    let duplicates = [
        json!({"event_name": "Other", "display_name": "Joined"}),
        json!({"event_name": "Signup", "currency": "EUR"}),
        json!({"page_path": "a", "display_name": "Page a"}),
        json!({"page_path": "/a", "scroll_threshold": 50, "display_name": "Half of a"}),
        json!({"event_name": "Signup", "custom_props": {"plan": "pro"}, "display_name": "Pro"}),
    ];
    let sentence = "the site has a goal with this name, or completed by the same events, already";
    for goal in duplicates {
        server.assert_conflict("POST", GOALS, GOALS, (&goal, sentence)).await;
    }
}

#[tokio::test]
async fn a_site_has_at_most_a_thousand_goals() {
    let server = Server::start().await;
    let site = server.add_site("example.com").await;
    let goals = (0..1_000).map(|number| {
        let spec = GoalSpec::read(&json!({"event_name": format!("Event {number}")})).expect("a goal");
        let goal = Goal { id: GoalId::new(server.engine.ambient()), spec, created_at: server.engine.ambient().now() };
        server.engine.store().add_goal(site.parse().expect("an id"), goal)
    });
    assert!(join_all(goals).await.iter().all(Result::is_ok));
    let case = [(json!({"event_name": "Signup"}), "goals", "must be at most 1000 a site")];
    server.assert_refusals("POST", GOALS, GOALS, &case).await;
}

#[tokio::test]
async fn a_goal_of_a_deleted_site_is_no_goal_any_more() {
    let server = Server::start().await;
    let site = server.add_site("example.com").await;
    let goal = server.add_goal(&site, "Signup").await;
    server.delete("/api/sites/example.com").await;
    server.add_site("example.com").await;
    assert_eq!(server.get(GOALS).await, json!({"goals": []}));
    let body = json!({"url": NOWHERE, "triggers": [{"type": "goal_completion", "goal_id": goal}]});
    let problem = server.call("POST", "/api/sites/example.com/webhooks", &body).await.problem(422);
    assert_eq!(problem["errors"], json!({"triggers[0].goal_id": ["must be the id of a goal of the site"]}));
}
