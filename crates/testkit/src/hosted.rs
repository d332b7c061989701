//! A service that answers as Plausible's hosted one does: its Stats API, its list of goals, its limit of requests.
//!
//! It counts by the clock that a test turns, and enforces the limit in every hour. What else can go wrong is the business of the
//! [`Receiver`] that it is served by.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::ambient::Ambient;
use bellwether_domain::time::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde_json::{Value, json};

use crate::receiver::{Answer, Behaviour, Received, Receiver, Responder};

/// The key that opens it.
pub const API_KEY: &str = "key-of-the-team-0123456789";

const ALLOWED_PER_HOUR: usize = 600;
const HOUR: Duration = Duration::from_secs(3_600);
const QUERY_KEYS: [&str; 8] = ["site_id", "metrics", "date_range", "dimensions", "filters", "order_by", "include", "pagination"];

/// The service, which ends when this is dropped.
pub struct HostedService {
    state: Arc<Mutex<State>>,
    ambient: Ambient,
    /// What serves it, and may misbehave.
    pub receiver: Receiver,
}

#[derive(Debug, Default)]
struct State {
    sites: BTreeMap<String, Site>,
    asked: VecDeque<Timestamp>,
    too_often: usize,
    lists_goals: bool,
    says_when: bool,
}

#[derive(Debug)]
struct Site {
    timezone: TimeZone,
    /// Display name, and what completes it.
    goals: Vec<(String, Value)>,
    completions: Vec<(Timestamp, String)>,
    visitors: u32,
    is_locked: bool,
}

impl HostedService {
    /// One that knows of no site.
    pub async fn start(ambient: &Ambient) -> Self {
        Self::served_by(Receiver::start().await, ambient)
    }

    /// One whose certificate only its receiver's root vouches for.
    pub async fn start_tls(ambient: &Ambient) -> Self {
        Self::served_by(Receiver::start_tls().await, ambient)
    }

    fn served_by(receiver: Receiver, ambient: &Ambient) -> Self {
        let state = State { lists_goals: true, ..State::default() };
        let service = Self { state: Arc::new(Mutex::new(state)), ambient: ambient.clone(), receiver };
        service.work();
        service
    }

    /// Where it is.
    pub fn url(&self) -> String {
        let scheme = if self.receiver.root_pem().is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.receiver.address())
    }

    /// Works again, whatever it did.
    pub fn work(&self) {
        let (state, ambient) = (self.state.clone(), self.ambient.clone());
        let respond = move |request: &Received| lock(&state).answer(request, ambient.now());
        self.receiver.behave(Behaviour::Serve(Responder::new(respond)));
    }

    /// Adds a site in a time zone.
    pub fn add_site(&self, domain: &str, timezone: &str) {
        #[expect(clippy::expect_used, reason = "a test that names no time zone has failed")]
        let timezone = TimeZone::get(timezone).expect("a time zone");
        let site = Site { timezone, goals: Vec::new(), completions: Vec::new(), visitors: 0, is_locked: false };
        self.lock().sites.insert(domain.to_owned(), site);
    }

    /// Adds a goal that an event of the same name completes.
    pub fn add_goal(&self, domain: &str, name: &str) {
        self.change(domain, |site| site.goals.push((name.to_owned(), json!({"goal_type": "event", "event_name": name}))));
    }

    /// Calls a goal by another name.
    pub fn rename_goal(&self, domain: &str, from: &str, to: &str) {
        self.change(domain, |site| {
            site.goals.iter_mut().filter(|(name, _)| name == from).for_each(|(name, _)| to.clone_into(name));
            site.completions.iter_mut().filter(|(_, name)| name == from).for_each(|(_, name)| to.clone_into(name));
        });
    }

    /// Takes a goal away.
    pub fn remove_goal(&self, domain: &str, name: &str) {
        self.change(domain, |site| site.goals.retain(|(goal, _)| goal != name));
    }

    /// A goal is completed so many times now.
    pub fn complete(&self, domain: &str, goal: &str, times: usize) {
        let now = self.ambient.now();
        self.change(domain, |site| site.completions.extend((0..times).map(|_| (now, goal.to_owned()))));
    }

    /// So many completions of a goal were none, as it turns out.
    pub fn forget(&self, domain: &str, goal: &str, times: usize) {
        self.change(domain, |site| {
            for _ in 0..times {
                let last = site.completions.iter().rposition(|(_, name)| name == goal);
                last.map(|index| site.completions.remove(index));
            }
        });
    }

    /// So many visitors are there now.
    pub fn set_visitors(&self, domain: &str, visitors: u32) {
        self.change(domain, |site| site.visitors = visitors);
    }

    /// Whether the subscription of a site's owner is over.
    pub fn lock_site(&self, domain: &str, is_locked: bool) {
        self.change(domain, |site| site.is_locked = is_locked);
    }

    /// Whether the key may list goals.
    pub fn list_goals(&self, may: bool) {
        self.lock().lists_goals = may;
    }

    /// Whether it says when it may be asked again.
    pub fn say_when(&self, says: bool) {
        self.lock().says_when = says;
    }

    /// Others of the team ask so many times now.
    pub fn ask_for_others(&self, times: usize) {
        let now = self.ambient.now();
        self.lock().asked.extend((0..times).map(|_| now));
    }

    /// How often it was asked in the last hour, and how often too often.
    pub fn asked(&self) -> (usize, usize) {
        let (mut state, now) = (self.lock(), self.ambient.now());
        state.forget_before(now);
        (state.asked.len(), state.too_often)
    }

    fn change(&self, domain: &str, change: impl FnOnce(&mut Site)) {
        #[expect(clippy::expect_used, reason = "a test that names no site of it has failed")]
        change(self.lock().sites.get_mut(domain).expect("a site"));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is wrong with a request: a status and a sentence.
type Refusal = (u16, &'static str);

const NOT_ALLOWED: Refusal = (401, "Invalid API key or site ID. Please make sure you're using a valid API key.");

impl State {
    fn answer(&mut self, request: &Received, now: Timestamp) -> Answer {
        match self.result(request, now) {
            Ok(value) => answer(200, &value),
            Err((429, sentence)) => {
                self.too_often += 1;
                let oldest = self.asked.front().copied().unwrap_or(now);
                let seconds = (oldest + HOUR).since(now).as_secs().max(1).to_string();
                let headers = if self.says_when { vec![("Retry-After", seconds)] } else { Vec::new() };
                Answer { headers, ..answer(429, &json!({"error": sentence})) }
            }
            Err((status, sentence)) => answer(status, &json!({"error": sentence})),
        }
    }

    fn result(&mut self, request: &Received, now: Timestamp) -> Result<Value, Refusal> {
        if request.header("authorization") != format!("Bearer {API_KEY}") {
            return Err(NOT_ALLOWED);
        }
        self.forget_before(now);
        if self.asked.len() >= ALLOWED_PER_HOUR {
            return Err((429, "Too many API requests. Your API key is limited to 600 requests per hour."));
        }
        self.asked.push_back(now);
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let parameter = |name| form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value);
        match (request.method.as_str(), path) {
            ("GET", "/api/v1/stats/realtime/visitors") => {
                let site = self.site(parameter("site_id").as_deref())?;
                Ok(json!(site.visitors))
            }
            ("GET", "/api/v1/sites/goals") if !self.lists_goals => Err(NOT_ALLOWED),
            ("GET", "/api/v1/sites/goals") => {
                let site = self.sites.get(parameter("site_id").as_deref().unwrap_or_default());
                let limit = parameter("limit").map_or(Ok(100), |limit| limit.parse()).unwrap_or(0);
                site.ok_or((404, "Site could not be found")).map(|site| site.list(limit))
            }
            ("POST", "/api/v2/query") => {
                let body: Value = serde_json::from_slice(&request.body).map_err(|_| (400, "not JSON"))?;
                self.site(body["site_id"].as_str())?.query(&body, now)
            }
            _ => Err((404, "there is nothing here")),
        }
    }

    fn site(&self, domain: Option<&str>) -> Result<&Site, Refusal> {
        let site = self.sites.get(domain.ok_or((400, "Missing site ID."))?).ok_or(NOT_ALLOWED)?;
        if site.is_locked { Err((402, "This Plausible site is locked due to missing active subscription.")) } else { Ok(site) }
    }

    fn forget_before(&mut self, now: Timestamp) {
        self.asked.retain(|at| now.since(*at) < HOUR);
    }
}

impl Site {
    fn list(&self, limit: usize) -> Value {
        let goal = |(index, (name, fields)): (usize, &(String, Value))| {
            let mut goal = fields.clone();
            goal["id"] = json!(index);
            goal["display_name"] = json!(name);
            goal
        };
        let goals: Vec<_> = self.goals.iter().enumerate().map(goal).take(limit.min(1_000)).collect();
        json!({"goals": goals, "meta": {"after": null, "before": null, "limit": limit}})
    }

    /// Only what is asked here, and that as strictly as there.
    fn query(&self, body: &Value, now: Timestamp) -> Result<Value, Refusal> {
        let keys = body.as_object().ok_or((400, "not an object"))?.keys();
        if keys.into_iter().any(|key| !QUERY_KEYS.contains(&key.as_str())) {
            return Err((400, "#: Schema does not allow additional properties."));
        }
        if body["metrics"] != json!(["visitors", "events"]) || body["dimensions"] != json!(["time:day", "event:goal"]) {
            return Err((400, "Invalid metrics or dimensions"));
        }
        let today = self.day(now);
        let text = |index: usize| body["date_range"][index].as_str().and_then(|day| day.parse::<Date>().ok());
        let (from, until) = match body["date_range"].as_str() {
            Some("day") => (today, today),
            Some(_) => return Err((400, "Invalid date_range")),
            None => text(0).zip(text(1)).ok_or((400, "Invalid date_range"))?,
        };
        let mut counts: BTreeMap<(Date, &str), u32> = BTreeMap::new();
        let is_a_goal = |name: &str| self.goals.iter().any(|(goal, _)| goal == name);
        for (at, goal) in self.completions.iter().filter(|(_, goal)| is_a_goal(goal)) {
            let day = self.day(*at);
            if (from..=until).contains(&day) {
                *counts.entry((day, goal)).or_default() += 1;
            }
        }
        let row = |((day, goal), count): ((Date, &str), u32)| json!({"metrics": [count.min(1), count], "dimensions": [day.to_string(), goal]});
        let results: Vec<_> = counts.into_iter().map(row).collect();
        let range = [self.moment(from, 0), self.moment(until, 23)];
        Ok(json!({"results": results, "meta": {}, "query": {"site_id": body["site_id"], "date_range": range}}))
    }

    fn day(&self, at: Timestamp) -> Date {
        self.zoned(at).date()
    }

    fn zoned(&self, at: Timestamp) -> jiff::Zoned {
        let at = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        at.to_zoned(self.timezone.clone())
    }

    /// As the service writes it, with the offset of the site's time zone.
    fn moment(&self, day: Date, hour: i8) -> String {
        let moment = day.at(hour, 0, 0, 0).to_zoned(self.timezone.clone());
        moment.map(|moment| moment.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()).unwrap_or_default()
    }
}

fn answer(status: u16, value: &Value) -> Answer {
    Answer { status, headers: vec![("Content-Type", "application/json".to_owned())], body: value.to_string().into_bytes() }
}
