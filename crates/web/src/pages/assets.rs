//! What pages load: a style, a script, an icon. All of it is in the program.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use siphasher::sip::SipHasher13;
use std::hash::Hasher as _;

use crate::problem::Problem;

const STYLE: &str = include_str!("../../assets/style.css");
const SCRIPT: &str = include_str!("../../assets/live.js");
const ICON: &str = include_str!("../../assets/icon.svg");

/// Their name changes with them.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

static VERSION: LazyLock<String> = LazyLock::new(|| {
    let mut hasher = SipHasher13::new();
    [STYLE, SCRIPT, ICON].iter().for_each(|text| hasher.write(text.as_bytes()));
    format!("{:016x}", hasher.finish())
});

/// Changes with any of them.
pub(crate) fn version() -> &'static str {
    &VERSION
}

/// One of them.
pub(crate) async fn show(Path(name): Path<String>) -> Result<Response, Problem> {
    let (kind, text) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", STYLE),
        "live.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return Err(Problem::NotFound),
    };
    let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, FOR_EVER), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    Ok((headers, text).into_response())
}
