//! Connections to addresses that were checked: resolve, refuse, connect to what was not refused.
//!
//! The check stands between the resolver and the socket, for names and for addresses in numbers alike, so there is no way around
//! it. One refused address among several refuses them all. Where there is a proxy, it is asked for a tunnel to the address that was
//! checked, never to a name that it would resolve by itself.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bellwether_domain::endpoint::{EndpointPolicy, RefusedAddress};
use bellwether_meters::label::AttemptOutcome;
use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::net::TcpStream;
use tower_service::Service;
use tracing::warn;

use super::proxy::{Proxy, ToProxy};
use super::resolver::{Resolve, resolve};
use super::{SenderError, explain};

const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error(transparent)]
    Refused(#[from] RefusedAddress),
    #[error("the name {host} cannot be resolved: {cause}")]
    Unresolved { host: String, cause: io::Error },
    #[error("no connection within {} s", TIME_LIMIT.as_secs())]
    TooSlow,
    #[error("connecting failed: {0}")]
    Failed(io::Error),
    #[error("the proxy of BELLWETHER_PROXY_URL makes no tunnel to {address}: {}", explain::innermost(cause))]
    Proxy { address: SocketAddr, cause: <Tunnel<ToProxy> as Service<Uri>>::Error },
    #[error("TLS failed: {0}")]
    Tls(String),
}

impl ConnectError {
    /// What an attempt counts as that ends with this.
    pub(super) fn kind(&self) -> AttemptOutcome {
        match self {
            Self::Refused(_) => AttemptOutcome::Refused,
            Self::Unresolved { .. } => AttemptOutcome::Dns,
            Self::TooSlow => AttemptOutcome::Timeout,
            Self::Failed(error) if error.kind() == io::ErrorKind::TimedOut => AttemptOutcome::Timeout,
            Self::Failed(_) => AttemptOutcome::Connect,
            Self::Proxy { .. } => AttemptOutcome::Proxy,
            Self::Tls(_) => AttemptOutcome::Tls,
        }
    }
}

/// TLS over guarded connections, trusting the system's roots and the extra ones.
pub(super) fn https(guard: Guard, extra_roots_pem: Option<&[u8]>) -> Result<HttpsConnector<Guard>, SenderError> {
    let mut roots = RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        warn!(%error, "some of the system's root certificates cannot be read");
    }
    if let (0, _) = roots.add_parsable_certificates(native.certs) {
        warn!("the system has no root certificates: only those of BELLWETHER_CA_FILE are trusted");
    }
    if let Some(pem) = extra_roots_pem {
        let unreadable = |error: &dyn std::fmt::Display| SenderError::ExtraRoots(error.to_string());
        let extra: Vec<CertificateDer<'_>> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| unreadable(&error))?;
        if extra.is_empty() {
            return Err(unreadable(&"there is none in it"));
        }
        for certificate in extra {
            roots.add(certificate).map_err(|error| unreadable(&error))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(guard))
}

/// Connects to addresses that the policy allows.
#[derive(Clone)]
pub(super) struct Guard {
    policy: Arc<EndpointPolicy>,
    resolver: Arc<dyn Resolve>,
    proxy: Option<Tunnel<ToProxy>>,
}

impl Guard {
    pub(super) fn new(policy: EndpointPolicy, resolver: Arc<dyn Resolve>, proxy: Option<&Proxy>) -> Self {
        let proxy = proxy.map(|proxy| proxy.tunnel(resolver.clone()));
        Self { policy: Arc::new(policy), resolver, proxy }
    }

    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, ConnectError> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let default_port = if uri.scheme() == Some(&http::uri::Scheme::HTTP) { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(default_port);
        let addresses = self.addresses(host).await?;
        let addresses: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        match self.proxy {
            Some(proxy) => connect_through(proxy, &addresses).await,
            None => connect_to_first(&addresses).await.map_err(ConnectError::Failed),
        }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ConnectError> {
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => {
                resolve(&*self.resolver, host).await.map_err(|cause| ConnectError::Unresolved { host: host.to_owned(), cause })?
            }
        };
        for address in &addresses {
            self.policy.check(*address)?;
        }
        Ok(addresses)
    }
}

/// Tries one address after the other; each has its share of the time, so that one that is silent does not hide the next.
pub(super) async fn connect_to_first(addresses: &[SocketAddr]) -> io::Result<TokioIo<TcpStream>> {
    let share = share_of_time(addresses);
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true)?;
                return Ok(TokioIo::new(stream));
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
        }
    }
    Err(last)
}

/// The same through a proxy.
async fn connect_through(mut proxy: Tunnel<ToProxy>, addresses: &[SocketAddr]) -> Result<TokioIo<TcpStream>, ConnectError> {
    let share = share_of_time(addresses);
    let mut last = ConnectError::TooSlow;
    for address in addresses.iter().copied() {
        let Ok(uri) = Uri::try_from(format!("http://{address}/")) else { continue };
        match tokio::time::timeout(share, proxy.call(uri)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(cause)) => last = ConnectError::Proxy { address, cause },
            Err(_) => last = ConnectError::TooSlow,
        }
    }
    Err(last)
}

fn share_of_time(addresses: &[SocketAddr]) -> Duration {
    TIME_LIMIT / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX)
}

impl Service<Uri> for Guard {
    type Response = TokioIo<TcpStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

/// Ends connecting, name resolution and TLS included, when it takes too long.
#[derive(Clone)]
pub(super) struct TimeLimit<C>(C);

impl<C> TimeLimit<C> {
    pub(super) fn new(connector: C) -> Self {
        Self(connector)
    }
}

impl<C> Service<Uri> for TimeLimit<C>
where
    C: Service<Uri, Error = Box<dyn std::error::Error + Send + Sync>>,
    C::Future: Send + 'static,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        self.0.poll_ready(context).map_err(tls_or_inner)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            match tokio::time::timeout(TIME_LIMIT, connecting).await {
                Ok(connected) => connected.map_err(tls_or_inner),
                Err(_) => Err(ConnectError::TooSlow),
            }
        })
    }
}

fn tls_or_inner(error: Box<dyn std::error::Error + Send + Sync>) -> ConnectError {
    match error.downcast::<ConnectError>() {
        Ok(error) => *error,
        Err(error) => ConnectError::Tls(explain::tls(&*error)),
    }
}
