//! A site whose visitors are counted.

use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::Value;

use crate::event::strip_www;
use crate::fields::{Fields, Invalid};
use crate::id::SiteId;
use crate::plausible::PlausibleId;
use crate::time::Timestamp;

const MAX_DOMAIN_CHARS: usize = 253;
const MAX_NAME_CHARS: usize = 255;

/// A site.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Site {
    /// Its id.
    pub id: SiteId,
    /// What trackers call it, without `www.`, unique.
    pub domain: Arc<str>,
    /// What people call it.
    pub name: Arc<str>,
    /// A name of the IANA time zone database.
    pub timezone: Arc<str>,
    /// What it is called in the Plausible that it comes from, if it comes from one.
    #[serde(skip)]
    pub plausible_id: Option<PlausibleId>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Site {
    /// The time zone of its days.
    pub fn zone(&self) -> TimeZone {
        TimeZone::get(&self.timezone).unwrap_or(TimeZone::UTC)
    }
}

/// What may be set of a site; what is absent stays or gets its default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteChange {
    /// See [`Site::domain`].
    pub domain: Option<Arc<str>>,
    /// See [`Site::name`].
    pub name: Option<Arc<str>>,
    /// See [`Site::timezone`].
    pub timezone: Option<Arc<str>>,
}

impl SiteChange {
    /// Reads a change from JSON.
    pub fn read(value: &Value) -> Result<Self, Invalid> {
        Self::read_fields(Fields::of(value)?)
    }

    /// Reads all that may be set of a site from JSON, where what is absent is missing: without a name it bears its domain.
    pub fn read_whole(value: &Value) -> Result<Self, Invalid> {
        let mut fields = Fields::of(value)?;
        fields.require("domain");
        fields.require("timezone");
        let change = Self::read_fields(fields)?;
        let name = change.name.or_else(|| change.domain.clone());
        Ok(Self { name, ..change })
    }

    fn read_fields(mut fields: Fields<'_>) -> Result<Self, Invalid> {
        let domain = fields.text("domain", MAX_DOMAIN_CHARS).and_then(|text| match domain(text) {
            Ok(domain) => Some(domain),
            Err(sentence) => fields.refuse("domain", sentence),
        });
        let name = fields.text("name", MAX_NAME_CHARS).filter(|name| !name.is_empty());
        let timezone = match fields.text("timezone", MAX_NAME_CHARS) {
            Some(timezone) if TimeZone::get(timezone).is_err() => {
                fields.refuse("timezone", "must be a time zone like Europe/Berlin")
            }
            timezone => timezone,
        };
        fields.finish()?;
        Ok(Self { domain, name: name.map(Arc::from), timezone: timezone.map(Arc::from) })
    }

    /// The new site that this makes.
    pub fn create(self, id: SiteId, now: Timestamp) -> Result<Site, Invalid> {
        let domain = self.domain.ok_or_else(|| Invalid::field("domain", "is required"))?;
        Ok(Site {
            id,
            name: self.name.unwrap_or_else(|| domain.clone()),
            timezone: self.timezone.unwrap_or_else(|| Arc::from("UTC")),
            domain,
            plausible_id: None,
            created_at: now,
            updated_at: now,
        })
    }

    /// `site` as this changes it.
    pub fn apply(self, site: Site, now: Timestamp) -> Site {
        Site {
            domain: self.domain.unwrap_or(site.domain),
            name: self.name.unwrap_or(site.name),
            timezone: self.timezone.unwrap_or(site.timezone),
            updated_at: now,
            ..site
        }
    }
}

/// A domain as trackers send it: no scheme, no `www.`, lower case. It may go on with a port or a path.
fn domain(text: &str) -> Result<Arc<str>, &'static str> {
    let text = text.to_lowercase();
    let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(&text);
    let domain = strip_www(text.trim_end_matches('/'));
    let allowed = |letter: char| letter.is_alphanumeric() || "-._:/".contains(letter);
    match domain {
        "" => Err("can't be blank"),
        domain if !domain.chars().all(allowed) => Err("only letters, numbers, slashes, colons, periods and hyphens allowed"),
        domain => Ok(Arc::from(domain)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn domains_are_normalised() {
        let read =
            |text: &str| SiteChange::read(&json!({"domain": text})).map(|change| change.domain.expect("a domain").to_string());
        assert_eq!(read(" https://WWW.Example.com/ ").as_deref(), Ok("example.com"));
        assert_eq!(read("bücher.example/blog").as_deref(), Ok("bücher.example/blog"));
        for bad in ["", "https://", "a b.com", "a,b.com", "<script>"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_new_site_has_defaults() {
        let ambient = crate::detector::tests::ambient();
        let now = ambient.now();
        let site = SiteChange::read(&json!({"domain": "a.com"})).and_then(|change| change.create(SiteId::new(&ambient), now));
        let site = site.expect("a site");
        assert_eq!((site.name.as_ref(), site.timezone.as_ref()), ("a.com", "UTC"));
        let renamed =
            SiteChange::read(&json!({"name": "A", "timezone": "Europe/Berlin"})).expect("a change").apply(site.clone(), now);
        assert_eq!(renamed, Site { name: Arc::from("A"), timezone: Arc::from("Europe/Berlin"), ..site });
        assert!(SiteChange::read(&json!({"timezone": "Mars/Olympus"})).is_err());
        let whole = SiteChange::read_whole(&json!({"domain": "b.com", "name": null, "timezone": "UTC"})).expect("a site");
        assert_eq!(whole.name.as_deref(), Some("b.com"));
        let invalid = SiteChange::read_whole(&json!({"name": "A"})).expect_err("a part of a site");
        assert_eq!(invalid.to_string(), "domain is required; timezone is required");
        assert!(SiteChange::read(&json!({"domian": "a.com"})).is_err());
    }
}
