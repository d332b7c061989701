//! What a site wants its visitors to do.

use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bellwether_domain::goal::{Goal, GoalKind, GoalSpec};
use bellwether_domain::id::{GoalId, SiteId};
use bellwether_domain::trigger::{GoalCompletion, Rule};
use bellwether_engine::{ActiveSite, LookError, ManageError};
use bellwether_store::SignedIn;
use serde_json::{Value, json};
use tracing::error;

use super::form::{Form, Query, again};
use super::sites::shell_of;
use super::{Page, Shell, go_to};
use crate::App;
use crate::access::{Access, Person};
use crate::problem::Problem;

const FIELDS: [&str; 5] = ["event_name", "currency", "page_path", "scroll_threshold", "display_name"];
const DAY: Duration = Duration::from_secs(86_400);
const DEFAULT_SCROLL_THRESHOLD: &str = "90";

/// What one asks to see.
#[derive(Default)]
struct Asked {
    /// A part of a goal's name.
    sought: String,
    /// The type of goal to be added.
    add: String,
}

#[derive(Template)]
#[template(path = "goals.html")]
struct Goals {
    shell: Shell,
    site_id: SiteId,
    domain: String,
    may_change: bool,
    /// Whether they are changed in Plausible, where they come from.
    is_mirrored: bool,
    goals: Vec<ShownGoal>,
    /// Whether there are any, found or not.
    has_goals: bool,
    sought: String,
    /// The type of the goal that is being added; empty while none is.
    adding: &'static str,
    form: Form,
}

struct ShownGoal {
    id: GoalId,
    name: String,
    kind: Kind,
    /// Unknown while they cannot be counted.
    completions: Option<u64>,
    /// How many triggers wait for it.
    triggers: usize,
}

/// A type of goal, as Plausible's users know it, and how it is coloured.
struct Kind {
    name: &'static str,
    class: &'static str,
}

/// The goals, or those whose name has the text that is sought.
pub(crate) async fn list(
    State(app): State<App>,
    Person(who): Person,
    access: Access,
    Query(query): Query,
) -> Result<Response, Problem> {
    let asked = Asked { sought: query.value("q").to_owned(), add: query.value("add").to_owned() };
    let form = Form::of([("scroll_threshold", DEFAULT_SCROLL_THRESHOLD)]);
    Ok(page(&app, &who, &access, asked, form).await?.into_response())
}

/// Adds a goal.
pub(crate) async fn create(State(app): State<App>, Person(who): Person, access: Access, form: Form) -> Result<Response, Problem> {
    let created = match GoalSpec::read(&goal_of(&form)?) {
        Ok(spec) => app.engine.create_goal(access.site.site.id, spec).await,
        Err(invalid) => Err(ManageError::Invalid(invalid)),
    };
    match created {
        Ok(_) => Ok(back(&access)),
        Err(error) => {
            let asked = Asked { add: form.value("kind").to_owned(), ..Asked::default() };
            Ok(again(page(&app, &who, &access, asked, form.refused(error, &FIELDS)?).await?))
        }
    }
}

/// Deletes a goal.
pub(crate) async fn delete(State(app): State<App>, access: Access, _: Form) -> Result<Response, Problem> {
    app.engine.delete_goal(access.site.site.id, access.id("goal_id")?).await?;
    Ok(back(&access))
}

fn back(access: &Access) -> Response {
    go_to(&format!("/sites/{}/goals", access.site.site.id))
}

/// The goal of a form as the REST API takes it. What makes it a goal of its type is never absent: a scroll depth that is empty, or says
/// that there is none, is refused.
fn goal_of(form: &Form) -> Result<Value, Problem> {
    let name = match form.value("display_name") {
        "" => Value::Null,
        name => Value::from(name),
    };
    let path = form.value("page_path");
    match form.value("kind") {
        "page" => Ok(json!({"page_path": path, "display_name": name})),
        "scroll" => {
            let threshold = match form.number("scroll_threshold") {
                Value::Null => Value::from(""),
                threshold => threshold,
            };
            Ok(json!({"page_path": path, "scroll_threshold": threshold, "display_name": name}))
        }
        "event" => {
            let currency = match form.value("currency") {
                "" => Value::Null,
                currency => Value::from(currency),
            };
            Ok(json!({"event_name": form.value("event_name"), "currency": currency, "display_name": name}))
        }
        _ => Err(Problem::BadRequest("there is no such type of goal")),
    }
}

async fn page(app: &App, who: &SignedIn, access: &Access, asked: Asked, form: Form) -> Result<Page<Goals>, Problem> {
    let site = &access.site;
    let completions = match app.engine.completions(site, app.engine.ambient().now() - DAY).await {
        Ok(completions) => Some(completions),
        Err(LookError::Store(error)) => return Err(error.into()),
        Err(LookError::Count(error)) => {
            error!(%error, "completions cannot be shown");
            None
        }
    };
    let sought = asked.sought.trim().to_lowercase();
    let found = site.goals.iter().filter(|goal| goal.spec.display_name.to_lowercase().contains(&sought));
    let shown = |goal: &Goal| ShownGoal {
        id: goal.id,
        name: goal.spec.display_name.clone(),
        kind: kind(&goal.spec.kind),
        completions: completions.as_ref().map(|completions| completions.get(&goal.id).copied().unwrap_or(0)),
        triggers: triggers_of(site, goal.id),
    };
    let is_mirrored = app.engine.is_mirrored(site);
    let may_change = access.may_change && !is_mirrored;
    let adding = ["page", "event", "scroll"].into_iter().find(|kind| *kind == asked.add && may_change);
    Ok(Page(Goals {
        shell: shell_of(who, access, "/goals"),
        site_id: site.site.id,
        domain: site.site.domain.to_string(),
        may_change,
        is_mirrored,
        goals: found.map(shown).collect(),
        has_goals: !site.goals.is_empty(),
        sought: asked.sought,
        adding: adding.unwrap_or_default(),
        form,
    }))
}

fn kind(kind: &GoalKind) -> Kind {
    match kind {
        GoalKind::Event { .. } => Kind { name: "Custom event", class: "custom-event" },
        GoalKind::Page { .. } => Kind { name: "Pageview", class: "pageview" },
        GoalKind::Scroll { .. } => Kind { name: "Scroll depth", class: "scroll-depth" },
    }
}

fn triggers_of(site: &ActiveSite, id: GoalId) -> usize {
    let webhooks = site.webhooks.iter().filter(|webhook| webhook.deleted_at.is_none());
    let triggers = webhooks.flat_map(|webhook| &webhook.webhook.triggers);
    let waits =
        |rule: &Rule| matches!(rule, Rule::GoalCompletion(GoalCompletion { goal_id: Some(goal_id), .. }) if *goal_id == id);
    triggers.filter(|trigger| waits(&trigger.rule)).count()
}
