//! Word for open pages that something they show has changed. A hint: they ask for the page again.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use bellwether_engine::Watcher;
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::App;
use crate::access::{Access, Person};

/// The most pages that are told at a time.
pub(crate) const MAX_WATCHED: usize = 1_000;
/// Between two words to a page.
const PAUSE: Duration = Duration::from_millis(500);
/// Visitors come and go without any delivery: after so long a page is told in any case.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// After so long a page has to ask again, and whoever may not see the site any more is turned away.
const MAX_TIME: Duration = Duration::from_secs(300);

struct Watching {
    app: App,
    watcher: Watcher,
    until: Instant,
    is_first: bool,
    _permit: OwnedSemaphorePermit,
}

/// Tells of changes on a site until the page is closed, as server-sent events.
pub(crate) async fn tell(State(app): State<App>, _: Person, access: Access) -> Response {
    let Ok(permit) = app.watched.clone().try_acquire_owned() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let webhooks: Vec<_> = access.site.webhooks.iter().map(|webhook| webhook.webhook.id).collect();
    let watcher = app.engine.watch(&webhooks);
    let watching = Watching { app, watcher, until: Instant::now() + MAX_TIME, is_first: true, _permit: permit };
    // Proxies may gather answers before they pass them on.
    let unbuffered = [("x-accel-buffering", "no")];
    (unbuffered, Sse::new(stream::unfold(watching, next))).into_response()
}

/// What changed before the page asked for word is told at once.
async fn next(mut watching: Watching) -> Option<(Result<Event, Infallible>, Watching)> {
    let shutdown = watching.app.shutdown.clone();
    let change = async {
        if !watching.is_first {
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(LONGEST_SILENCE - PAUSE, watching.watcher.changed()).await;
        }
    };
    shutdown.run_until_cancelled(tokio::time::timeout_at(watching.until, change)).await?.ok()?;
    watching.is_first = false;
    Some((Ok(Event::default().event("changed").data("page")), watching))
}
