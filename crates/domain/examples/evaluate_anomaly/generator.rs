//! Months of traffic that look like real ones.
//!
//! The visitors of a minute are drawn from a Poisson distribution, whose mean is a product of: the size of the site; the hour of the
//! day, from a quarter at four in the morning to more than one and a half in the afternoon; the day of the week, which has two quiet ones;
//! a slow noise that wanders by about 12 % from hour to hour, as news, weather and luck do; and a week's own level, within 10 %.
//! On top of that come incidents: campaigns, which double to sextuple the visitors within ten minutes and fade for one to four hours, and outages,
//! in which nobody or one in ten comes through for half an hour to four hours. In the first four weeks there are some, too: what is
//! usual has to be learned from such weeks.

use bellwether_domain::history::{Gaps, HOUR_MINUTES, Minute};

pub(crate) const DAY: u32 = 24 * HOUR_MINUTES;
pub(crate) const WEEK: u32 = 7 * DAY;
/// A Monday at midnight.
const MONDAY: u32 = 2_928 * WEEK + 4 * DAY;
const WEEKS: u32 = 8;
/// Between two incidents pass so many minutes at least, and at most three times as many.
const APART: u32 = 2 * DAY;

/// Eight weeks of a site.
pub(crate) struct Month {
    pub(crate) first: u32,
    pub(crate) minutes: Vec<Minute>,
    /// Those of the last four weeks.
    pub(crate) incidents: Vec<Incident>,
}

/// Something unusual.
#[derive(Clone)]
pub(crate) struct Incident {
    pub(crate) from: u32,
    pub(crate) until: u32,
    /// More come; otherwise fewer.
    pub(crate) is_campaign: bool,
    factor: f64,
}

impl Month {
    /// The month of this number of a site with so many visitors an hour on average.
    pub(crate) fn new(visitors_an_hour: f64, number: u64) -> Self {
        let mut random = Random(number * 1_000_003 + visitors_an_hour.to_bits());
        let incidents = incidents(&mut random);
        let (mut noise, mut level) = (0.0, 1.0);
        let mut minutes = Vec::new();
        for minute in MONDAY..MONDAY + WEEKS * WEEK {
            if minute.is_multiple_of(HOUR_MINUTES) {
                noise = 0.8 * noise + 0.07 * random.normal();
            }
            if (minute - MONDAY).is_multiple_of(WEEK) {
                level = 0.9 + 0.2 * random.uniform();
            }
            let usual = visitors_an_hour / 60.0 * of_day(minute) * of_week(minute) * f64::exp(noise) * level;
            let unusual: f64 = incidents.iter().map(|incident| incident.factor_at(minute)).product();
            let mut visitors = Gaps::default();
            visitors[0] = random.poisson(usual * unusual);
            minutes.push(Minute { minute, visitors, ..Minute::default() });
        }
        let judged = incidents.into_iter().filter(|incident| incident.from >= MONDAY + WEEKS / 2 * WEEK).collect();
        Self { first: MONDAY, minutes, incidents: judged }
    }
}

fn of_day(minute: u32) -> f64 {
    let hours = f64::from(minute % DAY) / 60.0;
    1.0 + 0.75 * f64::cos((hours - 16.0) / 24.0 * std::f64::consts::TAU)
}

fn of_week(minute: u32) -> f64 {
    if (minute - MONDAY) % WEEK / DAY >= 5 { 0.6 } else { 1.15 }
}

fn incidents(random: &mut Random) -> Vec<Incident> {
    let (mut all, mut from) = (Vec::new(), MONDAY);
    loop {
        from += APART + random.below(2 * APART);
        let is_campaign = random.below(2) == 0;
        let (minutes, factor) = match is_campaign {
            true => (60 + random.below(180), 2.0 + 4.0 * random.uniform()),
            false => (30 + random.below(210), if random.below(2) == 0 { 0.0 } else { 0.1 }),
        };
        if from + minutes >= MONDAY + WEEKS * WEEK {
            return all;
        }
        all.push(Incident { from, until: from + minutes, is_campaign, factor });
    }
}

impl Incident {
    /// How many times as many come in a minute.
    fn factor_at(&self, minute: u32) -> f64 {
        let passed = f64::from(minute.saturating_sub(self.from));
        let length = f64::from(self.until - self.from);
        match self.is_campaign {
            _ if !(self.from..self.until).contains(&minute) => 1.0,
            false => self.factor,
            true if passed < 10.0 => 1.0 + (self.factor - 1.0) * passed / 10.0,
            true => 1.0 + (self.factor - 1.0) * (1.0 - (passed - 10.0) / length),
        }
    }
}

/// Numbers that look random and are the same each time (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1, without either.
    fn uniform(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).unwrap_or(0);
        (f64::from(bits) + 0.5) / (f64::from(u32::MAX) + 1.0)
    }

    fn below(&mut self, limit: u32) -> u32 {
        u32::try_from(self.next() % u64::from(limit.max(1))).unwrap_or(0)
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * f64::cos(std::f64::consts::TAU * self.uniform())
    }

    /// By Knuth's method for few, and by the normal distribution for many.
    fn poisson(&mut self, mean: f64) -> u32 {
        if mean > 30.0 {
            let number = (mean + mean.sqrt() * self.normal()).round().max(0.0);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is whole, and within what a minute has"
            )]
            return number as u32;
        }
        let (limit, mut product, mut number) = (f64::exp(-mean), self.uniform(), 0);
        while product > limit {
            product *= self.uniform();
            number += 1;
        }
        number
    }
}
