//! A segment of a site's traffic: visits to certain pages, or from a certain source.
//!
//! A [`Segment`] says which visits belong to it. Who counts them keeps what it counts apart from the rest of the site
//! ([`VisitsWithin`], [`TrafficId`]), and never knows why.

use std::sync::Arc;

use serde::Serialize;

use crate::fields::Fields;
use crate::goal::{MAX_PATH_CHARS, PathPattern};
use crate::id::{SiteId, TrafficId};

/// How many segments the triggers of a site may ask for: each event is held against all of them.
pub const MAX_SEGMENTS_PER_SITE: usize = 20;
/// What the source of a visit is called that comes from nowhere else, as on Plausible's dashboard.
pub const DIRECT: &str = "Direct / None";

const MAX_SOURCE_CHARS: usize = 255;

/// Visits to certain pages, from a certain source, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Segment {
    /// The pages; none for all.
    pub page: Option<PathPattern>,
    /// The source of the session, whatever its case; none for all, [`DIRECT`] for visits without one.
    pub source: Option<Arc<str>>,
}

/// The visits of the last seconds that are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VisitsWithin {
    /// Those of a segment; none for all.
    pub segment: Option<Arc<Segment>>,
    /// How many seconds.
    pub window_seconds: u32,
}

impl Segment {
    /// Reads a segment from the fields `page` and `source`; none where neither is given, or one is refused.
    pub(crate) fn read(fields: &mut Fields<'_>) -> Option<Arc<Self>> {
        let page = match fields.filled_text("page", MAX_PATH_CHARS) {
            Some(text) if text.contains("://") || text.contains(['?', '#']) => {
                fields.refuse("page", "must be a path like /blog/*")
            }
            text => text.map(PathPattern::new),
        };
        let source = fields.filled_text("source", MAX_SOURCE_CHARS).map(Arc::from);
        (page.is_some() || source.is_some()).then(|| Arc::new(Self { page, source }))
    }

    /// Whether a visit to a page belongs to it whose session came from a source, none when direct.
    pub fn contains(&self, page: &str, source: Option<&str>) -> bool {
        let is_from = |wanted: &Arc<str>| wanted.eq_ignore_ascii_case(source.unwrap_or(DIRECT));
        self.source.as_ref().is_none_or(is_from) && self.page.as_ref().is_none_or(|pattern| pattern.matches(page))
    }

    /// The name under which its traffic on a site is kept: the same whoever makes it.
    pub fn traffic_on(&self, site_id: SiteId) -> TrafficId {
        let page = self.page.as_ref().map(PathPattern::as_str);
        let part = |text: Option<&str>| text.map_or_else(Vec::new, |text| [b"=", text.as_bytes()].concat());
        TrafficId::made_of(site_id.made_at(), &[site_id.as_bytes(), &part(page), &part(self.source.as_deref())])
    }
}

impl VisitsWithin {
    /// All visits of so many seconds.
    pub fn all(window_seconds: u32) -> Self {
        Self { segment: None, window_seconds }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn segment(fields: &Value) -> Option<Arc<Segment>> {
        Segment::read(&mut Fields::of(fields).expect("an object"))
    }

    #[test]
    fn which_visits_belong_to_it() {
        let blog = segment(&json!({"page": "blog/*"})).expect("a segment");
        let google = segment(&json!({"source": " Google "})).expect("a segment");
        let both = segment(&json!({"page": "/blog/*", "source": "google"})).expect("a segment");
        let direct = segment(&json!({"source": "direct / none"})).expect("a segment");
        for (page, source, expected) in [
            ("/blog/a", Some("Google"), [true, true, true, false]),
            ("/blog/a", None, [true, false, false, true]),
            ("/", Some("GOOGLE"), [false, true, false, false]),
            ("/blog", Some("Google News"), [false, false, false, false]),
        ] {
            assert_eq!([&blog, &google, &both, &direct].map(|one| one.contains(page, source)), expected, "{page} {source:?}");
        }
        assert_eq!([segment(&json!({})), segment(&json!({"page": null, "source": null}))], [None, None]);
        for (name, fields, sentence) in [
            ("page", json!({"page": " "}), "can't be blank"),
            ("source", json!({"source": "", "page": "/"}), "can't be blank"),
            ("page", json!({"page": "https://example.com/blog"}), "must be a path like /blog/*"),
            ("page", json!({"page": "/blog?page=2"}), "must be a path like /blog/*"),
        ] {
            let mut fields = Fields::of(&fields).expect("an object");
            let _ = Segment::read(&mut fields);
            assert_eq!(fields.into_invalid().errors()[name], [sentence]);
        }
    }

    #[test]
    fn its_traffic_has_a_name_of_its_own_on_each_site() {
        let (one, other) = (SiteId::from_bytes([1; 16]), SiteId::from_bytes([2; 16]));
        let named = |fields: Value, site| segment(&fields).expect("a segment").traffic_on(site);
        let google = named(json!({"source": "Google"}), one);
        assert_eq!(google, named(json!({"source": "Google"}), one));
        let others = [
            named(json!({"source": "Google"}), other),
            named(json!({"page": "Google"}), one),
            named(json!({"page": "/", "source": "Google"}), one),
            one.into(),
        ];
        assert!(!others.contains(&google));
    }
}
