//! Whether the process lives, and whether it can serve; what that means is the engine's to say.

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

/// Whether the process lives. When it does not, it should be started anew.
pub(crate) async fn alive(State(app): State<App>) -> Result<Json<Health>, Problem> {
    app.engine.alive()?;
    Ok(Json(Health { status: "ok" }))
}

/// Whether it can serve. When it cannot, others should be asked.
pub(crate) async fn ready(State(app): State<App>) -> Result<Json<Health>, Problem> {
    app.engine.ready().await?;
    Ok(Json(Health { status: "ok" }))
}
