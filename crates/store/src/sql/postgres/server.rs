//! Where a PostgreSQL server is, and how it is connected to.

use std::fmt;
use std::future::poll_fn;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::Notify;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{AsyncMessage, Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::StoreError;

/// What is shown of us in the server's list of connections.
const APPLICATION: &str = "bellwether";

/// A database of a PostgreSQL server, out of a URL like `postgres://user:password@host:5432/name?sslmode=require`.
///
/// Where TLS is used, which it is if the server can and `sslmode` is not `disable`, the server must prove who it is: by the roots in
/// the file `sslrootcert`, or else by those of the system.
#[derive(Clone)]
pub struct Server {
    config: Config,
    roots: Option<PathBuf>,
}

/// A text is no URL of a PostgreSQL database.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// It cannot be read at all.
    #[error("must be a URL like postgres://user:password@host:5432/name")]
    NotAUrl,
    /// It does not say which database.
    #[error("must name a host and a database, like postgres://user:password@host:5432/name")]
    Incomplete,
    /// A parameter is not known, or not with that value.
    #[error("has the parameter {0}, which is not known with that value")]
    Parameter(String),
}

impl FromStr for Server {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let mut config: Config = base.parse().map_err(|_| InvalidUrl::NotAUrl)?;
        let mut roots = None;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match (name.as_ref(), value.as_ref()) {
                ("sslrootcert", path) => roots = Some(PathBuf::from(path)),
                ("sslmode", "disable") => _ = config.ssl_mode(SslMode::Disable),
                ("sslmode", "prefer") => _ = config.ssl_mode(SslMode::Prefer),
                ("sslmode", "require" | "verify-ca" | "verify-full") => _ = config.ssl_mode(SslMode::Require),
                ("host", folder) => _ = config.host(folder),
                ("application_name", application) => _ = config.application_name(application),
                (name, _) => return Err(InvalidUrl::Parameter(name.to_owned())),
            }
        }
        if config.get_hosts().is_empty() || config.get_dbname().is_none() {
            return Err(InvalidUrl::Incomplete);
        }
        if config.get_application_name().is_none() {
            config.application_name(APPLICATION);
        }
        Ok(Self { config, roots })
    }
}

impl Server {
    /// Connects. Whoever asks drives the connection, by being within a runtime.
    pub(crate) async fn connect(&self) -> Result<Client, StoreError> {
        let (client, connection) = self.config.connect(self.tls()?).await.map_err(|error| StoreError::not_connected(&error))?;
        #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
        tokio::spawn(connection);
        Ok(client)
    }

    /// Listens to channels, and wakes whom each concerns with each word and at the beginning, until the connection breaks.
    pub(crate) async fn listen(&self, channels: &[(&str, &Notify)]) -> Result<(), StoreError> {
        let connecting = self.config.connect(self.tls()?);
        let (client, mut connection) = connecting.await.map_err(|error| StoreError::not_connected(&error))?;
        let listening = async {
            for (channel, _) in channels {
                client.batch_execute(&format!("LISTEN {channel}")).await?;
            }
            channels.iter().for_each(|(_, concerned)| concerned.notify_one());
            std::future::pending::<Result<(), tokio_postgres::Error>>().await
        };
        let hearing = async {
            while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(word) = message? {
                    let concerned = channels.iter().filter(|(channel, _)| *channel == word.channel());
                    concerned.for_each(|(_, concerned)| concerned.notify_one());
                }
            }
            Ok::<_, tokio_postgres::Error>(())
        };
        tokio::select! {
            ended = listening => Ok(ended?),
            ended = hearing => Ok(ended?),
        }
    }

    fn tls(&self) -> Result<MakeRustlsConnect, StoreError> {
        let unusable = |error: rustls::Error| StoreError::CannotOpen(error.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(unusable)?;
        Ok(MakeRustlsConnect::new(config.with_root_certificates(self.roots()?).with_no_client_auth()))
    }

    fn roots(&self) -> Result<RootCertStore, StoreError> {
        let mut roots = RootCertStore::empty();
        let Some(path) = &self.roots else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            return Ok(roots);
        };
        let unusable = |problem: String| StoreError::CannotOpen(format!("sslrootcert {}: {problem}", path.display()));
        let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        roots.add_parsable_certificates(certificates.map_err(|error| unusable(error.to_string()))?);
        if roots.is_empty() { Err(unusable("holds no certificate".to_owned())) } else { Ok(roots) }
    }
}

/// Without its password, and without the user.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = |index: usize| self.config.get_ports().get(index).or(self.config.get_ports().first()).copied().unwrap_or(5432);
        write!(f, "postgres://")?;
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match host {
                Host::Tcp(host) => write!(f, "{comma}{host}:{}", port(index))?,
                Host::Unix(folder) => write!(f, "{comma}{}:{}", folder.display(), port(index))?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialEq for Server {
    fn eq(&self, other: &Self) -> bool {
        self.config == other.config && self.roots == other.roots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_and_shown_without_credentials() {
        for (url, shown) in [
            ("postgres://me:secret@db.example.com/stats", "postgres://db.example.com:5432/stats"),
            ("postgresql://me@127.0.0.1:6000/stats?sslmode=verify-full", "postgres://127.0.0.1:6000/stats"),
            ("postgres://me@%2Frun%2Fpostgresql/stats", "postgres:///run/postgresql:5432/stats"),
            ("postgres:///stats?host=/run/postgresql&sslmode=disable", "postgres:///run/postgresql:5432/stats"),
            ("postgres://me@a:1,b:2/stats?sslmode=prefer&application_name=x", "postgres://a:1,b:2/stats"),
        ] {
            let server: Server = url.parse().expect(url);
            assert_eq!(server.to_string(), shown);
            assert!(!format!("{server:?}").contains("secret"));
        }
    }

    #[test]
    fn other_urls_are_refused() {
        let refused = |url: &str| url.parse::<Server>().expect_err(url);
        assert_eq!(refused("postgres://a:b:c/x"), InvalidUrl::NotAUrl);
        assert_eq!(refused("postgres://me@host"), InvalidUrl::Incomplete);
        assert_eq!(refused("postgres:///name"), InvalidUrl::Incomplete);
        assert_eq!(refused("postgres://h/n?sslmode=maybe"), InvalidUrl::Parameter("sslmode".to_owned()));
        assert_eq!(refused("postgres://h/n?password=x"), InvalidUrl::Parameter("password".to_owned()));
    }
}
