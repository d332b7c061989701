//! A receiver of webhooks on this machine, for development: [`run`] prints each on standard output, and [`receive`] hands each
//! to anybody else who wants to look at them, as `demo` does.
//!
//! It keeps nothing, and it takes every path for its own. It is not made for the open internet.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bellwether_domain::ambient::Clock;
use bellwether_domain::signature::Secret;
use bellwether_domain::time::Timestamp;
use owo_colors::{OwoColorize as _, Style};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli;
use crate::telemetry::colours;
use crate::verify::{Check, Verification, verify};

const MAX_BODY_BYTES: usize = 1024 * 1024;
/// How long requests that have begun may take to end, once it is time to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// How webhooks are received.
pub(crate) struct Receiver {
    /// What they are signed with, to verify them.
    pub(crate) secret: Option<Secret>,
    /// What they are answered with.
    pub(crate) status: StatusCode,
    /// Tells when they came.
    pub(crate) clock: Arc<dyn Clock>,
    /// Is told of each, before it is answered. It must not wait.
    pub(crate) on_webhook: Box<dyn Fn(&Received) + Send + Sync>,
}

/// A webhook that came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// When.
    pub(crate) at: Timestamp,
    /// `X-Webhook-Event`, if it was there.
    pub(crate) event_type: Option<String>,
    /// `X-Webhook-Event-ID`, if it was there.
    pub(crate) event_id: Option<String>,
    /// What its signatures are worth; none if there is no secret to verify them with.
    pub(crate) verification: Option<Verification>,
    /// Its body as it came: at most 1 MiB.
    pub(crate) body: Bytes,
}

/// `bellwether receive`: until Ctrl-C, or until nobody reads standard output any more.
pub(crate) async fn run(command: cli::Receive, clock: Arc<dyn Clock>) -> io::Result<()> {
    let listener = TcpListener::bind(command.listen).await?;
    writeln!(io::stderr(), "Receiving webhooks at http://{}/, any path. Ctrl-C stops.", listener.local_addr()?)?;
    let shutdown = CancellationToken::new();
    let (style, unread) = (Styles::new(colours(&io::stdout())), shutdown.clone());
    let on_webhook = move |webhook: &Received| {
        if print(&show(webhook, &style)).is_err() {
            unread.cancel();
        }
    };
    let receiver = Receiver { secret: command.secret, status: command.status, clock, on_webhook: Box::new(on_webhook) };
    let interrupted = async {
        let _ = shutdown.run_until_cancelled(tokio::signal::ctrl_c()).await;
        shutdown.cancel();
    };
    tokio::join!(receive(listener, receiver, shutdown.clone()), interrupted).0
}

/// Receives webhooks until `shutdown`, and a moment longer those that have begun by then. Every POST to any path is one.
pub(crate) async fn receive(listener: TcpListener, receiver: Receiver, shutdown: CancellationToken) -> io::Result<()> {
    let serve = axum::serve(listener, router(receiver)).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = async { serve.await } => served,
        () = overdue => Ok(()),
    }
}

fn router(receiver: Receiver) -> Router {
    let every_path = post(take).layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(Arc::new(receiver));
    Router::new().fallback_service(every_path)
}

async fn take(State(receiver): State<Arc<Receiver>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let at = receiver.clock.now();
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    (receiver.on_webhook)(&Received {
        at,
        event_type: text("x-webhook-event"),
        event_id: text("x-webhook-event-id"),
        verification: receiver.secret.as_ref().map(|secret| verify(&headers, &body, secret, at)),
        body,
    });
    receiver.status
}

/// How parts of the output look; all the same where colours are not welcome.
#[derive(Default)]
struct Styles {
    title: Style,
    faint: Style,
    good: Style,
    bad: Style,
}

impl Styles {
    fn new(colours: bool) -> Self {
        match colours {
            true => Self {
                title: Style::new().bold(),
                faint: Style::new().dimmed(),
                good: Style::new().green(),
                bad: Style::new().red(),
            },
            false => Self::default(),
        }
    }

    fn of(&self, check: Check) -> Style {
        if check == Check::Valid { self.good } else { self.bad }
    }
}

fn show(webhook: &Received, styles: &Styles) -> String {
    let name = |text: &Option<String>, absent: &str| text.as_deref().map_or(absent.to_owned(), printable);
    let event_type = name(&webhook.event_type, "(no X-Webhook-Event)");
    let event_id = name(&webhook.event_id, "(no X-Webhook-Event-ID)");
    let events = events(&webhook.body).map(|events| format!("  {events}")).unwrap_or_default();
    let mut shown = format!("{}  {}  {event_id}{events}\n", webhook.at.style(styles.faint), event_type.style(styles.title));
    match webhook.verification {
        None => shown += "  signatures         not verified\n",
        Some(Verification { body, standard }) => {
            let _ = writeln!(shown, "  X-Signature        {}", body.style(styles.of(body)));
            let _ = writeln!(shown, "  webhook-signature  {}", standard.style(styles.of(standard)));
        }
    }
    shown.push_str(&pretty(&webhook.body));
    shown.push_str("\n\n");
    shown
}

/// How many events a batch brings; none of anything else.
fn events(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    match body["events"].as_array()?.len() {
        1 => Some("1 event".to_owned()),
        events => Some(format!("{events} events")),
    }
}

/// The body indented if it is JSON, else as it came.
fn pretty(body: &[u8]) -> String {
    let json = serde_json::from_slice::<serde_json::Value>(body);
    match json.and_then(|json| serde_json::to_string_pretty(&json)) {
        Ok(text) => printable(&text),
        Err(_) => printable(&String::from_utf8_lossy(body)),
    }
}

/// Without control characters: a terminal would obey them.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt as _;

    use super::*;

    struct Still;

    impl Clock for Still {
        fn now(&self) -> Timestamp {
            Timestamp::from_micros(1_772_029_800_123_456)
        }

        fn running(&self) -> Duration {
            Duration::ZERO
        }
    }

    /// What a receiver with that secret answers to `request`, and what it was told of.
    async fn exchange(secret: Option<Secret>, request: Request<Body>) -> (StatusCode, Vec<Received>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let on_webhook = {
            let told = Arc::clone(&told);
            Box::new(move |webhook: &Received| told.lock().expect("no panic").push(webhook.clone()))
        };
        let receiver = Receiver { secret, status: StatusCode::ACCEPTED, clock: Arc::new(Still), on_webhook };
        let answer = router(receiver).oneshot(request).await.expect("an answer");
        let told = told.lock().expect("no panic").clone();
        (answer.status(), told)
    }

    fn secret() -> Secret {
        Secret::parse("a-secret-of-my-own").expect("a secret")
    }

    fn signed(path: &str, body: &'static str) -> Request<Body> {
        let now = Still.now().as_seconds();
        let request = Request::post(path)
            .header("X-Webhook-Event", "goal_completion")
            .header("X-Webhook-Event-ID", "0199")
            .header("X-Signature", secret().sign_body(body.as_bytes()))
            .header("webhook-id", "0199")
            .header("webhook-timestamp", now)
            .header("webhook-signature", secret().sign_standard("0199", now, body.as_bytes()));
        request.body(Body::from(body)).expect("a request")
    }

    #[tokio::test]
    async fn every_path_is_verified_and_answered() {
        for path in ["/", "/hooks/1?x=y"] {
            let (status, told) = exchange(Some(secret()), signed(path, "{}")).await;
            assert_eq!(status, StatusCode::ACCEPTED);
            assert_eq!(told.len(), 1, "{path}");
            assert_eq!((told[0].event_type.as_deref(), told[0].event_id.as_deref()), (Some("goal_completion"), Some("0199")));
            assert!(told[0].verification.expect("a verification").is_valid());
        }
        let other = Secret::parse("another-secret-than-that").expect("a secret");
        let (_, told) = exchange(Some(other), signed("/", "{}")).await;
        assert!(!told[0].verification.expect("a verification").is_valid());
    }

    #[tokio::test]
    async fn what_is_no_webhook_is_refused() {
        let request = |method: &str, bytes: usize| {
            Request::builder().method(method).body(Body::from(vec![b' '; bytes])).expect("a request")
        };
        let cases = [
            (request("GET", 0), StatusCode::METHOD_NOT_ALLOWED, 0),
            (request("POST", MAX_BODY_BYTES + 1), StatusCode::PAYLOAD_TOO_LARGE, 0),
            (request("POST", MAX_BODY_BYTES), StatusCode::ACCEPTED, 1),
        ];
        for (request, status, count) in cases {
            let (answered, told) = exchange(None, request).await;
            assert_eq!((answered, told.len()), (status, count));
        }
    }

    #[tokio::test]
    async fn shown_to_people() {
        let (_, told) = exchange(Some(secret()), signed("/", r#"{"count":1}"#)).await;
        let expected = concat!(
            "2026-02-25T14:30:00.123Z  goal_completion  0199\n",
            "  X-Signature        valid\n",
            "  webhook-signature  valid\n",
            "{\n  \"count\": 1\n}\n\n",
        );
        assert_eq!(show(&told[0], &Styles::new(false)), expected);
        assert!(show(&told[0], &Styles::new(true)).contains("\u{1b}[32mvalid\u{1b}["));

        let (_, told) = exchange(Some(secret()), signed("/", r#"{"events":[{},{}]}"#)).await;
        let shown = show(&told[0], &Styles::new(false));
        assert!(
            shown.starts_with("2026-02-25T14:30:00.123Z  goal_completion  0199  2 events\n  X-Signature        valid\n"),
            "{shown}"
        );

        let bare = Request::post("/").body(Body::from("not JSON \u{1b}[2J\r\n")).expect("a request");
        let (_, told) = exchange(None, bare).await;
        let expected = concat!(
            "2026-02-25T14:30:00.123Z  (no X-Webhook-Event)  (no X-Webhook-Event-ID)\n",
            "  signatures         not verified\n",
            "not JSON \u{fffd}[2J\u{fffd}\n\n\n",
        );
        assert_eq!(show(&told[0], &Styles::new(false)), expected);
    }
}
