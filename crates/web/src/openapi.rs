//! The description of the REST API, as OpenAPI 3.1 has it. The tests hold every answer against it.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::App;

/// Written by hand, without what only a running server knows.
static DESCRIPTION: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../assets/openapi.json")).unwrap_or_default());

/// The description of this server's API.
pub(crate) fn description(app: &App) -> Value {
    let mut description = DESCRIPTION.clone();
    description["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    description["servers"] = json!([{"url": app.url("").trim_end_matches('/')}]);
    description
}

/// The same, for programs.
pub(crate) async fn show(State(app): State<App>) -> Json<Value> {
    Json(description(&app))
}
