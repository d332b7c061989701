//! Signing in and out.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::header::{RETRY_AFTER, SET_COOKIE, USER_AGENT};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use bellwether_engine::{Credentials, SignInError};
use serde::Deserialize;

use super::form::{Form, again};
use super::{Page, Shell, go_to};
use crate::App;
use crate::access::{Person, set_session_cookie};
use crate::client::Network;
use crate::problem::Problem;

#[derive(Deserialize)]
pub(crate) struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignIn {
    shell: Shell,
    form: Form,
}

/// The form. Before there is any account, it is about the first.
pub(crate) async fn show(State(app): State<App>, Query(Next { next }): Query<Next>) -> Result<Response, Problem> {
    if app.engine.setup_code().await?.is_some() {
        return Ok(go_to("/setup"));
    }
    Ok(Page(SignIn { shell: Shell::of(None), form: Form::of([("next", &next)]) }).into_response())
}

/// Signs somebody in, and goes on to where they wanted to go.
pub(crate) async fn sign_in(
    State(app): State<App>,
    Network(network): Network,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let device = device(&headers);
    let credentials = Credentials { email: form.value("email"), password: form.value("password"), device: &device };
    match app.engine.sign_in(credentials, network).await {
        Ok(cookie) => {
            let next = Some(form.value("next")).filter(|next| is_here(next)).unwrap_or("/sites");
            Ok(([(SET_COOKIE, set_session_cookie(&app, Some(&cookie)))], go_to(next)).into_response())
        }
        Err(SignInError::Store(error)) => Err(error.into()),
        Err(SignInError::Crowded(crowded)) => Err(Problem::Crowded(crowded)),
        Err(error) => {
            let form = form.with_error("", error.to_string());
            let page = Page(SignIn { shell: Shell::of(None), form });
            Ok(match error {
                SignInError::Wait(pause) => {
                    let seconds = pause.as_secs().saturating_add(1).to_string();
                    (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, seconds)], page).into_response()
                }
                _ => again(page),
            })
        }
    }
}

/// Signs somebody out.
pub(crate) async fn sign_out(State(app): State<App>, Person(who): Person, _: Form) -> Result<Response, Problem> {
    app.engine.sign_out(who.user.id, who.session.id).await?;
    Ok(([(SET_COOKIE, set_session_cookie(&app, None))], go_to("/sign-in")).into_response())
}

/// What people recognise a browser by.
pub(crate) fn device(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let named = |names: &[(&str, &'static str)]| names.iter().find(|(part, _)| agent.contains(part)).map(|(_, name)| *name);
    // Most browsers name others too, the specific ones before the general.
    let browser =
        named(&[("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari")]);
    let system = named(&[
        ("Android", "Android"),
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Windows", "Windows"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ]);
    format!("{} on {}", browser.unwrap_or("A browser"), system.unwrap_or("an unknown system"))
}

/// Whether a path leads to a page of this server, whatever a browser makes of it.
fn is_here(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//") && !path.contains(['\\', '\r', '\n', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_this_server_are_gone_on_to() {
        for here in ["/", "/sites", "/sites/x?y=z"] {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in ["", "//evil.example", "https://evil.example", "/\\evil.example", "\\/evil.example", "/\t/evil.example"]
        {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn browsers_are_recognised() {
        let cases = [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Version/17.0 Safari/605.1.15",
                "Safari on macOS",
            ),
            ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/120.0 Safari/537.36 Edg/120.0", "Edge on Windows"),
            ("curl/8.0", "A browser on an unknown system"),
        ];
        for (agent, expected) in cases {
            let headers = HeaderMap::from_iter([(USER_AGENT, agent.parse().expect("a value"))]);
            assert_eq!(device(&headers), expected);
        }
    }
}
