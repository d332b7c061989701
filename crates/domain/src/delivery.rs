//! The history of what was sent.

use serde::{Serialize, Serializer};

use crate::id::{DeliveryId, EventId, TriggerId, WebhookId};
use crate::retry::Verdict;
use crate::time::Timestamp;
use crate::trigger::EventType;

/// How much of an answer's body an attempt keeps, in bytes.
pub const MAX_RECORDED_BODY_BYTES: usize = 4_096;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Not tried yet.
    Pending,
    /// Tried, and to be tried again.
    Retrying,
    /// Arrived.
    Success,
    /// Given up: a dead letter.
    Failed,
    /// Its webhook was deleted or switched off before it went out.
    Cancelled,
}

/// What a delivery brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contents {
    /// An event of this type.
    Event(EventType),
    /// A batch of events.
    Batch,
}

/// An event, or a batch of events, on its way to one webhook.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// What the webhook is told of: the id of an event, or of a batch.
    pub event_id: EventId,
    /// The event's type, or that it is a batch: the name of its [`Contents`].
    pub event_type: String,
    /// How many events it brings.
    pub event_count: u32,
    /// The webhook.
    pub webhook_id: WebhookId,
    /// The trigger that fired, if it was one.
    pub trigger_id: Option<TriggerId>,
    /// Where it is sent, as of the latest attempt.
    pub url: String,
    /// Where it stands.
    pub status: Status,
    /// How often it was tried.
    pub attempt_count: u32,
    /// The status code of the latest answer.
    pub response_code: Option<u16>,
    /// How long the latest attempt took, in milliseconds.
    pub response_time_ms: Option<u32>,
    /// Why the latest attempt failed.
    pub error: Option<String>,
    /// When it is tried next.
    pub next_attempt_at: Option<Timestamp>,
    /// When it came to be.
    pub created_at: Timestamp,
    /// When it was done, given up or cancelled.
    pub completed_at: Option<Timestamp>,
    /// Whether somebody asked for it to test the webhook.
    pub test: bool,
}

impl Contents {
    /// All that there may be.
    pub fn all() -> impl Iterator<Item = Self> {
        EventType::ALL.into_iter().map(Self::Event).chain([Self::Batch])
    }

    /// Its name in headers, in the API and in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Event(event_type) => event_type.name(),
            Self::Batch => "batch",
        }
    }

    /// The contents of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|contents| contents.name() == name)
    }
}

impl From<EventType> for Contents {
    fn from(event_type: EventType) -> Self {
        Self::Event(event_type)
    }
}

/// One try to send a delivery.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Attempt {
    /// Counted from 1.
    pub number: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u32,
    /// The status code of the answer.
    pub response_code: Option<u16>,
    /// The beginning of the answer's body, at most 4,096 bytes.
    pub response_body: Option<String>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Status {
    /// Where a delivery stands after an attempt, and when it is tried again. `is_on` is whether its webhook still is.
    pub fn after(verdict: Verdict, is_on: bool) -> (Self, Option<Timestamp>) {
        match verdict {
            Verdict::Done => (Self::Success, None),
            Verdict::RetryAt(at) if is_on => (Self::Retrying, Some(at)),
            Verdict::RetryAt(_) => (Self::Cancelled, None),
            Verdict::GiveUp => (Self::Failed, None),
        }
    }

    /// All of them.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Retrying, Self::Success, Self::Failed, Self::Cancelled];

    /// Its name in the API and in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The status of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_have_names_of_their_own() {
        for contents in Contents::all() {
            assert_eq!(Contents::from_name(contents.name()), Some(contents));
        }
        assert_eq!(Contents::from_name("nothing"), None);
    }

    #[test]
    fn what_becomes_of_a_delivery() {
        let later = Timestamp::EPOCH;
        let cases = [
            (Verdict::Done, true, (Status::Success, None)),
            (Verdict::Done, false, (Status::Success, None)),
            (Verdict::RetryAt(later), true, (Status::Retrying, Some(later))),
            (Verdict::RetryAt(later), false, (Status::Cancelled, None)),
            (Verdict::GiveUp, true, (Status::Failed, None)),
            (Verdict::GiveUp, false, (Status::Failed, None)),
        ];
        for (verdict, is_on, expected) in cases {
            assert_eq!(Status::after(verdict, is_on), expected, "{verdict:?}, {is_on}");
        }
    }
}
