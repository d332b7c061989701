//! One's own account.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bellwether_domain::id::SessionId;
use bellwether_domain::time::Timestamp;
use bellwether_store::SignedIn;

use super::form::{Form, Query, again};
use super::{Page, Shell, go_to};
use crate::App;
use crate::access::Person;
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "account.html")]
struct Account {
    shell: Shell,
    form: Form,
    changed: bool,
    sessions: Vec<ShownSession>,
}

struct ShownSession {
    id: SessionId,
    device: String,
    last_seen_at: Timestamp,
    is_this: bool,
}

/// The password, and where one is signed in.
pub(crate) async fn show(State(app): State<App>, Person(who): Person, Query(asked): Query) -> Result<Response, Problem> {
    Ok(page(&app, &who, Form::default(), asked.has("changed")).await?.into_response())
}

/// Changes the password, and goes on to the account.
pub(crate) async fn change_password(State(app): State<App>, Person(who): Person, form: Form) -> Result<Response, Problem> {
    match app.engine.change_password(&who, form.value("old_password"), form.value("password")).await {
        Ok(()) => Ok(go_to("/account?changed")),
        Err(error) => {
            let form = form.refused(error, &["old_password", "password"])?;
            Ok(again(page(&app, &who, form, false).await?))
        }
    }
}

/// Signs out of a session.
pub(crate) async fn sign_out(
    State(app): State<App>,
    Person(who): Person,
    Path(id): Path<String>,
    _: Form,
) -> Result<Response, Problem> {
    app.engine.sign_out(who.user.id, id.parse().map_err(|_| Problem::NotFound)?).await?;
    Ok(go_to("/account"))
}

async fn page(app: &App, who: &SignedIn, form: Form, changed: bool) -> Result<Page<Account>, Problem> {
    let sessions = app.engine.sessions(who.user.id).await?.into_iter().map(|session| ShownSession {
        id: session.id,
        device: session.device,
        last_seen_at: session.last_seen_at,
        is_this: session.id == who.session.id,
    });
    Ok(Page(Account { shell: Shell::of(Some(who.user.email.clone())), form, changed, sessions: sessions.collect() }))
}
