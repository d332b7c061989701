//! Whether the process is alive, and whether it can do its work.

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::App;
use crate::problem::Problem;

/// Nothing is wrong.
#[derive(Serialize)]
pub(crate) struct Health {
    status: &'static str,
}

/// The process answers.
pub(crate) async fn alive() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The database answers too.
pub(crate) async fn ready(State(app): State<App>) -> Result<Json<Health>, Problem> {
    app.engine.store().check().await?;
    Ok(Json(Health { status: "ok" }))
}
