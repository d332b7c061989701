//! How a trigger stands that has a condition: when it is told that the condition is true, and that it is not any more.

use serde_json::{Value, json};

use crate::condition::{Condition, Seen};
use crate::fields::Fields;
use crate::time::Second;
use crate::trigger::MAX_WINDOW_SECONDS;

const MAX_COOLDOWN_SECONDS: u32 = 7 * 86_400;
const DEFAULT_COOLDOWN_SECONDS: u32 = 3_600;

/// When it is told that a condition is true, and that it is not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timing {
    /// For how many seconds the condition must have been true.
    pub for_seconds: u32,
    /// For how many seconds a trigger stays silent after it fired.
    pub cooldown_seconds: u32,
    /// Whether it is told when the condition is not true any more.
    pub notify_resolved: bool,
}

/// How a trigger stands that has a condition.
///
/// It fires once per crossing: when its condition has been true for long enough. It fires again after the condition has been false and
/// its cooldown is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// Since when its condition has been true, where it has not fired for that yet.
    true_since: Option<Second>,
    fired_at: Option<Second>,
    /// Whether its condition has been true since it fired.
    is_firing: bool,
    /// Whether its condition was ever seen to be false.
    was_false: bool,
}

/// What becomes of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It fires.
    Fires,
    /// What it fired for is over.
    Resolves {
        /// When it fired.
        fired_at: Second,
    },
}

impl Alert {
    /// As it was kept: it fired at `fired_at`, and the condition has been true since or not.
    pub fn kept(fired_at: Second, is_firing: bool) -> Self {
        Self { true_since: None, fired_at: Some(fired_at), is_firing, was_false: true }
    }

    /// Its condition has been true since `true_since`, and it has not fired.
    pub fn pending(true_since: Second) -> Self {
        Self { true_since: Some(true_since), was_false: true, ..Self::default() }
    }

    /// Whether its condition is true, and it has not fired for that yet.
    pub fn is_pending(&self) -> bool {
        self.true_since.is_some()
    }

    /// Whether the condition has been true since it fired.
    pub fn is_firing(&self) -> bool {
        self.is_firing
    }

    /// Whether it fired too short a time before `now` to fire again.
    pub fn is_cooling(&self, cooldown_seconds: u32, now: Second) -> bool {
        self.fired_at.is_some_and(|fired_at| now.saturating_sub(fired_at) < cooldown_seconds)
    }

    /// Whether it may change although nothing happens: the condition has to be true for longer, or it is to be told when it ends.
    pub fn awaits_time(&self, timing: &Timing) -> bool {
        self.true_since.is_some() || (self.is_firing && timing.notify_resolved)
    }

    /// Whether it may be kept that its condition was false: it was seen to be so.
    pub fn was_false(&self) -> bool {
        self.was_false
    }

    /// When it fired; none if it never did.
    pub fn fired_at(&self) -> Option<Second> {
        self.fired_at
    }

    /// Takes note at `now` of what a condition sees. Nothing is missed that never was there.
    pub fn observe(&mut self, condition: &Condition, seen: &Seen, now: Second) -> Option<Change> {
        let may_be = |is_true: &bool| !is_true || self.was_false || !condition.must_have_been_false();
        self.judged(condition.judge(seen).filter(may_be), condition.timing(), now)
    }

    /// Takes note of the condition at `now`; none where it is not known, and all stays as it is.
    fn judged(&mut self, condition: Option<bool>, timing: &Timing, now: Second) -> Option<Change> {
        match condition? {
            true if self.is_firing => None,
            true => {
                let since = *self.true_since.get_or_insert(now);
                let fires = now.saturating_sub(since) >= timing.for_seconds && !self.is_cooling(timing.cooldown_seconds, now);
                fires.then(|| {
                    *self = Self::kept(now, true);
                    Change::Fires
                })
            }
            false => {
                (self.true_since, self.was_false) = (None, true);
                let was_firing = std::mem::replace(&mut self.is_firing, false);
                self.fired_at.filter(|_| was_firing && timing.notify_resolved).map(|fired_at| Change::Resolves { fired_at })
            }
        }
    }
}

impl Timing {
    /// Its fields beside others.
    pub(crate) fn beside(self, mut fields: Value) -> Value {
        fields["for_seconds"] = json!(self.for_seconds);
        fields["cooldown_seconds"] = json!(self.cooldown_seconds);
        fields["notify_resolved"] = json!(self.notify_resolved);
        fields
    }

    pub(crate) fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            for_seconds: fields.integer("for_seconds", 0..=MAX_WINDOW_SECONDS).unwrap_or(0),
            cooldown_seconds: fields.integer("cooldown_seconds", 0..=MAX_COOLDOWN_SECONDS).unwrap_or(DEFAULT_COOLDOWN_SECONDS),
            notify_resolved: fields.boolean("notify_resolved").unwrap_or(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_fires_once_for_each_crossing() {
        let (mut alert, timing) = (Alert::default(), Timing { for_seconds: 0, cooldown_seconds: 10, notify_resolved: false });
        let steps = [
            (0, Some(false), false),
            (1, Some(true), true),
            (2, Some(true), false),
            (3, Some(false), false),
            (4, Some(true), false),  // cooling
            (12, Some(true), true),  // may fire again while it was true
            (30, Some(true), false), // has not been false
            (31, None, false),
            (32, Some(true), false), // nobody knows whether it has
            (33, Some(false), false),
            (34, Some(true), true),
        ];
        for (now, condition, fires) in steps {
            assert_eq!(alert.judged(condition, &timing, now).is_some(), fires, "at {now}");
        }
        let mut restarted = Alert::kept(100, false);
        assert!(restarted.judged(Some(true), &timing, 105).is_none());
        assert_eq!(restarted.judged(Some(true), &timing, 110), Some(Change::Fires));
    }

    #[test]
    fn an_alert_waits_until_its_condition_has_been_true_for_long_and_tells_when_it_is_over() {
        let (mut alert, timing) = (Alert::default(), Timing { for_seconds: 10, cooldown_seconds: 0, notify_resolved: true });
        let steps = [
            (0, Some(true), None, true),
            (9, Some(true), None, true),
            (9, Some(false), None, false),
            (20, Some(true), None, true),
            (25, None, None, true),
            (30, Some(true), Some(Change::Fires), true),
            (40, Some(true), None, true),
            (41, None, None, true),
            (42, Some(false), Some(Change::Resolves { fired_at: 30 }), false),
            (43, Some(false), None, false),
        ];
        for (now, condition, change, awaits_time) in steps {
            assert_eq!((alert.judged(condition, &timing, now), alert.awaits_time(&timing)), (change, awaits_time), "at {now}");
        }
        let mut restarted = Alert::kept(100, true);
        assert!(restarted.judged(None, &timing, 105).is_none() && restarted.awaits_time(&timing));
        assert_eq!(restarted.judged(Some(false), &timing, 110), Some(Change::Resolves { fired_at: 100 }));
    }
}
