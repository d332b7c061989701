//! How the conditions of a site stand, as its events come and as time passes.

use std::collections::HashMap;

use crate::alert::Alert;
use crate::baseline::{Usually, Usuals};
use crate::condition::{Condition, Seen};
use crate::detector::completions::CompletionWindow;
use crate::detector::segments::Visits;
use crate::detector::{Firing, Rules, fire};
use crate::id::{GoalId, TriggerId};
use crate::segment::VisitsWithin;
use crate::time::Second;
use crate::traffic::{Tops, Traffic, Visit};

/// So many triggers of a site that are away are remembered.
const MAX_AWAY: usize = 1_000;

/// The conditions of a site, in the order of its rules.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    standing: Vec<Standing>,
    /// How triggers stood that are away: their webhook is off, or they are gone.
    away: HashMap<TriggerId, Alert>,
    completions: Vec<CompletionWindow>,
    usuals: Usuals,
    /// When it was looked up what is usual.
    compared_at: Option<Second>,
    /// When time alone may have set something off.
    next_look: Option<Second>,
    /// What has changed and nobody is told of.
    quiet: Vec<Stand>,
}

/// How a trigger stands, to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The trigger.
    pub trigger_id: TriggerId,
    /// When it fired; 0 if it never did.
    pub fired_at: Second,
    /// Whether its condition has been true since.
    pub is_firing: bool,
}

#[derive(Debug)]
struct Standing {
    trigger_id: TriggerId,
    alert: Alert,
    usual: Option<Usually>,
}

impl Conditions {
    /// The conditions of these rules; `kept` says how triggers stood before.
    pub(super) fn new(rules: &Rules, watched_from: Second, kept: impl Fn(TriggerId) -> Option<Alert>) -> Self {
        let mut conditions = Self::default();
        conditions.stand(rules, watched_from, kept);
        conditions
    }

    /// Takes over changed rules: how triggers stand that stay is kept, and so are completions. Others are counted from now on.
    pub(super) fn adapt(&mut self, rules: &Rules, now: Second) {
        let before = std::mem::take(&mut self.standing);
        let mut stood = std::mem::take(&mut self.away);
        stood.extend(before.into_iter().map(|standing| (standing.trigger_id, standing.alert)));
        self.stand(rules, now.saturating_add(1), |id| stood.get(&id).copied());
        let is_away = |id: &TriggerId| !self.standing.iter().any(|standing| standing.trigger_id == *id);
        let away = stood.into_iter().filter(|(id, alert)| alert.fired_at().is_some() && is_away(id));
        self.away = away.take(MAX_AWAY).collect();
    }

    fn stand(&mut self, rules: &Rules, watched_from: Second, kept: impl Fn(TriggerId) -> Option<Alert>) {
        let standing = |id| Standing { trigger_id: id, alert: kept(id).unwrap_or_default(), usual: None };
        self.standing = rules.conditions.iter().map(|(target, _)| standing(target.trigger_id)).collect();
        let wanted = || rules.conditions.iter().filter_map(|(_, condition)| condition.completions());
        self.completions.retain(|window| wanted().any(|of| window.is_of(&of)));
        for of in wanted() {
            if !self.completions.iter().any(|window| window.is_of(&of)) {
                self.completions.push(CompletionWindow::new(of, watched_from));
            }
        }
        (self.compared_at, self.next_look) = (None, Some(watched_from));
    }

    /// Lets the time pass to `now`.
    pub(super) fn advance(&mut self, now: Second) {
        self.completions.iter_mut().for_each(|window| window.advance(now));
    }

    /// Whether some count completions.
    pub(super) fn count_completions(&self) -> bool {
        !self.completions.is_empty()
    }

    /// Takes note of a completion at `now` by a visit, whose source is that of its session.
    pub(super) fn complete(&mut self, goal_id: GoalId, visit: &Visit<'_>, now: Second) {
        self.completions.iter_mut().for_each(|window| window.complete(goal_id, (visit.page, visit.source), now));
    }

    /// Looks at all conditions at `now`, to which everything must have advanced.
    pub(super) fn observe(&mut self, rules: &Rules, visits: Visits<'_>, now: Second, firings: &mut Vec<Firing>) {
        self.compare(rules, now);
        self.next_look = None;
        let mut tops: Vec<(VisitsWithin, Tops)> = Vec::new();
        for (standing, (target, condition)) in self.standing.iter_mut().zip(&rules.conditions) {
            let seen = see(condition, visits, &self.completions, standing.usual, now);
            let before = standing.alert;
            let change = standing.alert.observe(condition, &seen, now);
            if let Some(at) = next_look(condition, &standing.alert, now) {
                self.next_look = Some(self.next_look.map_or(at, |next| next.min(at)));
            }
            match change {
                Some(change) => {
                    let tops = || tops_of(&mut tops, visits, condition.visits());
                    fire(firings, condition.told((change, now), &seen, &rules.goals, tops), *target);
                }
                None if is_to_be_kept(condition, &before, &standing.alert) => self.quiet.push(standing.stand()),
                None => {}
            }
        }
        if !self.quiet.is_empty() {
            self.next_look = Some(now);
        }
    }

    /// Takes back what fired, or was over.
    pub(super) fn take_back(&mut self, rules: &Rules, firing: &Firing, now: Second) {
        for (target, condition) in rules.conditions.iter().filter(|(target, _)| firing.targets.contains(target)) {
            // The rules may have changed since it fired, and with them what stands where.
            if let Some(standing) = self.standing.iter_mut().find(|standing| standing.trigger_id == target.trigger_id) {
                standing.alert = match firing.data.resolved() {
                    Some(fired_at) => Alert::kept(fired_at.second(), true),
                    None => Alert::pending(now.saturating_sub(condition.timing().for_seconds)),
                };
            }
        }
    }

    /// Whether nothing would be lost by forgetting this at `now`.
    pub(super) fn is_over(&self, rules: &Rules, now: Second) -> bool {
        let matters = |(standing, (_, condition)): (&Standing, &(_, Condition))| {
            let (alert, timing) = (&standing.alert, condition.timing());
            condition.is_of_absence() || alert.is_cooling(timing.cooldown_seconds, now) || alert.awaits_time(timing)
        };
        self.quiet.is_empty() && !self.standing.iter().zip(&rules.conditions).any(matters)
    }

    /// What is usual now, for those that compare with other days.
    pub(super) fn usuals(&mut self) -> &mut Usuals {
        self.compared_at = None;
        &mut self.usuals
    }

    /// When time alone may set something off.
    pub(super) fn next_look(&self) -> Option<Second> {
        self.next_look
    }

    /// What has changed and nobody is told of, to be kept.
    pub(super) fn quiet(&mut self) -> &mut Vec<Stand> {
        &mut self.quiet
    }

    /// Looks up what is usual, once a second.
    fn compare(&mut self, rules: &Rules, now: Second) {
        if self.compared_at.replace(now) == Some(now) {
            return;
        }
        for (standing, (_, condition)) in self.standing.iter_mut().zip(&rules.conditions) {
            standing.usual = condition.comparison().and_then(|comparison| self.usuals.at(&comparison, now));
        }
    }
}

impl Standing {
    fn stand(&self) -> Stand {
        let fired_at = self.alert.fired_at().unwrap_or(0);
        Stand { trigger_id: self.trigger_id, fired_at, is_firing: self.alert.is_firing() }
    }
}

fn see(condition: &Condition, visits: Visits<'_>, completions: &[CompletionWindow], usual: Option<Usually>, now: Second) -> Seen {
    let traffic = visits.of(condition.segment.as_deref());
    let visitors = traffic.map(|traffic| traffic.counts(condition.window_seconds())).unwrap_or_default();
    let mut seen = Seen { visitors, completions: 0, usual };
    if let Some(of) = condition.completions()
        && let Some(window) = completions.iter().find(|window| window.is_of(&of))
    {
        seen.completions = window.count();
        seen.visitors.watched_once &= window.is_watched(now);
    }
    seen
}

/// Looks at every visitor: once for all triggers of a window.
fn tops_of(known: &mut Vec<(VisitsWithin, Tops)>, visits: Visits<'_>, within: VisitsWithin) -> Tops {
    if let Some((_, tops)) = known.iter().find(|(known, _)| *known == within) {
        return tops.clone();
    }
    let window = within.window_seconds;
    let tops = |traffic: &Traffic| Tops { sources: traffic.top_sources(window), pages: traffic.top_pages(window) };
    let tops = visits.of(within.segment.as_deref()).map(tops).unwrap_or_default();
    known.push((within, tops.clone()));
    tops
}

/// When it is to be looked at again, though nothing happens. What is missed comes back with an event.
fn next_look(condition: &Condition, alert: &Alert, now: Second) -> Option<Second> {
    let awaits_time = alert.awaits_time(condition.timing());
    let step = match condition.is_of_absence() {
        _ if alert.is_pending() => 1,
        true if awaits_time || !alert.is_firing() => condition.step_seconds(),
        false if awaits_time => 1,
        _ => return None,
    };
    Some(now.saturating_add(step))
}

/// Whether a change that nobody is told of must outlive this process: it is over, or what may be missed was there.
fn is_to_be_kept(condition: &Condition, before: &Alert, after: &Alert) -> bool {
    let is_over = before.is_firing() && !after.is_firing();
    is_over || (condition.must_have_been_false() && !before.was_false() && after.was_false())
}
