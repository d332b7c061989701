//! Spans of traces, on their way to whoever exports them.
//!
//! Of an event that fired there are three kinds: the event from when it came in until it was answered, its commit, and each attempt
//! to deliver it. Handing one in waits for nobody; when too many wait already, it is dropped and counted. Nothing here knows where
//! they go.

use bellwether_domain::id::EventId;
use bellwether_domain::time::Timestamp;
use bellwether_domain::trace::{SpanId, is_traced};
use bellwether_meters::label::SpanOutcome;
use bellwether_meters::meters;
use tokio::sync::mpsc;

/// Spans that wait to be exported.
const MAX_WAITING: usize = 4_096;

/// Something that took some time.
#[derive(Clone, Debug)]
pub struct Span {
    /// The event that it belongs to, which names the trace.
    pub event_id: EventId,
    /// Its id.
    pub id: SpanId,
    /// What it is.
    pub kind: SpanKind,
    /// When it began.
    pub begun_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How it failed, if it did.
    pub error: Option<&'static str>,
    /// What else is to be said of it, by its name.
    pub attributes: Vec<(&'static str, String)>,
}

/// What a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// The event, of which the others are parts.
    Event,
    /// Writing it down.
    Commit,
    /// A request to an endpoint.
    Attempt,
}

/// Where spans are handed in, cheap to clone.
#[derive(Clone)]
pub struct Tracer {
    ratio: f64,
    spans: mpsc::Sender<Span>,
}

impl SpanKind {
    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Commit => "commit",
            Self::Attempt => "attempt",
        }
    }
}

impl Tracer {
    /// Traces the share `ratio` of events, from 0 to 1. The spans are to be taken out at the other end.
    pub fn new(ratio: f64) -> (Self, mpsc::Receiver<Span>) {
        let (spans, waiting) = mpsc::channel(MAX_WAITING);
        (Self { ratio, spans }, waiting)
    }

    /// Whether an event is traced.
    pub(crate) fn traces(&self, id: EventId) -> bool {
        is_traced(id, self.ratio)
    }

    /// Hands in a span of an event that is traced.
    pub(crate) fn record(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            meters().spans.add(SpanOutcome::Dropped, 1);
        }
    }
}
