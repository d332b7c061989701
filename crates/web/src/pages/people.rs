//! Who has a part in a site, and how others get one.

use askama::Template;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Response};
use bellwether_domain::id::{InvitationId, SiteId, UserId};
use bellwether_domain::time::Timestamp;
use bellwether_engine::{Credentials, ManageError};
use bellwether_store::{Invitation, Role, SignedIn};

use super::form::{Form, Query, again};
use super::sign_in::device;
use super::sites::shell_of;
use super::{Page, Shell, go_to};
use crate::App;
use crate::access::{Access, Person, set_session_cookie};
use crate::problem::Problem;

#[derive(Template)]
#[template(path = "people.html")]
struct People {
    shell: Shell,
    site_id: SiteId,
    domain: String,
    may_change: bool,
    members: Vec<ShownMember>,
    invitations: Vec<ShownInvitation>,
    /// A link that was just made.
    link: Option<String>,
    form: Form,
}

struct ShownMember {
    id: UserId,
    email: String,
    role: &'static str,
    other_role: &'static str,
}

struct ShownInvitation {
    id: InvitationId,
    role: &'static str,
    expires_at: Timestamp,
}

#[derive(Template)]
#[template(path = "invitation.html")]
struct Welcome {
    shell: Shell,
    token: String,
    domain: String,
    role: &'static str,
    form: Form,
}

/// The members, the links that are open, and one that was just made.
pub(crate) async fn list(
    State(app): State<App>,
    Person(who): Person,
    access: Access,
    Query(asked): Query,
) -> Result<Response, Problem> {
    let link = app.once.take(app.engine.ambient(), who.session.id, asked.value("once"));
    Ok(page(&app, &who, &access, link, Form::default()).await?.into_response())
}

/// Makes a link, and goes on to it.
pub(crate) async fn invite(State(app): State<App>, Person(who): Person, access: Access, form: Form) -> Result<Response, Problem> {
    match app.engine.invite(access.site.site.id, role_of(&form)?).await {
        Ok(token) => {
            let link = app.url(&format!("invitations/{token}"));
            let token = app.once.keep(app.engine.ambient(), who.session.id, link);
            Ok(go_to(&format!("/sites/{}/people?once={token}", access.site.site.id)))
        }
        Err(error) => Ok(again(page(&app, &who, &access, None, form.refused(error, &[])?).await?)),
    }
}

/// Changes what a member may do.
pub(crate) async fn change(State(app): State<App>, access: Access, form: Form) -> Result<Response, Problem> {
    app.engine.change_member(access.site.site.id, access.id("user_id")?, role_of(&form)?).await?;
    Ok(back(&access))
}

/// Takes a member's part in the site away.
pub(crate) async fn remove(State(app): State<App>, access: Access, _: Form) -> Result<Response, Problem> {
    app.engine.remove_member(access.site.site.id, access.id("user_id")?).await?;
    Ok(back(&access))
}

/// Takes a link back.
pub(crate) async fn take_back(State(app): State<App>, access: Access, _: Form) -> Result<Response, Problem> {
    app.engine.take_invitation_back(access.site.site.id, access.id("invitation_id")?).await?;
    Ok(back(&access))
}

/// What a link leads to.
pub(crate) async fn show_invitation(
    State(app): State<App>,
    who: Option<Person>,
    Path(token): Path<String>,
) -> Result<Response, Problem> {
    let invitation = app.engine.invitation(&token).await?.ok_or(Problem::NotFound)?;
    Ok(welcome(&app, who, token, &invitation, Form::default())?.into_response())
}

/// Makes a member of whoever opened the link: of the person who is signed in, or of a new one.
pub(crate) async fn accept(
    State(app): State<App>,
    who: Option<Person>,
    Path(token): Path<String>,
    headers: HeaderMap,
    form: Form,
) -> Result<Response, Problem> {
    let invitation = app.engine.invitation(&token).await?.ok_or(Problem::NotFound)?;
    if let Some(Person(person)) = &who {
        return match app.engine.accept(&token, person.user.id).await {
            Ok(site_id) => Ok(go_to(&format!("/sites/{site_id}"))),
            Err(error) => Ok(again(welcome(&app, who, token, &invitation, form.refused(error, &[])?)?)),
        };
    }
    let device = device(&headers);
    let credentials = Credentials { email: form.value("email"), password: form.value("password"), device: &device };
    match app.engine.accept_as_new(&token, credentials).await {
        Ok((site_id, cookie)) => {
            let cookie = [(SET_COOKIE, set_session_cookie(&app, Some(&cookie)))];
            Ok((cookie, go_to(&format!("/sites/{site_id}"))).into_response())
        }
        Err(error @ ManageError::NotFound) => Err(error.into()),
        Err(error) => Ok(again(welcome(&app, None, token, &invitation, form.refused(error, &["email", "password"])?)?)),
    }
}

fn back(access: &Access) -> Response {
    go_to(&format!("/sites/{}/people", access.site.site.id))
}

fn role_of(form: &Form) -> Result<Role, Problem> {
    match form.value("role") {
        "viewer" => Ok(Role::Viewer),
        "admin" => Ok(Role::Admin),
        _ => Err(Problem::BadRequest("there is no such role")),
    }
}

async fn page(app: &App, who: &SignedIn, access: &Access, link: Option<String>, form: Form) -> Result<Page<People>, Problem> {
    let site = &access.site.site;
    let members = app.engine.store().members(site.id).await?.into_iter().map(|member| ShownMember {
        id: member.user_id,
        email: member.email,
        role: member.role.name(),
        other_role: if member.role == Role::Admin { Role::Viewer.name() } else { Role::Admin.name() },
    });
    let invitations = app.engine.store().invitations(site.id, app.engine.ambient().now()).await?;
    let invitation = |invitation: Invitation| ShownInvitation {
        id: invitation.id,
        role: invitation.role.name(),
        expires_at: invitation.expires_at,
    };
    Ok(Page(People {
        shell: shell_of(who, access, "/people"),
        site_id: site.id,
        domain: site.domain.to_string(),
        may_change: access.may_change,
        members: members.collect(),
        invitations: invitations.into_iter().map(invitation).collect(),
        link,
        form,
    }))
}

fn welcome(app: &App, who: Option<Person>, token: String, invitation: &Invitation, form: Form) -> Result<Page<Welcome>, Problem> {
    let site = app.engine.find_site(&invitation.site_id.to_string()).ok_or(Problem::NotFound)?;
    let shell = Shell::of(who.map(|Person(who)| who.user.email));
    Ok(Page(Welcome { shell, token, domain: site.site.domain.to_string(), role: invitation.role.name(), form }))
}
