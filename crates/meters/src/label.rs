//! The values that labels may take: closed sets, each as small as it is useful. Nothing that somebody configures or sends is one.

/// A label of which every value is known.
pub trait Label: Copy {
    /// What it is called.
    const NAME: &'static str;
    /// What its values are called, in their order.
    const VALUES: &'static [&'static str];

    /// Which of the values it is.
    fn index(self) -> usize;

    /// What it is called.
    fn name(self) -> &'static str {
        Self::VALUES[self.index()]
    }
}

macro_rules! labels {
    ($($(#[$doc:meta])* $type:ident $name:literal { $($(#[$value_doc:meta])* $value:ident $text:literal)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$value_doc])* $value,)*
        }

        impl Label for $type {
            const NAME: &'static str = $name;
            const VALUES: &'static [&'static str] = &[$($text),*];

            fn index(self) -> usize {
                self as usize
            }
        }
    )*};
}

labels! {
    /// What became of an event.
    EventOutcome "outcome" {
        /// It was counted on a site.
        Accepted "accepted"
        /// It was counted nowhere: a bot's, spam, or of no site.
        Dropped "dropped"
        /// It could not be read.
        Invalid "invalid"
        /// What it set off could not be kept, or it could not be counted.
        Unavailable "unavailable"
    }
    /// How a delivery ended.
    Ending "status" {
        /// It arrived.
        Success "success"
        /// It is a dead letter.
        Failed "failed"
        /// Its webhook was switched off or deleted before.
        Cancelled "cancelled"
    }
    /// How a request to an endpoint ended.
    AttemptOutcome "outcome" {
        /// With 2xx.
        Success "success"
        /// With 3xx.
        Redirect "redirect"
        /// With 429.
        RateLimited "rate_limited"
        /// With any other 4xx.
        ClientError "client_error"
        /// With 5xx, or what no code should be.
        ServerError "server_error"
        /// Not in time.
        Timeout "timeout"
        /// The name could not be resolved.
        Dns "dns"
        /// There was no connection.
        Connect "connect"
        /// The connection could not be secured.
        Tls "tls"
        /// The proxy made no tunnel.
        Proxy "proxy"
        /// The answer broke off, or was no proper HTTP.
        Broken "broken_answer"
        /// The address may not be sent to, or the request could not be made.
        Refused "refused"
        /// There was no request, since the webhook's template could not be rendered.
        Template "template"
    }
    /// Whether an endpoint is sent what there is.
    Breaker "state" {
        /// It is.
        Closed "closed"
        /// It is only tried now and then.
        Open "open"
    }
    /// Whether a webhook is switched on.
    Switch "state" {
        /// It is.
        On "on"
        /// It is not.
        Off "off"
    }
    /// What became of events that are counted in shared storage.
    CountOutcome "outcome" {
        /// They are kept there.
        Kept "kept"
        /// They are not, and were refused.
        Refused "refused"
    }
    /// What became of a question to Plausible's hosted service.
    QuestionOutcome "outcome" {
        /// It was answered.
        Answered "answered"
        /// It was refused: the key, the site, or what was asked.
        Refused "refused"
        /// The service had been asked too often.
        RateLimited "rate_limited"
        /// The service could not be reached, or did not work.
        Failed "failed"
    }
    /// What became of a span.
    SpanOutcome "outcome" {
        /// The collector took it.
        Exported "exported"
        /// The collector did not.
        Failed "failed"
        /// Too many waited already.
        Dropped "dropped"
    }
}

impl AttemptOutcome {
    /// How a request ended that was answered with this status code.
    pub fn of_code(code: u16) -> Self {
        match code {
            200..=299 => Self::Success,
            300..=399 => Self::Redirect,
            429 => Self::RateLimited,
            400..=499 => Self::ClientError,
            _ => Self::ServerError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        let cases = [(200, "success"), (301, "redirect"), (410, "client_error"), (429, "rate_limited"), (503, "server_error")];
        for (code, name) in cases.into_iter().chain([(299, "success"), (499, "client_error"), (600, "server_error")]) {
            assert_eq!(AttemptOutcome::of_code(code).name(), name, "{code}");
        }
    }
}
