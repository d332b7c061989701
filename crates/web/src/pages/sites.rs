//! The sites, and one site.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bellwether_domain::id::SiteId;
use bellwether_domain::site::SiteChange;
use bellwether_engine::{ActiveSite, Caller, ManageError, Polled};
use bellwether_store::SignedIn;
use tracing::error;

use super::form::{Form, Query, again};
use super::{Page, Shell, SiteNav, go_to};
use crate::App;
use crate::access::{Access, MayAddSites, Person};
use crate::problem::Problem;

const SITES_PER_PAGE: usize = 60;
const NEW_FIELDS: [&str; 2] = ["domain", "name"];
const FIELDS: [&str; 3] = ["domain", "name", "timezone"];

/// Which sites one asks to see.
#[derive(Default)]
struct Asked {
    /// A part of a domain or a name.
    sought: String,
    /// Counted from 0.
    page: usize,
}

impl Asked {
    /// What is no number is the first page.
    fn of(form: &Form) -> Self {
        let page: usize = form.value("page").parse().unwrap_or(1);
        Self { sought: form.value("q").to_owned(), page: page.saturating_sub(1) }
    }
}

#[derive(Template)]
#[template(path = "sites.html")]
struct Sites {
    shell: Shell,
    sites: Vec<ShownSite>,
    /// Whether there are any, found or not.
    has_sites: bool,
    sought: String,
    /// The pages before and after this one, counted from 1.
    previous: Option<usize>,
    next: Option<usize>,
    may_add: bool,
    /// Whether they are added by themselves.
    from_plausible: bool,
    form: Form,
}

struct ShownSite {
    id: SiteId,
    domain: String,
    name: String,
    /// Unknown while they cannot be counted.
    current_visitors: Option<u32>,
    webhooks: usize,
    failing: usize,
    off: usize,
}

#[derive(Template)]
#[template(path = "site.html")]
struct General {
    shell: Shell,
    site_id: SiteId,
    domain: String,
    endpoint: String,
    /// Unknown while they cannot be counted.
    current_visitors: Option<u32>,
    /// Whether it is changed in Plausible, where it comes from.
    is_mirrored: bool,
    /// How often Plausible's hosted service is asked about it, if it is.
    polled: Option<Polled>,
    may_change: bool,
    changed: bool,
    form: Form,
}

/// Where everything begins.
pub(crate) async fn home() -> Response {
    go_to("/sites")
}

/// The sites that somebody has a part in, or those whose domain or name has the text that is sought.
pub(crate) async fn list(State(app): State<App>, Person(who): Person, Query(asked): Query) -> Response {
    sites_page(&app, &who, &Asked::of(&asked), Form::default()).await.into_response()
}

/// Adds a site.
pub(crate) async fn create(State(app): State<App>, Person(who): Person, _: MayAddSites, form: Form) -> Result<Response, Problem> {
    let created = match SiteChange::read(&form.to_json(&NEW_FIELDS)) {
        Ok(change) => app.engine.create_site(change).await,
        Err(invalid) => Err(ManageError::Invalid(invalid)),
    };
    match created {
        Ok(site) => Ok(go_to(&format!("/sites/{}", site.id))),
        Err(error) => Ok(again(sites_page(&app, &who, &Asked::default(), form.refused(error, &NEW_FIELDS)?).await)),
    }
}

/// One site: its tracker, whether events arrive, and what can be set of it.
pub(crate) async fn show(State(app): State<App>, Person(who): Person, access: Access, Query(asked): Query) -> Response {
    site_page(&app, &who, &access, form_of(&access.site), asked.has("changed")).await.into_response()
}

/// Changes a site.
pub(crate) async fn update(State(app): State<App>, Person(who): Person, access: Access, form: Form) -> Result<Response, Problem> {
    let id = access.site.site.id;
    let updated = match SiteChange::read_whole(&form.to_json(&FIELDS)) {
        Ok(change) => app.engine.update_site(id, change).await,
        Err(invalid) => Err(ManageError::Invalid(invalid)),
    };
    match updated {
        Ok(_) => Ok(go_to(&format!("/sites/{id}?changed"))),
        Err(error) => Ok(again(site_page(&app, &who, &access, form.refused(error, &FIELDS)?, false).await)),
    }
}

/// Deletes a site.
pub(crate) async fn delete(State(app): State<App>, access: Access, _: Form) -> Result<Response, Problem> {
    app.engine.delete_site(access.site.site.id).await?;
    Ok(go_to("/sites"))
}

async fn sites_page(app: &App, who: &SignedIn, asked: &Asked, form: Form) -> Page<Sites> {
    let caller = Caller::of_person(who);
    let mut sites = app.engine.sites();
    sites.retain(|site| caller.sees(site.site.id));
    let has_sites = !sites.is_empty();
    let sought = asked.sought.trim().to_lowercase();
    sites.retain(|site| site.site.domain.contains(&sought) || site.site.name.to_lowercase().contains(&sought));
    let begin = asked.page.saturating_mul(SITES_PER_PAGE);
    let has_more = begin.saturating_add(SITES_PER_PAGE) < sites.len();
    let of_page: Vec<_> = sites.into_iter().skip(begin).take(SITES_PER_PAGE).collect();
    let visitors = current_visitors(app, &of_page).await;
    Page(Sites {
        shell: Shell::of(Some(who.user.email.clone())),
        sites: of_page.iter().zip(visitors).map(|(site, visitors)| shown(app, site, visitors)).collect(),
        has_sites,
        sought: asked.sought.clone(),
        previous: (asked.page > 0).then_some(asked.page),
        next: has_more.then_some(asked.page + 2),
        may_add: caller.may_add_sites() && app.engine.takes_events(),
        from_plausible: !app.engine.takes_events(),
        form,
    })
}

/// Of each of some sites, in their order.
async fn current_visitors(app: &App, sites: &[Arc<ActiveSite>]) -> Vec<Option<u32>> {
    match app.engine.current_visitors(sites).await {
        Ok(counted) => counted.into_iter().map(Some).collect(),
        Err(error) => {
            error!(%error, "the current visitors cannot be shown");
            vec![None; sites.len()]
        }
    }
}

fn shown(app: &App, site: &ActiveSite, current_visitors: Option<u32>) -> ShownSite {
    let webhooks: Vec<_> = site.webhooks.iter().filter(|webhook| webhook.deleted_at.is_none()).collect();
    let is_failing = |id| app.engine.breaker(id).trial_at().is_some();
    ShownSite {
        id: site.site.id,
        domain: site.site.domain.to_string(),
        name: site.site.name.to_string(),
        current_visitors,
        failing: webhooks.iter().filter(|webhook| webhook.is_on() && is_failing(webhook.webhook.id)).count(),
        off: webhooks.iter().filter(|webhook| !webhook.is_on()).count(),
        webhooks: webhooks.len(),
    }
}

fn form_of(site: &ActiveSite) -> Form {
    let site = &site.site;
    Form::of([("domain", &*site.domain), ("name", &*site.name), ("timezone", &*site.timezone)])
}

async fn site_page(app: &App, who: &SignedIn, access: &Access, form: Form, changed: bool) -> Page<General> {
    let site = &access.site;
    let current_visitors = current_visitors(app, std::slice::from_ref(site)).await.into_iter().next().flatten();
    Page(General {
        shell: shell_of(who, access, ""),
        site_id: site.site.id,
        domain: site.site.domain.to_string(),
        endpoint: app.url("api/event"),
        current_visitors,
        is_mirrored: app.engine.is_mirrored(site),
        polled: app.engine.polled(site),
        may_change: access.may_change,
        changed,
        form,
    })
}

/// What surrounds a page of a site.
pub(super) fn shell_of(who: &SignedIn, access: &Access, active: &'static str) -> Shell {
    let site = &access.site.site;
    let nav = SiteNav { id: site.id, domain: site.domain.to_string(), active };
    Shell { person: Some(who.user.email.clone()), site: Some(nav) }
}
