//! One question to the hosted service: bounded in time and size, over TLS that is checked.
//!
//! Whatever the service does, there is an answer's body or a [`Failure`] that says what follows from it and, in plain words, why. What
//! the service itself says of a failure is not repeated: it may say what was sent. Nothing here knows when anything is asked.

use std::sync::Arc;
use std::time::Duration;

use bellwether_domain::endpoint::EndpointPolicy;
use bellwether_domain::hosted::{Answer, Day, NotAnAnswer, completions_query};
use bellwether_domain::polling::{Reply, Subject};
use bellwether_domain::retry::parse_retry_after;
use bellwether_domain::time::Timestamp;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};

use super::HostedSettings;
use crate::send::{AGENT, HttpClient, Resolve, SenderError, explain};
use crate::{Settings, StartError};

/// How long a question may take: the service counts while it is waited for.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// An answer has at most a row for each goal and day.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// So many sites are asked about to see whether anything is wrong.
const CHECKED_SITES: usize = 5;
/// As many as a site may have.
const GOALS_AT_A_TIME: usize = 1_000;
/// What a part of a query may not hold as it is.
const RESERVED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The service, where it is set.
pub(crate) struct Service {
    client: HttpClient,
    settings: HostedSettings,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) subject: Subject,
    /// The site's domain.
    pub(crate) domain: &'a str,
    /// The days whose completions are asked for; without them today's.
    pub(crate) days: Option<(Day, Day)>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What it means.
    pub(crate) reply: Reply,
    /// Why, in plain words.
    pub(crate) reason: String,
}

impl From<NotAnAnswer> for Failure {
    fn from(error: NotAnAnswer) -> Self {
        Self { reply: Reply::Refused, reason: error.to_string() }
    }
}

impl Service {
    pub(crate) fn new(hosted: &HostedSettings, settings: &Settings, resolver: Arc<dyn Resolve>) -> Result<Self, SenderError> {
        // Where it is is the operator's to say, and nobody else's.
        let anywhere = ["0.0.0.0/0", "::/0"].iter().filter_map(|network| network.parse().ok()).collect();
        let policy = EndpointPolicy { allow_http: true, allow_networks: anywhere };
        Ok(Self { client: HttpClient::new(&policy, settings, resolver)?, settings: hosted.clone() })
    }

    /// Where it is and what for.
    pub(crate) fn settings(&self) -> &HostedSettings {
        &self.settings
    }

    /// Whether it answers, and knows the sites; a few of them, since it counts questions.
    pub(crate) async fn check(&self, now: Timestamp) -> Result<(), StartError> {
        for domain in self.settings.sites.iter().take(CHECKED_SITES) {
            let ask = Ask { subject: Subject::Visitors, domain, days: None };
            let answer = self.ask(ask, now).await;
            answer.map_err(|Failure { reason, .. }| StartError::Hosted { domain: domain.clone(), reason })?;
        }
        Ok(())
    }

    /// Asks, and returns the answer.
    pub(crate) async fn ask(&self, ask: Ask<'_>, now: Timestamp) -> Result<Answer, Failure> {
        let asked = tokio::time::timeout(TIME_LIMIT, self.exchange(ask, now)).await;
        let body = asked.unwrap_or_else(|_| Err(failed(format!("no complete answer within {} s", TIME_LIMIT.as_secs()))))?;
        Ok(Answer::read(ask.subject, &body)?)
    }

    async fn exchange(&self, ask: Ask<'_>, now: Timestamp) -> Result<Bytes, Failure> {
        let request = self.request(ask).map_err(|error| failed(format!("the request cannot be made: {error}")))?;
        let response = self.client.request(request).await.map_err(|ended| failed(ended.error.unwrap_or_default()))?;
        let code = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| parse_retry_after(value.to_str().ok()?, now));
        match Reply::of_status(code, retry_after) {
            Reply::Answered => {}
            reply => return Err(Failure { reply, reason: format!("it answered {code}{}", meaning(code)) }),
        }
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        body.map(|body| body.to_bytes()).map_err(|error| match error.downcast_ref::<hyper::Error>() {
            Some(error) => failed(explain::body(error)),
            None => failed(format!("the answer is longer than {MAX_ANSWER_BYTES} bytes")),
        })
    }

    fn request(&self, ask: Ask<'_>) -> Result<Request<Full<Bytes>>, http::Error> {
        let encoded = |text| percent_encoding::utf8_percent_encode(text, RESERVED).to_string();
        let Ask { subject, domain, days } = ask;
        let (method, path, body) = match subject {
            Subject::Goals => {
                (Method::GET, format!("/api/v1/sites/goals?site_id={}&limit={GOALS_AT_A_TIME}", encoded(domain)), None)
            }
            Subject::Visitors => (Method::GET, format!("/api/v1/stats/realtime/visitors?site_id={}", encoded(domain)), None),
            Subject::Completions => (Method::POST, "/api/v2/query".to_owned(), Some(completions_query(domain, days).to_string())),
        };
        let mut headers = HeaderMap::from_iter([
            (AUTHORIZATION, self.settings.api_key.header()),
            (USER_AGENT, HeaderValue::from_static(AGENT)),
            (ACCEPT, JSON),
        ]);
        if body.is_some() {
            headers.insert(CONTENT_TYPE, JSON);
        }
        let mut request = Request::new(Full::new(Bytes::from(body.unwrap_or_default())));
        *request.method_mut() = method;
        *request.uri_mut() = Uri::try_from(format!("{}{path}", self.settings.origin))?;
        *request.headers_mut() = headers;
        Ok(request)
    }
}

fn failed(reason: String) -> Failure {
    Failure { reply: Reply::Failed, reason }
}

/// What an operator should know of a status.
fn meaning(code: u16) -> &'static str {
    match code {
        300..=399 => "; redirects are not followed",
        401 | 403 => ": it does not know the key, or the key may not see the site",
        402 => ": the subscription of the site's owner does not include this, or is over",
        404 => ": it knows of no such site",
        429 => ": it was asked too often, by whoever asks for the team",
        _ => "",
    }
}
