//! Reading a log of events that grows late and in no order, and whose rows have no ids.
//!
//! A [`Reading`] goes over the latest stretch again and again. It knows how many rows it has seen of each second, so that only seconds
//! that got more are read anew, and the ids of the completions that were told. An id is made of the row, so what is read twice has the
//! same. A [`LateCount`] counts completions that come in no order. Neither knows where rows come from, or what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use crate::id::EventId;
use crate::plausible::PlausibleId;
use crate::time::{Second, Timestamp};

/// A row may be there this much later than its time, in seconds, and is still found.
pub const OVERLAP_SECONDS: u32 = 60;
/// What happened longer ago than this, in seconds, while nothing was read, is not read any more.
pub const MAX_BEHIND_SECONDS: u32 = 6 * 3_600;

/// So much is caught up with at a time, in seconds.
const STEP_SECONDS: u32 = 300;
/// So many rows are read at a time; a single second of a site may have more.
const MAX_ROWS: u32 = 20_000;
/// Of so many seconds.
const MAX_SECONDS: usize = 2_000;

/// Which rows are to be looked at: those of these sites, names and seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The sites.
    pub sites: Vec<PlausibleId>,
    /// The names of events.
    pub names: Vec<String>,
    /// The seconds.
    pub seconds: Range<Second>,
}

/// How many rows a site has in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The site.
    pub site: PlausibleId,
    /// The second.
    pub second: Second,
    /// How many.
    pub rows: u32,
}

/// How far a log was read.
#[derive(Debug)]
pub struct Reading {
    /// Everything before was looked at once at least.
    read_until: Second,
    sites: Vec<PlausibleId>,
    names: Vec<String>,
    seen: BTreeMap<(Second, PlausibleId), u32>,
    told: BTreeSet<EventId>,
}

/// What became of a log at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Everything before was looked at once at least.
    pub read_until: Second,
    /// The completions that were found.
    pub completed: Vec<EventId>,
}

impl Reading {
    /// Goes on where reading ended, if it ever began, with the completions that were `told` since [`OVERLAP_SECONDS`] before.
    pub fn resume(read_until: Option<Second>, told: impl IntoIterator<Item = EventId>, now: Second) -> Self {
        let read_until = read_until.unwrap_or(now);
        Self { read_until, sites: Vec::new(), names: Vec::new(), seen: BTreeMap::new(), told: told.into_iter().collect() }
    }

    /// By how much more than can be caught up with the log is ahead, in seconds.
    pub fn lost_seconds(&self, now: Second) -> u32 {
        now.saturating_sub(MAX_BEHIND_SECONDS).saturating_sub(self.read_until)
    }

    /// What is to be looked at now, of these sites and names.
    pub fn wanted(&mut self, sites: Vec<PlausibleId>, names: Vec<String>, now: Second) -> Wanted {
        if (&self.sites, &self.names) != (&sites, &names) {
            // What was counted were other rows.
            self.seen.clear();
            (self.sites, self.names) = (sites.clone(), names.clone());
        }
        let after_a_step_back = now.saturating_add(OVERLAP_SECONDS);
        self.read_until = self.read_until.clamp(now.saturating_sub(MAX_BEHIND_SECONDS), after_a_step_back);
        let until = now.saturating_add(1).clamp(self.read_until, self.read_until.saturating_add(STEP_SECONDS));
        Wanted { sites, names, seconds: first_again(self.read_until)..until }
    }

    /// Which of the seconds that have rows must be read, as many as at a time, and how far everything is read then.
    pub fn unread(&self, counted: &[Rows], wanted: &Wanted) -> (Vec<Rows>, Second) {
        let (mut unread, mut count) = (Vec::new(), 0_u32);
        for rows in counted.iter().filter(|rows| self.seen.get(&(rows.second, rows.site)) != Some(&rows.rows)) {
            count = count.saturating_add(rows.rows);
            if !unread.is_empty() && (count > MAX_ROWS || unread.len() == MAX_SECONDS) {
                return (unread, self.read_until);
            }
            unread.push(*rows);
        }
        (unread, wanted.seconds.end)
    }

    /// Whether a completion has been told.
    pub fn is_told(&self, id: EventId) -> bool {
        self.told.contains(&id)
    }

    /// What was found is kept: of these seconds so many rows were read.
    pub fn keep(&mut self, read: impl IntoIterator<Item = Rows>, progress: Progress) {
        self.seen.extend(read.into_iter().map(|rows| ((rows.second, rows.site), rows.rows)));
        self.told.extend(progress.completed);
        self.read_until = progress.read_until;
        self.seen = self.seen.split_off(&(first_again(self.read_until), PlausibleId(0)));
        self.told = self.told.split_off(&first_told(self.read_until));
    }
}

/// The first second that is looked at again.
fn first_again(read_until: Second) -> Second {
    read_until.saturating_sub(OVERLAP_SECONDS)
}

/// No id before it is looked at again.
pub fn first_told(read_until: Second) -> EventId {
    EventId::first_at(Timestamp::EPOCH + Duration::from_secs(u64::from(first_again(read_until))))
}

/// Completions that a threshold over one waits to see the rest of, where they come in no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LateCount {
    /// In order.
    seconds: Vec<Second>,
}

impl LateCount {
    /// As it was kept.
    pub fn kept(mut seconds: Vec<Second>) -> Self {
        seconds.sort_unstable();
        Self { seconds }
    }

    /// The completions that wait, in order.
    pub fn seconds(&self) -> &[Second] {
        &self.seconds
    }

    /// Counts a completion; true when so many are within a window that the threshold is filled. These are not counted again.
    pub fn complete(&mut self, threshold: u32, window_seconds: u32, second: Second) -> bool {
        let (threshold, kept_seconds) = (threshold.max(1) as usize, window_seconds.saturating_add(OVERLAP_SECONDS));
        let place = self.seconds.partition_point(|other| *other <= second);
        self.seconds.insert(place, second);
        let newest = self.seconds.last().copied().unwrap_or(second);
        let over = self.seconds.partition_point(|other| newest - *other >= kept_seconds);
        self.seconds.drain(..over);
        let full = self.seconds.windows(threshold).position(|some| some[threshold - 1] - some[0] < window_seconds);
        full.inspect(|first| drop(self.seconds.drain(*first..first + threshold))).is_some()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Second = 1_000_000;

    fn id(second: Second, number: usize) -> EventId {
        EventId::made_of(Timestamp::EPOCH + Duration::from_secs(u64::from(second)), &[&number.to_be_bytes()])
    }

    /// Rows by when they are there, each with its second. All of them complete something.
    struct Log(Vec<(Second, Second)>);

    impl Log {
        fn rows(&self, now: Second, seconds: &Range<Second>) -> impl Iterator<Item = (usize, Second)> {
            let is_there =
                move |(_, (there_at, second)): &(usize, &(Second, Second))| *there_at <= now && seconds.contains(second);
            self.0.iter().enumerate().filter(is_there).map(|(number, (_, second))| (number, *second))
        }

        fn counted(&self, now: Second, seconds: &Range<Second>) -> Vec<Rows> {
            let mut counts = BTreeMap::new();
            self.rows(now, seconds).for_each(|(_, second)| *counts.entry(second).or_insert(0) += 1);
            counts.into_iter().map(|(second, rows)| Rows { site: PlausibleId(1), second, rows }).collect()
        }
    }

    /// What a database would keep.
    #[derive(Default)]
    struct Kept {
        read_until: Option<Second>,
        told: Vec<EventId>,
    }

    fn look(log: &Log, reading: &mut Reading, kept: &mut Kept, now: Second) {
        let wanted = reading.wanted(vec![PlausibleId(1)], Vec::new(), now);
        let (unread, read_until) = reading.unread(&log.counted(now, &wanted.seconds), &wanted);
        let is_read = |second: Second| unread.iter().any(|rows| rows.second == second);
        let found = log.rows(now, &wanted.seconds).filter(|(_, second)| is_read(*second));
        let completed: Vec<_> = found.map(|(number, second)| id(second, number)).filter(|id| !reading.is_told(*id)).collect();
        kept.told.extend(&completed);
        kept.read_until = Some(read_until);
        reading.keep(unread, Progress { read_until, completed });
    }

    proptest! {
        #[test]
        fn every_row_is_found_once_whatever_is_late_and_whenever_it_begins_anew(
            rows in prop::collection::vec((0_u32..400, 0_u32..OVERLAP_SECONDS - 1), 0..80),
            ends in prop::collection::btree_set(1_u32..500, 0..6),
            pause in 0_u32..2_000,
        ) {
            let log = Log(rows.iter().map(|(second, late)| (START + second + late, START + second)).collect());
            let mut kept = Kept::default();
            let mut reading = Reading::resume(None, [], START);
            let mut now = START;
            for tick in 0..600 {
                now += if tick == 100 { pause } else { 1 };
                look(&log, &mut reading, &mut kept, now);
                if ends.contains(&tick) {
                    let again = first_told(kept.read_until.expect("a look"));
                    reading = Reading::resume(kept.read_until, kept.told.iter().copied().filter(|id| *id >= again), now);
                }
            }
            kept.told.sort_unstable();
            let mut all: Vec<_> = rows.iter().enumerate().map(|(number, (second, _))| id(START + second, number)).collect();
            all.sort_unstable();
            prop_assert_eq!(kept.told, all);
        }
    }

    #[test]
    fn only_what_changed_is_read_and_not_too_much_of_it() {
        let rows = |second, rows| Rows { site: PlausibleId(1), second, rows };
        let mut reading = Reading::resume(Some(START), [], START);
        let wanted = reading.wanted(vec![PlausibleId(1)], Vec::new(), START + 9);
        assert_eq!(wanted.seconds, START - OVERLAP_SECONDS..START + 10);
        let counted = [rows(START, 14_000), rows(START + 1, 5_000), rows(START + 2, 2_000)];
        assert_eq!(reading.unread(&counted, &wanted), (counted[..2].to_vec(), START));
        reading.keep(counted[..2].to_vec(), Progress { read_until: START, completed: Vec::new() });
        assert_eq!(reading.unread(&counted, &wanted), (counted[2..].to_vec(), START + 10));
        reading.keep(counted[2..].to_vec(), Progress { read_until: START + 10, completed: Vec::new() });
        let more = [rows(START, 14_000), rows(START + 1, 5_001), rows(START + 2, 2_000)];
        assert_eq!(reading.unread(&more, &wanted).0, more[1..2]);
        reading.wanted(vec![PlausibleId(1), PlausibleId(2)], Vec::new(), START + 9);
        assert_eq!(reading.unread(&more, &wanted).0, more[..2], "other rows are counted now");
    }

    #[test]
    fn clocks_that_are_set_and_long_pauses() {
        let now = START + 100 * MAX_BEHIND_SECONDS;
        for (read_until, seconds, lost) in [
            (now - 100, now - 160..now + 1, 0),
            (now - 1_000, now - 1_060..now - 700, 0),
            (now - MAX_BEHIND_SECONDS - 9, now - MAX_BEHIND_SECONDS - 60..now - MAX_BEHIND_SECONDS + 300, 9),
            (now + 30, now - 30..now + 30, 0),
            (now + 9_000, now..now + 60, 0),
        ] {
            let mut reading = Reading::resume(Some(read_until), [], now);
            assert_eq!(reading.lost_seconds(now), lost);
            assert_eq!(reading.wanted(Vec::new(), Vec::new(), now).seconds, seconds);
        }
    }

    #[test]
    fn completions_fill_a_threshold_in_whatever_order_they_come() {
        for (completions, fills) in [
            (&[0, 5, 9, 10, 11, 30, 41, 42, 43][..], &[2, 8][..]),
            (&[9, 0, 5], &[2]),
            (&[0, 20, 9, 30, 5], &[4]),
            (&[100, 0, 200, 5, 9], &[]),
            (&[], &[]),
        ] {
            let mut count = LateCount::default();
            let filled = completions.iter().enumerate().filter(|(_, second)| count.complete(3, 10, START + **second));
            assert_eq!(filled.map(|(index, _)| index).collect::<Vec<_>>(), fills, "{completions:?}");
        }
        let mut count = LateCount::kept(vec![5, 3]);
        assert!(count.complete(3, 10, 4) && count.seconds().is_empty());
    }
}
