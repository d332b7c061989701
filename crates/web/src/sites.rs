//! Sites.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_domain::site::{Site, SiteChange};
use bellwether_domain::traffic::CURRENT_VISITORS_WINDOW_SECONDS;
use serde::Serialize;

use crate::App;
use crate::access::{Access, Known, MayAddSites};
use crate::input::JsonBody;
use crate::problem::Problem;

/// Many sites.
#[derive(Serialize)]
pub(crate) struct Sites {
    sites: Vec<Site>,
}

/// One site.
#[derive(Serialize)]
pub(crate) struct One {
    site: Site,
}

/// The visitors that a site has now.
#[derive(Serialize)]
pub(crate) struct Visitors {
    current_visitors: u32,
    window_seconds: u32,
}

/// The sites that the caller has a part in, by domain.
pub(crate) async fn list(State(app): State<App>, Known(caller): Known) -> Json<Sites> {
    let sites = app.engine.sites().into_iter().filter(|site| caller.sees(site.site.id));
    Json(Sites { sites: sites.map(|site| site.site.clone()).collect() })
}

/// Adds a site.
pub(crate) async fn create(
    State(app): State<App>,
    _: MayAddSites,
    JsonBody(change): JsonBody,
) -> Result<(StatusCode, Json<One>), Problem> {
    let site = app.engine.create_site(SiteChange::read(&change)?).await?;
    Ok((StatusCode::CREATED, Json(One { site })))
}

/// One site.
pub(crate) async fn show(access: Access) -> Json<One> {
    Json(One { site: access.site.site.clone() })
}

/// Changes a site.
pub(crate) async fn update(State(app): State<App>, access: Access, JsonBody(change): JsonBody) -> Result<Json<One>, Problem> {
    let site = app.engine.update_site(access.site.site.id, SiteChange::read(&change)?).await?;
    Ok(Json(One { site }))
}

/// Deletes a site and everything of it.
pub(crate) async fn delete(State(app): State<App>, access: Access) -> Result<StatusCode, Problem> {
    app.engine.delete_site(access.site.site.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The visitors of the last five minutes.
pub(crate) async fn visitors(State(app): State<App>, access: Access) -> Result<Json<Visitors>, Problem> {
    let counted = app.engine.current_visitors(&[access.site]).await?;
    let current_visitors = counted.first().copied().unwrap_or(0);
    Ok(Json(Visitors { current_visitors, window_seconds: CURRENT_VISITORS_WINDOW_SECONDS }))
}
