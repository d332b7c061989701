//! The pages, for people: the same engine behind them as behind the REST API, and forms that work without JavaScript.
//!
//! A page is a struct with a template. What changes something is a form that is posted; when something is wrong the form comes back
//! with what was typed, and else the browser is sent on to a page that shows what is now ([`form`]), and what is shown only now goes
//! there by [`once`]. So a page that is loaded again does nothing twice. Whoever is not signed in is sent to [`sign_in`]. What cannot
//! be answered is told in a page too, by [`in_pages`].

mod account;
mod api;
mod assets;
mod batch_form;
mod charts;
mod deliveries;
mod form;
mod goals;
pub(crate) mod live;
pub(crate) mod once;
mod people;
mod samples;
mod setup;
mod sign_in;
mod sites;
mod template_form;
mod trigger_form;
mod webhooks;
mod words;

use askama::Template;
use axum::Router;
use axum::extract::Request;
use axum::http::header::{
    ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bellwether_domain::id::SiteId;

use crate::App;
use crate::problem::{Problem, Told};

/// No script and no style but our own, and nobody shows a page within theirs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What surrounds every page.
pub(crate) struct Shell {
    /// The address of whoever is signed in.
    person: Option<String>,
    /// The site that the page is about.
    site: Option<SiteNav>,
}

/// What is there to see of a site.
pub(crate) struct SiteNav {
    id: SiteId,
    domain: String,
    /// The path of the item that is open.
    active: &'static str,
}

/// A page of a site.
pub(crate) struct NavItem {
    path: &'static str,
    name: &'static str,
    /// A path of SVG, 24 by 24.
    icon: &'static str,
}

impl Shell {
    fn of(person: Option<String>) -> Self {
        Self { person, site: None }
    }

    /// Changes with what the pages load, so that browsers may keep it.
    fn version(&self) -> &'static str {
        assets::version()
    }
}

impl SiteNav {
    fn items(&self) -> [NavItem; 4] {
        [
            NavItem { path: "", name: "General", icon: "M4 5h16v11H4zM9 20h6M12 16v4" },
            NavItem { path: "/goals", name: "Goals", icon: "M5 21V4h13l-3 4 3 4H5" },
            NavItem { path: "/webhooks", name: "Webhooks", icon: "M13 2 4 14h7l-1 8 9-12h-7z" },
            NavItem { path: "/people", name: "People", icon: "M8 11a4 4 0 1 1 8 0 4 4 0 0 1-8 0M4 21c1-4 4-6 8-6s7 2 8 6" },
        ]
    }
}

/// What could not be answered.
#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    shell: Shell,
    title: &'static str,
    detail: String,
}

/// A page with its headers.
pub(crate) struct Page<T>(pub(crate) T);

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(html) => {
                let headers = [
                    (CONTENT_TYPE, "text/html; charset=utf-8"),
                    (CONTENT_SECURITY_POLICY, POLICY),
                    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
                    (CACHE_CONTROL, "no-store"),
                ];
                (headers, html).into_response()
            }
            // Templates fail only when they cannot be written to, and text always can.
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    }
}

/// All pages.
pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(sites::home))
        .route("/setup", get(setup::show).post(setup::create))
        .route("/sign-in", get(sign_in::show).post(sign_in::sign_in))
        .route("/sign-out", post(sign_in::sign_out))
        .route("/account", get(account::show))
        .route("/account/password", post(account::change_password))
        .route("/account/sessions/{session_id}/delete", post(account::sign_out))
        .route("/sites", get(sites::list).post(sites::create))
        .route("/sites/{site_id}", get(sites::show).post(sites::update))
        .route("/sites/{site_id}/delete", post(sites::delete))
        .route("/sites/{site_id}/live", get(live::tell))
        .route("/sites/{site_id}/goals", get(goals::list).post(goals::create))
        .route("/sites/{site_id}/goals/{goal_id}/delete", post(goals::delete))
        .route("/sites/{site_id}/webhooks", get(webhooks::list).post(webhooks::edit::create))
        .route("/sites/{site_id}/webhooks/new", get(webhooks::edit::new))
        .route("/sites/{site_id}/webhooks/{webhook_id}", get(webhooks::show))
        .route("/sites/{site_id}/webhooks/{webhook_id}/edit", get(webhooks::edit::show).post(webhooks::edit::update))
        .route("/sites/{site_id}/webhooks/{webhook_id}/enabled", post(webhooks::switch))
        .route("/sites/{site_id}/webhooks/{webhook_id}/test", post(webhooks::send_test))
        .route("/sites/{site_id}/webhooks/{webhook_id}/secret", post(webhooks::rotate_secret))
        .route("/sites/{site_id}/webhooks/{webhook_id}/delete", post(webhooks::delete))
        .route("/sites/{site_id}/webhooks/{webhook_id}/deliveries", get(deliveries::list))
        .route("/sites/{site_id}/webhooks/{webhook_id}/deliveries/{delivery_id}", get(deliveries::show))
        .route("/sites/{site_id}/webhooks/{webhook_id}/deliveries/{delivery_id}/resend", post(deliveries::resend))
        .route("/sites/{site_id}/webhooks/{webhook_id}/replay", post(deliveries::replay))
        .route("/sites/{site_id}/webhooks/{webhook_id}/replays/{replay_id}/delete", post(deliveries::end_replay))
        .route("/sites/{site_id}/people", get(people::list).post(people::invite))
        .route("/sites/{site_id}/people/{user_id}", post(people::change))
        .route("/sites/{site_id}/people/{user_id}/delete", post(people::remove))
        .route("/sites/{site_id}/invitations/{invitation_id}/delete", post(people::take_back))
        .route("/invitations/{token}", get(people::show_invitation).post(people::accept))
        .route("/docs/api", get(api::show))
        .route("/assets/{name}", get(assets::show))
        .method_not_allowed_fallback(async || Problem::MethodNotAllowed)
        .layer(from_fn(in_pages))
}

/// Sends the browser on, to a page that it shows with GET.
fn go_to(path: &str) -> Response {
    let location = HeaderValue::try_from(path).unwrap_or(HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(LOCATION, location)]).into_response()
}

/// There is nothing of that path: told in a page to those who look at pages.
pub(crate) async fn nowhere(headers: HeaderMap) -> Response {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = Problem::NotFound.into_response();
    match response.extensions_mut().remove::<Told>() {
        Some(told) if accepted.contains("text/html") => problem_page(response.status(), told),
        _ => response,
    }
}

fn problem_page(status: StatusCode, Told { title, detail }: Told) -> Response {
    (status, Page(ProblemPage { shell: Shell::of(None), title, detail })).into_response()
}

/// Shows problems as pages. Who is not signed in is asked to, and then comes back.
async fn in_pages(request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let is_read = request.method() == Method::GET;
    let mut response = next.run(request).await;
    let Some(told) = response.extensions_mut().remove::<Told>() else {
        return response;
    };
    let status = response.status();
    if status == StatusCode::UNAUTHORIZED {
        let next = form_urlencoded::byte_serialize(path.as_bytes()).collect::<String>();
        return go_to(&if is_read { format!("/sign-in?next={next}") } else { "/sign-in".to_owned() });
    }
    let mut page = problem_page(status, told);
    page.headers_mut().extend(response.headers_mut().remove(RETRY_AFTER).map(|after| (RETRY_AFTER, after)));
    page
}
