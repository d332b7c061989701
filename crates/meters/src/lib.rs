//! What Bellwether measures of itself, for Prometheus.
//!
//! [`Meters`] has a handle for each thing that is measured, and [`Meters::register`] is the one place where all names and helps
//! stand. [`label`] has the values that labels may take. A meter belongs to the process, as its log does, so [`meters`] is found from
//! everywhere. Measuring allocates nothing and waits for nobody. Nothing here knows who reads it.

pub mod label;

use std::marker::PhantomData;
use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram, Key, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use label::{AttemptOutcome, Breaker, CountOutcome, Ending, EventOutcome, Label, QuestionOutcome, SpanOutcome, Switch};

/// Bounds of the buckets of what takes time.
const SECONDS: [f64; 20] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    3_600.0,
];
/// Bounds of the buckets of what is counted.
const COUNTS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Everything that is measured.
pub struct Meters {
    /// Requests that bring an event.
    pub events: Counters<EventOutcome>,
    /// From an event's whole body to its answer.
    pub event_seconds: Histogram,
    /// Deliveries that were committed.
    pub deliveries_created: Counter,
    /// Deliveries that are over.
    pub deliveries_completed: Counters<Ending>,
    /// Requests to endpoints.
    pub attempts: Counters<AttemptOutcome>,
    /// How long each took.
    pub attempt_seconds: Histogram,
    /// From a delivery's commit to its first attempt.
    pub first_attempt_seconds: Histogram,
    /// A transaction that writes.
    pub commit_seconds: Histogram,
    /// How many writes shared one.
    pub commit_writes: Histogram,
    /// Those that failed.
    pub commit_failures: Counter,
    /// Deliveries in this process's memory.
    pub deliveries_held: Gauge,
    /// Deliveries in the tables that belong to no process.
    pub deliveries_waiting: Gauge,
    /// For how long the first of these has been due.
    pub oldest_due_seconds: Gauge,
    /// Requests to endpoints that are under way.
    pub requests_in_flight: Gauge,
    /// Endpoints of webhooks that are on.
    pub breakers: Gauges<Breaker>,
    /// Sites.
    pub sites: Gauge,
    /// Webhooks that were not deleted.
    pub webhooks: Gauges<Switch>,
    /// Whether this process does what only one should.
    pub leads: Gauge,
    /// Whether the database answered the last time it was asked for these numbers.
    pub database_up: Gauge,
    /// Events on their way to where they are counted.
    pub counted: Counters<CountOutcome>,
    /// How long it takes to keep some of them.
    pub count_seconds: Histogram,
    /// A look at what is counted in shared storage.
    pub look_seconds: Histogram,
    /// Those that came to nothing.
    pub look_failures: Counter,
    /// For how long nobody has looked.
    pub look_age_seconds: Gauge,
    /// Questions to Plausible's hosted service.
    pub questions: Counters<QuestionOutcome>,
    /// Spans of traces.
    pub spans: Counters<SpanOutcome>,
    /// When the process began, in seconds since 1970.
    pub started_at_seconds: Gauge,
    described: Vec<Described>,
    prometheus: PrometheusHandle,
}

impl Meters {
    /// Everything by its name: what is added here is listed in `docs/operation.md` too.
    fn register(mut of: Registrar) -> Self {
        of.gauge_of("bellwether_build_info", "Always 1; the label tells the version.", VERSION).set(1.0);
        Self {
            events: of.counters("bellwether_events_total", "Requests that brought an event, by what became of it."),
            event_seconds: of.histogram(
                "bellwether_event_duration_seconds",
                "Time from an event's whole body to its answer, commit included.",
            ),
            deliveries_created: of.counter("bellwether_deliveries_created_total", "Deliveries that were committed."),
            deliveries_completed: of
                .counters("bellwether_deliveries_completed_total", "Deliveries that are over, by how they ended."),
            attempts: of.counters("bellwether_attempts_total", "Requests to endpoints, by how they ended."),
            attempt_seconds: of.histogram("bellwether_attempt_duration_seconds", "Time that a request to an endpoint took."),
            first_attempt_seconds: of.histogram(
                "bellwether_first_attempt_delay_seconds",
                "Time from a delivery's commit to the beginning of its first attempt.",
            ),
            commit_seconds: of
                .histogram("bellwether_commit_duration_seconds", "Time of a transaction that writes, its commit included."),
            commit_writes: of.histogram("bellwether_commit_writes", "How many writes shared a transaction."),
            commit_failures: of.counter("bellwether_commit_failures_total", "Transactions that write and failed as a whole."),
            deliveries_held: of.gauge("bellwether_deliveries_held", "Deliveries in the memory of this process."),
            deliveries_waiting: of.gauge(
                "bellwether_deliveries_waiting",
                "Open deliveries in the database that no process holds; 100000 stands for more, too.",
            ),
            oldest_due_seconds: of.gauge(
                "bellwether_oldest_due_age_seconds",
                "For how long the longest due of the waiting deliveries has been due; 0 without one.",
            ),
            requests_in_flight: of.gauge("bellwether_requests_in_flight", "Requests to endpoints that are under way."),
            breakers: of.gauges("bellwether_breakers", "Endpoints of webhooks that are on, by the state of their breakers."),
            sites: of.gauge("bellwether_sites", "Sites that are configured."),
            webhooks: of.gauges("bellwether_webhooks", "Webhooks, by whether they are switched on."),
            leads: of.gauge("bellwether_leads", "1 in the process that does what only one of several should, else 0."),
            database_up: of
                .gauge("bellwether_database_up", "1 if the database answered when it was last asked for what waits, else 0."),
            counted: of.counters("bellwether_counted_events_total", "Events for ClickHouse, by whether they are kept there."),
            count_seconds: of.histogram("bellwether_count_duration_seconds", "Time until some of them are kept in ClickHouse."),
            look_seconds: of
                .histogram("bellwether_look_duration_seconds", "Time of a look at what is counted in shared storage."),
            look_failures: of.counter("bellwether_look_failures_total", "Looks at what is counted that came to nothing."),
            look_age_seconds: of.gauge(
                "bellwether_look_age_seconds",
                "For how long no process has looked at what is counted in shared storage; 0 where it is in memory.",
            ),
            questions: of.counters(
                "bellwether_source_questions_total",
                "Questions to Plausible's hosted service, by what became of them.",
            ),
            spans: of.counters("bellwether_spans_total", "Spans of traces, by whether they reached the collector."),
            started_at_seconds: of.gauge("process_start_time_seconds", "When the process began, in seconds since 1970."),
            described: of.described,
            prometheus: of.recorder.handle(),
        }
    }

    /// All of it in Prometheus' text format.
    pub fn render(&self) -> String {
        self.prometheus.render()
    }

    /// Puts what was measured into its buckets. Until then each single value takes 16 bytes, so this is called every few seconds.
    pub fn keep_up(&self) {
        self.prometheus.run_upkeep();
    }

    /// What there is, as it is called.
    pub fn described(&self) -> &[Described] {
        &self.described
    }
}

/// The meters of this process.
pub fn meters() -> &'static Meters {
    static METERS: LazyLock<Meters> = LazyLock::new(|| Meters::register(Registrar::new()));
    &METERS
}

/// A meter, to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// The name and the values of its label, if it has one.
    pub label: Option<(&'static str, &'static [&'static str])>,
}

/// A counter for each value of a label.
pub struct Counters<L> {
    handles: Vec<Counter>,
    of: PhantomData<L>,
}

/// A gauge for each value of a label.
pub struct Gauges<L> {
    handles: Vec<Gauge>,
    of: PhantomData<L>,
}

impl<L: Label> Counters<L> {
    /// Counts so many more.
    pub fn add(&self, label: L, count: u64) {
        self.handles[label.index()].increment(count);
    }
}

impl<L: Label> Gauges<L> {
    /// It is this much now.
    pub fn set(&self, label: L, value: f64) {
        self.handles[label.index()].set(value);
    }
}

const VERSION: (&str, &[&str]) = ("version", &[env!("CARGO_PKG_VERSION")]);
const METADATA: Metadata<'static> = Metadata::new("bellwether", Level::INFO, None);

/// Makes meters, and writes down which.
struct Registrar {
    recorder: PrometheusRecorder,
    described: Vec<Described>,
}

impl Registrar {
    #[expect(clippy::expect_used, reason = "lists of buckets are refused when they are empty")]
    fn new() -> Self {
        Self { recorder: recorder().expect("buckets"), described: Vec::new() }
    }

    fn counter(&mut self, name: &'static str, help: &'static str) -> Counter {
        self.describe_counter(name, help, None);
        self.recorder.register_counter(&Key::from_static_name(name), &METADATA)
    }

    fn counters<L: Label>(&mut self, name: &'static str, help: &'static str) -> Counters<L> {
        self.describe_counter(name, help, Some((L::NAME, L::VALUES)));
        let counter = |value: &&'static str| self.recorder.register_counter(&key(name, L::NAME, value), &METADATA);
        Counters { handles: L::VALUES.iter().map(counter).collect(), of: PhantomData }
    }

    fn gauge(&mut self, name: &'static str, help: &'static str) -> Gauge {
        self.describe_gauge(name, help, None);
        self.recorder.register_gauge(&Key::from_static_name(name), &METADATA)
    }

    fn gauges<L: Label>(&mut self, name: &'static str, help: &'static str) -> Gauges<L> {
        self.describe_gauge(name, help, Some((L::NAME, L::VALUES)));
        let gauge = |value: &&'static str| self.recorder.register_gauge(&key(name, L::NAME, value), &METADATA);
        Gauges { handles: L::VALUES.iter().map(gauge).collect(), of: PhantomData }
    }

    fn gauge_of(
        &mut self,
        name: &'static str,
        help: &'static str,
        (label, values): (&'static str, &'static [&'static str]),
    ) -> Gauge {
        self.describe_gauge(name, help, Some((label, values)));
        self.recorder.register_gauge(&key(name, label, values[0]), &METADATA)
    }

    fn histogram(&mut self, name: &'static str, help: &'static str) -> Histogram {
        self.recorder.describe_histogram(name.into(), None, help.into());
        self.described.push(Described { name, kind: "histogram", help, label: None });
        self.recorder.register_histogram(&Key::from_static_name(name), &METADATA)
    }

    fn describe_counter(&mut self, name: &'static str, help: &'static str, label: Labelled) {
        self.recorder.describe_counter(name.into(), None, help.into());
        self.described.push(Described { name, kind: "counter", help, label });
    }

    fn describe_gauge(&mut self, name: &'static str, help: &'static str, label: Labelled) {
        self.recorder.describe_gauge(name.into(), None, help.into());
        self.described.push(Described { name, kind: "gauge", help, label });
    }
}

type Labelled = Option<(&'static str, &'static [&'static str])>;

/// What is called `…_seconds` has the buckets of times.
fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let builder = PrometheusBuilder::new().set_buckets(&COUNTS)?;
    Ok(builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)?.build_recorder())
}

fn key(name: &'static str, label: &'static str, value: &'static str) -> Key {
    Key::from_parts(name, vec![metrics::Label::from_static_parts(label, value)])
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_as_prometheus_has_them() {
        let meters = Meters::register(Registrar::new());
        let mut names = HashSet::new();
        for Described { name, kind, help, label } in meters.described() {
            assert!(names.insert(name), "{name} is there twice");
            assert!(name.starts_with("bellwether_") || name.starts_with("process_"), "{name}");
            assert!(name.chars().all(|char| char == '_' || char.is_ascii_lowercase()), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
            assert!(help.ends_with('.'), "{name}");
            assert!(label.is_none_or(|(_, values)| !values.is_empty() && values.len() < 20), "{name}");
        }
    }

    #[test]
    fn everything_is_there_from_the_start_and_counts() {
        let meters = Meters::register(Registrar::new());
        let line = |meters: &Meters, wanted: &str| meters.render().lines().any(|line| line == wanted);
        for Described { name, kind, help, label } in meters.described() {
            assert!(line(&meters, &format!("# TYPE {name} {kind}")), "{name}");
            assert!(line(&meters, &format!("# HELP {name} {help}")), "{name}");
            for value in label.iter().flat_map(|(_, values)| *values) {
                let series = format!("{name}{{{}=\"{value}\"}}", label.map_or("", |(label, _)| label));
                assert!(meters.render().contains(&series), "{series}");
            }
        }
        assert!(line(&meters, "bellwether_event_duration_seconds_count 0"));
        meters.events.add(EventOutcome::Dropped, 2);
        meters.webhooks.set(Switch::Off, 3.0);
        meters.event_seconds.record(0.003);
        meters.commit_writes.record(5.0);
        meters.keep_up();
        for wanted in [
            r#"bellwether_events_total{outcome="accepted"} 0"#,
            r#"bellwether_events_total{outcome="dropped"} 2"#,
            r#"bellwether_webhooks{state="off"} 3"#,
            r#"bellwether_event_duration_seconds_bucket{le="0.0025"} 0"#,
            r#"bellwether_event_duration_seconds_bucket{le="0.005"} 1"#,
            r#"bellwether_commit_writes_bucket{le="8"} 1"#,
            "bellwether_event_duration_seconds_sum 0.003",
        ] {
            assert!(line(&meters, wanted), "{wanted} in {}", meters.render());
        }
    }
}
