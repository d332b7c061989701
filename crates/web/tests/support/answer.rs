//! What the router answers.

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The JSON of an answer with this status.
    #[track_caller]
    pub(crate) fn json(&self, status: u16) -> Value {
        assert_eq!((self.status.as_u16(), self.header("content-type")), (status, Some("application/json")), "{}", self.text());
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The page that an answer with this status shows.
    #[track_caller]
    pub(crate) fn html(&self, status: u16) -> &str {
        assert_eq!(
            (self.status.as_u16(), self.header("content-type")),
            (status, Some("text/html; charset=utf-8")),
            "{}",
            self.text()
        );
        self.text()
    }

    /// Checks that a browser is sent on to this path.
    #[track_caller]
    pub(crate) fn sent_to(&self, path: &str) {
        assert_eq!((self.status.as_u16(), self.header("location")), (303, Some(path)), "{}", self.text());
    }

    /// Where a browser is sent on to, without the part of the page behind it.
    #[track_caller]
    pub(crate) fn location(&self) -> &str {
        let location = self.header("location").unwrap_or_else(|| panic!("it leads nowhere: {}", self.text()));
        location.split('#').next().unwrap_or_default()
    }

    /// The problem that an answer with this status tells of, as RFC 9457 has it.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16) -> Value {
        assert_eq!(
            (self.status.as_u16(), self.header(CONTENT_TYPE.as_str())),
            (status, Some("application/problem+json")),
            "{}",
            self.text()
        );
        let problem: Value = serde_json::from_slice(&self.body).expect("JSON");
        assert_eq!((&problem["type"], &problem["status"]), (&Value::from("about:blank"), &Value::from(status)));
        for name in ["title", "detail"] {
            let text = problem[name].as_str().expect("a text");
            assert!(!text.is_empty() && text.trim() == text, "{name}: {text:?}");
        }
        problem
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a text")
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("a text"))
    }
}
