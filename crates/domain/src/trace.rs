//! How what happens to an event is named in traces, as W3C Trace Context has it.
//!
//! The trace of something that fired has the event's id, so every process that tries to deliver it, however much later, adds to the
//! same trace without being told of it, and whoever has a `webhook-id` can find the trace. Nothing here knows where traces go.

use std::fmt;

use crate::ambient::Ambient;
use crate::id::EventId;

/// So many bits are looked at of the 56 at an id's end that are random in every UUID of version 7: as many as an `f64` holds exactly,
/// or else the highest would be rounded to the whole.
const LOOKED_AT_BITS: u32 = 53;

/// A part of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

impl SpanId {
    /// A new one.
    pub fn new(ambient: &Ambient) -> Self {
        let mut bytes = ambient.bytes();
        // One of nothing but zeros is none.
        bytes[0] |= 1;
        Self(bytes)
    }

    /// The span of the event itself, which the others are parts of: the same whoever asks.
    pub fn of_event(id: EventId) -> Self {
        let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
        Self([a, b, c, d, e, f, g, h])
    }

    /// Its 8 bytes.
    pub fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// Whether an event is among the share `ratio` of all, from 0 to 1, that are traced: the same whoever asks.
#[expect(clippy::cast_precision_loss, reason = "both have few enough bits")]
pub fn is_traced(id: EventId, ratio: f64) -> bool {
    let [.., a, b, c, d, e, f, g] = *id.as_bytes();
    let random = u64::from_be_bytes([0, a, b, c, d, e, f, g]) >> (56 - LOOKED_AT_BITS);
    (random as f64) < ratio * (1_u64 << LOOKED_AT_BITS) as f64
}

/// The header `traceparent` of a request that is the span `of` the event's trace.
pub fn traceparent(id: EventId, of: SpanId) -> String {
    format!("00-{:032x}-{of}-01", u128::from_be_bytes(*id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> EventId {
        text.parse().expect("an id")
    }

    #[test]
    fn a_trace_is_named_after_its_event() {
        let event = id("0199a200-a467-7bb8-8123-456789abcdef");
        let root = SpanId::of_event(event);
        assert_eq!(root.to_string(), "8123456789abcdef");
        assert_eq!(traceparent(event, root), "00-0199a200a4677bb88123456789abcdef-8123456789abcdef-01");
    }

    #[test]
    fn a_share_of_events_is_traced() {
        let (first, middle, last) = (
            id("0199a200-a467-7bb8-bf00-000000000000"),
            id("0199a200-a467-7bb8-807f-ffffffffffff"),
            id("0199a200-a467-7bb8-80ff-ffffffffffff"),
        );
        let cases = [(0.0, [false; 3]), (1e-9, [true, false, false]), (0.5, [true, true, false]), (1.0, [true; 3])];
        for (ratio, expected) in cases {
            assert_eq!([first, middle, last].map(|event| is_traced(event, ratio)), expected, "{ratio}");
        }
    }
}
