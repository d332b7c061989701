//! Why a request failed, in plain words, whatever library found it out.

use std::error::Error as StdError;
use std::io;

use bellwether_meters::label::AttemptOutcome;
use hickory_resolver::net::NetError;
use hyper_util::client::legacy::Error;
use rustls::CertificateError;

use super::connect::ConnectError;
use super::{Ended, MAX_RESPONSE_HEADERS};

/// Why a server gave no answer, for whoever asks one without a [`Sender`](super::Sender).
pub fn no_answer(error: &Error) -> String {
    match find::<io::Error>(error) {
        Some(error) if error.kind() == io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        _ => request(error).error.unwrap_or_default(),
    }
}

/// Why there is no answer, and what that means: the connector knows best.
pub(super) fn request(error: &Error) -> Ended {
    if let Some(error) = find::<ConnectError>(error) {
        return Ended::failed(error.kind(), error.to_string());
    }
    let sentence = match (find::<io::Error>(error), find::<hyper::Error>(error)) {
        (Some(error), _) => connection(error),
        (None, Some(error)) if error.is_incomplete_message() => "the connection was closed before an answer came".to_owned(),
        (None, Some(error)) if error.is_parse_too_large() => {
            format!("the head of the answer is too large, or has more than {MAX_RESPONSE_HEADERS} headers")
        }
        (None, Some(error)) if error.is_parse() => format!("the answer is no proper HTTP: {error}"),
        _ => format!("the request failed: {}", innermost(error)),
    };
    Ended::failed(AttemptOutcome::Broken, sentence)
}

/// Why the body of an answer is not whole.
pub(crate) fn body(error: &hyper::Error) -> String {
    match find::<io::Error>(error).map(|error| (error.kind(), error)) {
        Some((io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput, error)) => {
            format!("the body of the answer is no proper HTTP: {error}")
        }
        Some((io::ErrorKind::UnexpectedEof, _)) => "the answer broke off: the connection was closed before its end".to_owned(),
        Some((_, error)) => format!("the answer broke off: {}", connection(error)),
        None => format!("the answer broke off: {}", innermost(error)),
    }
}

/// Why the connection could not be secured.
pub(super) fn tls(error: &(dyn StdError + 'static)) -> String {
    match (find::<rustls::Error>(error), find::<io::Error>(error)) {
        (Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)), _) => {
            "nobody who is trusted vouches for the certificate; BELLWETHER_CA_FILE can add who does".to_owned()
        }
        (Some(rustls::Error::InvalidCertificate(problem)), _) => format!("the certificate is not good: {problem}"),
        (Some(rustls::Error::InvalidMessage(_)), _) => "the endpoint does not speak TLS".to_owned(),
        (None, Some(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed in the handshake".to_owned()
        }
        (None, Some(error)) => connection(error),
        _ => innermost(error).to_string(),
    }
}

/// Why a name leads nowhere.
pub(super) fn lookup(error: NetError) -> io::Error {
    match error {
        error if error.is_nx_domain() || error.is_no_records_found() => io::Error::other("there is no such name"),
        NetError::Timeout => io::ErrorKind::TimedOut.into(),
        error => io::Error::other(error),
    }
}

fn connection(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
        io::ErrorKind::BrokenPipe => "the connection was closed before the request was sent".to_owned(),
        _ => format!("the connection failed: {error}"),
    }
}

/// The first error of a type among an error and its causes. What an [`io::Error`] wraps is looked into as well.
fn find<'e, E: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e E> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = wrapped.map_or_else(|| error.source(), |wrapped| Some(wrapped as &(dyn StdError + 'static)));
    }
    None
}

/// The cause behind all causes.
pub(super) fn innermost<'e>(error: &'e (dyn StdError + 'static)) -> &'e (dyn StdError + 'static) {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost
}
