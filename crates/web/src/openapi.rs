//! The description of the REST API, as OpenAPI 3.1 has it. The tests hold every answer against it.

use std::sync::LazyLock;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use bellwether_domain::delivery::Contents;
use bellwether_domain::schema::PAYLOAD_VERSION;
use serde_json::{Value, json};

use crate::App;
use crate::problem::Problem;

/// Written by hand, with the schemas of payloads, and without what only a running server knows.
pub static DESCRIPTION: LazyLock<Value> = LazyLock::new(|| {
    let mut description: Value = serde_json::from_str(include_str!("../assets/openapi.json")).unwrap_or_default();
    for contents in Contents::all() {
        description["components"]["schemas"][component(contents)] = schema(contents);
    }
    description
});

/// The description of this server's API.
pub(crate) fn description(app: &App) -> Value {
    let mut description = DESCRIPTION.clone();
    description["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    description["servers"] = json!([{"url": app.url("").trim_end_matches('/')}]);
    description
}

/// What the schema of a type's payloads is called, as in `VisitorSpikePayload`.
fn component(contents: Contents) -> String {
    let words = contents.name().split('_').map(|word| word[..1].to_uppercase() + &word[1..]);
    words.chain(["Payload".to_owned()]).collect()
}

fn schema(contents: Contents) -> Value {
    serde_json::from_str(contents.schema()).unwrap_or_default()
}

/// Where the schemas of payloads are.
pub(crate) async fn schemas(State(app): State<App>) -> Json<Value> {
    let shown = |contents: Contents| {
        let (name, version) = (contents.name(), PAYLOAD_VERSION);
        json!({"event_type": name, "version": version, "url": app.url(&format!("/api/schemas/v{version}/{name}"))})
    };
    Json(json!({"schemas": Contents::all().map(shown).collect::<Vec<_>>()}))
}

/// The schema of a type's payloads, or of batches.
pub(crate) async fn show_schema(Path(name): Path<String>) -> Result<([(HeaderName, HeaderValue); 1], &'static str), Problem> {
    let contents = Contents::from_name(&name).ok_or(Problem::NotFound)?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static("application/schema+json"))], contents.schema()))
}

/// The description, for programs.
pub(crate) async fn show(State(app): State<App>) -> Json<Value> {
    Json(description(&app))
}
