//! Who asks, and for which site.
//!
//! A handler that takes [`Access`] runs only for somebody who has a part in the site of its path, and who may do what the method
//! means: looking needs a viewer, anything else an admin. For everybody else the site does not exist.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::Method;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use bellwether_engine::{ActiveSite, ActiveWebhook, Caller};

use crate::App;
use crate::problem::Problem;

const MAX_KEY_BYTES: usize = 255;

/// A caller whose credentials are good.
pub(crate) struct Known(pub(crate) Caller);

/// A caller who may add sites.
pub(crate) struct MayAddSites;

/// A caller together with the site of the path, which they have a part in.
pub(crate) struct Access {
    /// The site.
    pub(crate) site: Arc<ActiveSite>,
    caller: Caller,
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
        if webhook.deleted_at.is_none() || self.caller.may_write() { Ok(webhook) } else { Err(Problem::NotFound) }
    }
}

impl FromRequestParts<App> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = header.and_then(bearer).filter(|key| key.len() <= MAX_KEY_BYTES).ok_or(Problem::Unauthorized)?;
        app.engine.caller(key).await?.map(Self).ok_or(Problem::Unauthorized)
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
        if !is_safe(&parts.method) && !caller.may_write() {
            return Err(Problem::Forbidden);
        }
        Ok(Self { site, caller, parameters })
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, key) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
