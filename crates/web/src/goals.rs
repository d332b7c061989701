//! Goals of a site.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_domain::goal::{Goal, GoalSpec};
use serde::Serialize;

use crate::App;
use crate::access::Access;
use crate::input::JsonBody;
use crate::problem::Problem;

/// Many goals.
#[derive(Serialize)]
pub(crate) struct Goals {
    goals: Vec<Goal>,
}

/// One goal.
#[derive(Serialize)]
pub(crate) struct One {
    goal: Goal,
}

/// A site's goals, in the order they were made.
pub(crate) async fn list(access: Access) -> Json<Goals> {
    Json(Goals { goals: access.site.goals.to_vec() })
}

/// Adds a goal.
pub(crate) async fn create(
    State(app): State<App>,
    access: Access,
    JsonBody(spec): JsonBody,
) -> Result<(StatusCode, Json<One>), Problem> {
    let goal = app.engine.create_goal(access.site.site.id, GoalSpec::read(&spec)?).await?;
    Ok((StatusCode::CREATED, Json(One { goal })))
}

/// Removes a goal, and the triggers that wait for it.
pub(crate) async fn delete(State(app): State<App>, access: Access) -> Result<StatusCode, Problem> {
    app.engine.delete_goal(access.site.site.id, access.id("goal_id")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
