//! Processes on one database: whether what they count comes together.
//!
//! A process that starts looks whether it may count beside those that live. What has to be counted by one of them is refused where
//! several take events, by the store in the transaction of the change.

use bellwether_domain::counting::{CountedIn, counts_apart};
use bellwether_domain::webhook::Webhook;

use crate::counter::Counter;
use crate::{Engine, Settings, StartError};

impl Settings {
    pub(crate) fn counted_in(&self) -> CountedIn {
        match (&self.counter, &self.hosted) {
            (Some(Counter::Own(_)), _) => CountedIn::ClickHouse,
            (Some(Counter::Plausible(_)), _) => CountedIn::Plausible,
            (None, Some(_)) => CountedIn::HostedPlausible,
            (None, None) => CountedIn::Memory,
        }
    }
}

impl Engine {
    /// Whether this process, which others know of by now, may count beside those that live. Errors: `Apart`, `Spread`.
    pub(crate) async fn must_count_with_others(&self) -> Result<(), StartError> {
        if !self.inner.store.is_shared() {
            return Ok(());
        }
        let (roles, here) = (self.roles(), self.inner.settings.counted_in());
        let apart =
            self.inner.dispatcher.hears_other(|other| counts_apart((roles, here), (other.roles, other.counted_in)).is_some());
        if let Some(there) = apart.await?.and_then(|other| other.counted_in) {
            return Err(StartError::Apart { here, there });
        }
        if !self.inner.settings.counts_here() || !roles.ingest {
            return Ok(());
        }
        // What was configured before the others knew of this process. What comes later they refuse.
        self.follow().await?;
        let counts_alone = self.inner.registry.counts_events();
        let is_spread = counts_alone && self.inner.dispatcher.hears_other(|other| other.roles.ingest).await?.is_some();
        if is_spread { Err(StartError::Spread) } else { Ok(()) }
    }

    /// Whether a change makes something count events that one process has to count.
    pub(crate) fn must_be_counted_by_one(&self, before: Option<&Webhook>, after: &Webhook) -> bool {
        self.inner.settings.counts_here() && counts_more(before, after)
    }
}

/// Whether triggers count events after a change that did not before. Those of a webhook that is off count nothing, but a new one is
/// refused there too, before somebody relies on it.
fn counts_more(before: Option<&Webhook>, after: &Webhook) -> bool {
    let is_switched_on = after.enabled && before.is_some_and(|before| !before.enabled);
    let known = |id| before.is_some_and(|before| before.triggers.iter().any(|trigger| trigger.id == id));
    after.triggers.iter().any(|trigger| trigger.rule.counts_events() && (is_switched_on || !known(trigger.id)))
}

/// Why a process may not start that would count `here` what others count `there`, and what to do about it.
pub(crate) fn apart(here: CountedIn, there: CountedIn) -> String {
    let what_to_do = match (here, there) {
        (_, CountedIn::Memory) => format!("take {} away, or stop the others first and set it for all of them", settings_of(here)),
        (CountedIn::Memory, _) => format!("set {} as they have it", settings_of(there)),
        _ => format!("set {} as they have it, and take {} away", settings_of(there), settings_of(here)),
    };
    format!("other servers on this database count {}, and this one would count {}: {what_to_do}", place(there), place(here))
}

fn place(counted_in: CountedIn) -> &'static str {
    match counted_in {
        CountedIn::Memory => "in the memory of each",
        CountedIn::ClickHouse => "in ClickHouse",
        CountedIn::Plausible => "in an existing Plausible",
        CountedIn::HostedPlausible => "at Plausible's hosted service",
    }
}

/// What an operator sets for it.
fn settings_of(counted_in: CountedIn) -> &'static str {
    match counted_in {
        CountedIn::Memory => "nothing",
        CountedIn::ClickHouse => "BELLWETHER_CLICKHOUSE_URL",
        CountedIn::Plausible => "BELLWETHER_SOURCE_PLAUSIBLE_CLICKHOUSE_URL and BELLWETHER_SOURCE_PLAUSIBLE_POSTGRES_URL",
        CountedIn::HostedPlausible => "BELLWETHER_SOURCE_PLAUSIBLE_API_API_KEY and BELLWETHER_SOURCE_PLAUSIBLE_API_SITES",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_that_counts_elsewhere_is_told() {
        use CountedIn::{ClickHouse, HostedPlausible, Memory};
        let cases = [
            (
                (Memory, ClickHouse),
                "in ClickHouse, and this one would count in the memory of each: set BELLWETHER_CLICKHOUSE_URL as they have it",
            ),
            (
                (ClickHouse, Memory),
                "in the memory of each, and this one would count in ClickHouse: take BELLWETHER_CLICKHOUSE_URL away, or stop the others first and set it for all of them",
            ),
            (
                (ClickHouse, HostedPlausible),
                "at Plausible's hosted service, and this one would count in ClickHouse: set BELLWETHER_SOURCE_PLAUSIBLE_API_API_KEY and BELLWETHER_SOURCE_PLAUSIBLE_API_SITES as they have it, and take BELLWETHER_CLICKHOUSE_URL away",
            ),
        ];
        for ((here, there), told) in cases {
            assert_eq!(apart(here, there), format!("other servers on this database count {told}"));
        }
    }
}
