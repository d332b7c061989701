//! The first account.

use askama::Template;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Response};
use bellwether_engine::Credentials;
use serde::Deserialize;

use super::form::{Form, again};
use super::sign_in::device;
use super::{Page, Shell, go_to};
use crate::App;
use crate::access::set_session_cookie;
use crate::problem::Problem;

#[derive(Deserialize)]
pub(crate) struct Code {
    #[serde(default)]
    code: String,
}

#[derive(Template)]
#[template(path = "setup.html")]
struct Setup {
    shell: Shell,
    code: String,
    form: Form,
}

#[derive(Template)]
#[template(path = "setup_closed.html")]
struct Closed {
    shell: Shell,
    /// How the link begins that the server printed.
    link: String,
}

/// The form, for whoever has the code. Once there is an account, there is nothing here.
pub(crate) async fn show(State(app): State<App>, Query(Code { code }): Query<Code>) -> Result<Response, Problem> {
    if app.engine.is_setup_code(&code).await? {
        return Ok(Page(Setup { shell: Shell::of(None), code, form: Form::default() }).into_response());
    }
    Ok(match app.engine.setup_code().await? {
        Some(_) => Page(Closed { shell: Shell::of(None), link: format!("{}setup?code=", app.settings.base_url) }).into_response(),
        None => go_to("/sign-in"),
    })
}

/// Makes the account and signs its owner in.
pub(crate) async fn create(State(app): State<App>, headers: HeaderMap, form: Form) -> Result<Response, Problem> {
    let code = form.value("code").to_owned();
    let device = device(&headers);
    let credentials = Credentials { email: form.value("email"), password: form.value("password"), device: &device };
    match app.engine.set_up(&code, credentials).await {
        Ok(cookie) => Ok(([(SET_COOKIE, set_session_cookie(&app, Some(&cookie)))], go_to("/sites")).into_response()),
        Err(error) => {
            let form = form.refused(error, &["email", "password"])?;
            Ok(again(Page(Setup { shell: Shell::of(None), code, form })))
        }
    }
}
