//! Where it is counted what happens on sites, and whether that is the same place for processes that share a database.

use std::fmt;
use std::str::FromStr;

use crate::roles::Roles;

/// Where a process counts, or asks what was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedIn {
    /// In its own memory.
    Memory,
    /// In ClickHouse, where several processes can.
    ClickHouse,
    /// In the tables of an existing Plausible.
    Plausible,
    /// At Plausible's hosted service.
    HostedPlausible,
}

/// A text names no such place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be memory, clickhouse, plausible or plausible_api")]
pub struct NoSuchPlace;

impl CountedIn {
    const ALL: [Self; 4] = [Self::Memory, Self::ClickHouse, Self::Plausible, Self::HostedPlausible];

    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::ClickHouse => "clickhouse",
            Self::Plausible => "plausible",
            Self::HostedPlausible => "plausible_api",
        }
    }
}

impl FromStr for CountedIn {
    type Err = NoSuchPlace;

    fn from_str(text: &str) -> Result<Self, NoSuchPlace> {
        Self::ALL.into_iter().find(|place| place.name() == text).ok_or(NoSuchPlace)
    }
}

impl fmt::Display for CountedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where another process counts, if what the two count would not come together. One that only sends counts nothing, and of one that
/// an earlier version began it is not known.
pub fn counts_apart((mine, here): (Roles, CountedIn), (theirs, there): (Roles, Option<CountedIn>)) -> Option<CountedIn> {
    there.filter(|there| *there != here && counts(mine) && counts(theirs))
}

/// Whether a process counts, decides by counts, or shows them.
fn counts(roles: Roles) -> bool {
    let Roles { web, ingest, detect, dispatch: _ } = roles;
    web || ingest || detect
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_and_shown() {
        for place in CountedIn::ALL {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert_eq!("redis".parse::<CountedIn>(), Err(NoSuchPlace));
    }

    #[test]
    fn processes_that_count_apart() {
        use CountedIn::{ClickHouse, HostedPlausible, Memory, Plausible};
        let cases = [
            (("web,ingest", Memory), ("ingest", Some(Memory)), None),
            (("web,ingest", Memory), ("ingest", Some(ClickHouse)), Some(ClickHouse)),
            (("ingest", ClickHouse), ("web", Some(Memory)), Some(Memory)),
            (("detect", Plausible), ("web,dispatch", Some(HostedPlausible)), Some(HostedPlausible)),
            (("dispatch", Memory), ("web,ingest,dispatch,detect", Some(ClickHouse)), None),
            (("web,ingest,dispatch,detect", ClickHouse), ("dispatch", Some(Memory)), None),
            (("ingest", ClickHouse), ("ingest", None), None),
        ];
        for ((mine, here), (theirs, there), expected) in cases {
            let roles = |names: &str| names.parse().expect("roles");
            assert_eq!(counts_apart((roles(mine), here), (roles(theirs), there)), expected, "{mine} {here}, {theirs} {there:?}");
        }
    }
}
