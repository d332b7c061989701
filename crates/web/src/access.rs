//! Who asks, and for which site.
//!
//! Programs bear a key, people the cookie of a session. A cookie comes along with every request of a browser, whoever made the browser
//! send it; so what changes something must come from a page of our own. A handler that takes [`Access`] runs only for somebody who
//! has a part in the site of its path, and who may do what the method means: looking needs a viewer, anything else an admin. For
//! everybody else the site does not exist.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts, RawPathParams};
use axum::http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method};
use bellwether_engine::{ActiveSite, ActiveWebhook, Caller};
use bellwether_store::SignedIn;

use crate::App;
use crate::problem::Problem;

const MAX_KEY_BYTES: usize = 255;
/// Where a session's cookie is; over `https` the browser keeps it to this host alone.
const COOKIE_NAME: &str = "bellwether_session";
const SECURE_COOKIE_NAME: &str = "__Host-bellwether_session";
/// A session that nobody uses ends before.
const COOKIE_MAX_AGE_SECONDS: u32 = 400 * 24 * 3_600;

/// A caller whose credentials are good.
pub(crate) struct Known(pub(crate) Caller);

/// A person who is signed in.
pub(crate) struct Person(pub(crate) SignedIn);

/// A caller who may add sites.
pub(crate) struct MayAddSites;

/// A caller together with the site of the path, which they have a part in.
pub(crate) struct Access {
    /// The site.
    pub(crate) site: Arc<ActiveSite>,
    /// Whether the caller may change it.
    pub(crate) may_change: bool,
    parameters: Vec<(String, String)>,
}

impl Access {
    /// An id of the path. What is no id names nothing.
    pub(crate) fn id<T: FromStr>(&self, name: &str) -> Result<T, Problem> {
        let value = self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        value.and_then(|value| value.parse().ok()).ok_or(Problem::NotFound)
    }

    /// The webhook of the path.
    pub(crate) fn webhook(&self) -> Result<&Arc<ActiveWebhook>, Problem> {
        self.webhook_with_history()
            .and_then(|webhook| if webhook.deleted_at.is_none() { Ok(webhook) } else { Err(Problem::NotFound) })
    }

    /// The webhook of the path, for admins even when it is deleted: its history stays theirs to read.
    pub(crate) fn webhook_with_history(&self) -> Result<&Arc<ActiveWebhook>, Problem> {
        let webhook = self.site.webhook(self.id("webhook_id")?).ok_or(Problem::NotFound)?;
        if webhook.deleted_at.is_none() || self.may_change { Ok(webhook) } else { Err(Problem::NotFound) }
    }
}

impl FromRequestParts<App> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if !parts.headers.contains_key(AUTHORIZATION) {
            let Person(person) = <Person as FromRequestParts<App>>::from_request_parts(parts, app).await?;
            return Ok(Self(Caller::of_person(&person)));
        }
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = header.and_then(bearer).filter(|key| key.len() <= MAX_KEY_BYTES).ok_or(Problem::Unauthorized)?;
        app.engine.caller(key).await?.map(Self).ok_or(Problem::Unauthorized)
    }
}

impl FromRequestParts<App> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let cookie = session_cookie(&parts.headers, app).ok_or(Problem::Unauthorized)?;
        if !is_safe(&parts.method) && !is_from_our_pages(&parts.headers) {
            return Err(Problem::Forbidden);
        }
        app.engine.signed_in(&cookie).await?.map(Self).ok_or(Problem::Unauthorized)
    }
}

impl OptionalFromRequestParts<App> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Option<Self>, Problem> {
        match <Self as FromRequestParts<App>>::from_request_parts(parts, app).await {
            Ok(person) => Ok(Some(person)),
            Err(Problem::Unauthorized) => Ok(None),
            Err(problem) => Err(problem),
        }
    }
}

impl FromRequestParts<App> for MayAddSites {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Known(caller) = Known::from_request_parts(parts, app).await?;
        if caller.may_add_sites() { Ok(Self) } else { Err(Problem::Forbidden) }
    }
}

impl FromRequestParts<App> for Access {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Known(caller) = Known::from_request_parts(parts, app).await?;
        let parameters = RawPathParams::from_request_parts(parts, app).await.map_err(|_| Problem::NotFound)?;
        let parameters: Vec<_> = parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let site_id = parameters.iter().find(|(name, _)| name == "site_id").map(|(_, value)| value.as_str());
        let site = site_id.and_then(|id| app.engine.find_site(id)).ok_or(Problem::NotFound)?;
        if !caller.sees(site.site.id) {
            return Err(Problem::NotFound);
        }
        let may_change = caller.may_change(site.site.id);
        if !is_safe(&parts.method) && !may_change {
            return Err(Problem::Forbidden);
        }
        Ok(Self { site, may_change, parameters })
    }
}

/// The `Set-Cookie` header that signs somebody in, or out without a value.
pub(crate) fn set_session_cookie(app: &App, value: Option<&str>) -> String {
    let (name, secure) = if app.is_secure() { (SECURE_COOKIE_NAME, "; Secure") } else { (COOKIE_NAME, "") };
    let (value, age) = value.map_or(("", 0), |value| (value, COOKIE_MAX_AGE_SECONDS));
    format!("{name}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age}{secure}")
}

fn session_cookie(headers: &HeaderMap, app: &App) -> Option<String> {
    let name = if app.is_secure() { SECURE_COOKIE_NAME } else { COOKIE_NAME };
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned());
    value.filter(|value| (1..=MAX_KEY_BYTES).contains(&value.len()))
}

/// Whether a browser says that a request comes from a page of this server. Browsers say so by `Sec-Fetch-Site`, older ones by
/// `Origin`; what says neither is no browser, and has no cookie that somebody else could make it send.
pub(crate) fn is_from_our_pages(headers: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
    if let Some(site) = headers.get("sec-fetch-site").map(text) {
        return site == "same-origin" || site == "none";
    }
    match headers.get(ORIGIN).map(text) {
        Some(origin) => {
            let host = headers.get(HOST).map(text).unwrap_or_default();
            !host.is_empty() && origin.split_once("://").is_some_and(|(_, authority)| authority == host)
        }
        None => true,
    }
}

pub(crate) fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    #[test]
    fn what_comes_from_our_pages() {
        let cases: [(&[(&str, &str)], bool); 9] = [
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://a.example"), ("host", "a.example")], false),
            (&[("origin", "http://a.example:8090"), ("host", "a.example:8090")], true),
            (&[("origin", "http://b.example"), ("host", "a.example")], false),
            (&[("origin", "null"), ("host", "a.example")], false),
            (&[("origin", "http://"), ("host", "")], false),
            (&[], true),
        ];
        for (headers, expected) in cases {
            let headers = headers
                .iter()
                .map(|(name, value)| (name.parse::<HeaderName>().expect("a name"), value.parse().expect("a value")));
            let headers: HeaderMap = headers.collect();
            assert_eq!(is_from_our_pages(&headers), expected, "{headers:?}");
        }
    }
}
