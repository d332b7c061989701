//! Log lines on standard error, for people or for machines.
//!
//! It decides what they look like and which are written; what is in them is the business of those who write them.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::config::LogFormat;

const VARIABLE: &str = "RUST_LOG";
/// What libraries tell at `info` is nothing that an operator can use.
const DEFAULT: &str = "info,h2=warn,hickory_net=warn,hickory_proto=warn,hickory_resolver=warn,hyper=warn,hyper_util=warn,refinery_core=warn,\
     rustls=warn";

/// Why there are no log lines.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    /// `RUST_LOG` says nothing that can be understood.
    #[error("{VARIABLE}: {0}")]
    Filter(#[from] ParseError),
    /// Something else writes log lines already.
    #[error("log lines are set up already: {0}")]
    Twice(#[from] TryInitError),
}

/// Writes log lines to standard error from now on: those that `RUST_LOG` asks for, or from `info` on.
pub(crate) fn init(format: LogFormat) -> Result<(), TelemetryError> {
    let wanted = std::env::var_os(VARIABLE).map(|wanted| wanted.to_string_lossy().into_owned());
    let filter = filter(wanted.as_deref())?;
    Ok(subscriber(format, filter, io::stderr, colours(&io::stderr())).try_init()?)
}

/// Writes only warnings and errors, for people, unless `RUST_LOG` asks for more: where standard output tells what happens.
pub(crate) fn init_quiet() -> Result<(), TelemetryError> {
    let wanted = std::env::var_os(VARIABLE).map(|wanted| wanted.to_string_lossy().into_owned());
    let filter = filter(Some(wanted.as_deref().unwrap_or("warn")))?;
    Ok(subscriber(LogFormat::Text, filter, io::stderr, colours(&io::stderr())).try_init()?)
}

/// Whether `stream` is a terminal, and its user wants colours there. See <https://no-color.org>.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

fn filter(wanted: Option<&str>) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(wanted.filter(|wanted| !wanted.trim().is_empty()).unwrap_or(DEFAULT))
}

fn subscriber<W>(format: LogFormat, filter: EnvFilter, writer: W, ansi: bool) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => Box::new(registry.with(lines.with_ansi(ansi))),
        LogFormat::Json => Box::new(registry.with(lines.json().flatten_event(true).with_span_list(false))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use bellwether_domain::time::Timestamp;
    use tracing::subscriber::with_default;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no panic").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written when something happens at two levels.
    fn lines(format: LogFormat, wanted: Option<&str>) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = filter(wanted).expect("a filter");
        with_default(subscriber(format, filter, move || writer.clone(), false), || {
            tracing::info!(delivery_id = "0199", attempts = 2, "delivered");
            tracing::debug!("more");
        });
        let bytes = lines.0.lock().expect("no panic").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn json_is_one_flat_object_a_line() {
        let lines = lines(LogFormat::Json, None);
        let line: serde_json::Value = serde_json::from_str(&lines).expect("one object");
        assert_eq!(line["message"], "delivered");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["delivery_id"], "0199");
        assert_eq!(line["attempts"], 2);
        assert!(line["timestamp"].as_str().expect("a time").parse::<Timestamp>().is_ok(), "{lines}");
    }

    #[test]
    fn text_is_plain_without_colours() {
        let lines = lines(LogFormat::Text, None);
        assert!(lines.ends_with("delivered delivery_id=\"0199\" attempts=2\n") && !lines.contains('\u{1b}'), "{lines}");
    }

    #[test]
    fn levels() {
        let cases = [(None, 1), (Some(""), 1), (Some("debug"), 2), (Some("warn"), 0), (Some("off,bellwether=debug"), 2)];
        for (wanted, count) in cases {
            assert_eq!(lines(LogFormat::Json, wanted).lines().count(), count, "{wanted:?}");
        }
        assert!(filter(Some("bellwether=loud")).is_err());
    }
}
