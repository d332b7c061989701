//! An HTTP proxy that requests go through.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use super::connect::connect_to_first;
use super::resolver::{Resolve, resolve};

/// A proxy that makes tunnels, by `CONNECT`. The operator's choice, so its own address may be any.
#[derive(Clone, PartialEq)]
pub struct Proxy {
    authority: Authority,
    authorization: Option<HeaderValue>,
}

/// There can be no proxy of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the URL of an HTTP proxy, like http://proxy.example.com:3128")]
pub struct NotAProxy;

impl Proxy {
    /// One at `host`, with brackets around an IPv6 address, that wants a user's name and password, or not.
    pub fn new(host: &str, port: u16, credentials: Option<(&str, &str)>) -> Result<Self, NotAProxy> {
        let authority = Authority::try_from(format!("{host}:{port}")).map_err(|_| NotAProxy)?;
        let basic = |(user, password): (&str, &str)| {
            HeaderValue::try_from(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))).map_err(|_| NotAProxy)
        };
        Ok(Self { authority, authorization: credentials.map(basic).transpose()? })
    }

    /// What asks it for tunnels.
    pub(super) fn tunnel(&self, resolver: Arc<dyn Resolve>) -> Tunnel<ToProxy> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(Scheme::HTTP);
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        let tunnel = Tunnel::new(Uri::from_parts(parts).unwrap_or_default(), ToProxy { resolver });
        match &self.authorization {
            Some(authorization) => tunnel.with_auth(authorization.clone()),
            None => tunnel,
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.authority)
    }
}

/// Connects to the proxy itself.
#[derive(Clone)]
pub(super) struct ToProxy {
    resolver: Arc<dyn Resolve>,
}

impl ToProxy {
    async fn connect(self, uri: Uri) -> io::Result<TokioIo<TcpStream>> {
        let host = uri.host().unwrap_or_default();
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let addresses = match host.parse::<IpAddr>() {
            Ok(address) => vec![address],
            Err(_) => resolve(&*self.resolver, host).await?,
        };
        let port = uri.port_u16().unwrap_or(80);
        let addresses: Vec<_> = addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
        connect_to_first(&addresses).await
    }
}

impl Service<Uri> for ToProxy {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}
