//! What our crates log, to be read by a test.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;

/// What was written so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("the log").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// A log, and what fills it with everything that our crates say.
    pub(crate) fn new() -> (Self, impl Subscriber + Send + Sync) {
        let log = Self::default();
        let writer = log.clone();
        let ours = EnvFilter::new("off,bellwether_domain=trace,bellwether_store=trace,bellwether_engine=trace");
        let json = tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(ours);
        (log, json.with_writer(move || writer.clone()).finish())
    }

    /// All of it.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("the log").clone()).expect("a text")
    }

    /// The lines with this message.
    pub(crate) fn lines(&self, message: &str) -> Vec<Value> {
        let lines = self.text().lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>();
        lines.into_iter().filter(|line| line["message"] == message).collect()
    }
}
