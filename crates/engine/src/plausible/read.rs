//! Completions in the events of a Plausible, each found once, however late its row is there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bellwether_domain::id::TriggerId;
use bellwether_domain::plausible::{PlausibleId, Row, completions, firings, names};
use bellwether_domain::reading::{LateCount, Progress, Reading, Rows};
use bellwether_domain::time::Timestamp;
use bellwether_store::{NewEvent, Read, Store, StoreError};
use tracing::warn;

use super::Plausible;
use crate::Engine;
use crate::counter::CountError;
use crate::registry::ActiveSite;

/// How far the events were read, as the tables have it.
pub(crate) struct Log {
    reading: Reading,
    counts: HashMap<TriggerId, LateCount>,
}

/// What was found in what was read now.
pub(crate) struct Stretch {
    /// How many rows there were of each second.
    rows: Vec<Rows>,
    /// How far it came, and what was found.
    progress: Progress,
    /// What triggers on several completions have counted then.
    counts: HashMap<TriggerId, LateCount>,
    /// What it set off.
    pub(crate) events: Vec<NewEvent>,
}

type Sites = BTreeMap<PlausibleId, Arc<ActiveSite>>;

impl Log {
    pub(crate) async fn resume(store: &Store, now: Timestamp) -> Result<Self, StoreError> {
        let kept = store.reading().await?;
        Ok(Self { reading: Reading::resume(kept.read_until, kept.told, now.second()), counts: kept.counts })
    }

    /// What was found was kept.
    pub(crate) fn go_on(&mut self, stretch: Stretch) {
        self.reading.keep(stretch.rows, stretch.progress);
        self.counts.extend(stretch.counts);
        self.counts.retain(|_, count| !count.seconds().is_empty());
    }

    fn count(&self, id: TriggerId) -> LateCount {
        self.counts.get(&id).cloned().unwrap_or_default()
    }
}

impl Stretch {
    /// What of it is kept.
    pub(crate) fn read(&self, log: &Log) -> Read {
        let changed = self.counts.iter().filter(|(id, count)| log.count(**id) != **count);
        Read { progress: self.progress.clone(), counts: changed.map(|(id, count)| (*id, count.clone())).collect() }
    }
}

impl Engine {
    /// Reads what is there by now and was not before.
    pub(crate) async fn read_on(&self, plausible: &Plausible, log: &mut Log, now: Timestamp) -> Result<Stretch, CountError> {
        let lost_seconds = log.reading.lost_seconds(now.second());
        if lost_seconds > 0 {
            warn!(lost_seconds, "the events of Plausible were not read for so long that the oldest are passed over");
        }
        let (sites, names) = self.awaited();
        let wanted = log.reading.wanted(sites.keys().copied().collect(), names, now.second());
        let counted = if sites.is_empty() { Vec::new() } else { plausible.events.count_rows(&wanted).await? };
        let (unread, read_until) = log.reading.unread(&counted, &wanted);
        let rows = plausible.events.rows(&wanted, &unread).await?;
        let mut stretch = Stretch {
            rows: unread.into_iter().map(|of| Rows { rows: count(&rows, of), ..of }).collect(),
            progress: Progress { read_until, completed: Vec::new() },
            counts: HashMap::new(),
            events: Vec::new(),
        };
        for (site, rows) in by_site(&sites, rows) {
            self.find_completions(site, &rows, log, &mut stretch);
        }
        Ok(stretch)
    }

    /// The sites for which completions are awaited, and the names of events that may be some.
    fn awaited(&self) -> (Sites, Vec<String>) {
        let (mut sites, mut all) = (BTreeMap::new(), Vec::new());
        for site in self.inner.registry.all() {
            let (Some(id), names) = (site.site.plausible_id, names(&site.rules, &site.watch)) else { continue };
            if !names.is_empty() {
                all.extend(names);
                sites.insert(id, site);
            }
        }
        all.sort_unstable();
        all.dedup();
        (sites, all)
    }

    /// Finds what was completed by the rows of a site, and what that sets off.
    fn find_completions(&self, site: &ActiveSite, rows: &[Row], log: &Log, stretch: &mut Stretch) {
        for (target, ..) in site.watch.completions() {
            stretch.counts.entry(target.trigger_id).or_insert_with(|| log.count(target.trigger_id));
        }
        let completions = completions(&site.goals, rows);
        for completion in completions.iter().filter(|completion| !log.reading.is_told(completion.id)) {
            stretch.progress.completed.push(completion.id);
            for (id, firing) in firings(&site.rules, &site.watch, &mut stretch.counts, completion) {
                stretch.events.push(self.inner.event(site, &firing, id, completion.row.time()));
            }
        }
    }
}

/// How many rows there are of a second of a site.
fn count(rows: &[Row], of: Rows) -> u32 {
    rows.iter().filter(|row| (row.site, row.second) == (of.site, of.second)).map(|row| row.copies).sum()
}

/// The rows of each site, in the order in which it happened.
fn by_site(sites: &Sites, rows: Vec<Row>) -> Vec<(&ActiveSite, Vec<Row>)> {
    let mut rows_of: BTreeMap<PlausibleId, Vec<Row>> = BTreeMap::new();
    for row in rows {
        rows_of.entry(row.site).or_default().push(row);
    }
    rows_of.values_mut().for_each(|rows| rows.sort_by_key(|row| row.second));
    rows_of.into_iter().filter_map(|(id, rows)| Some((&**sites.get(&id)?, rows))).collect()
}
