//! Where a request comes from. Nothing of it is kept or logged.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName};
use bellwether_domain::client;

use crate::App;
use crate::server::Peer;

/// The network of whoever asks.
pub(crate) struct Network(pub(crate) IpAddr);

impl FromRequestParts<App> for Network {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self(client::network(&address(app, peer(&parts.extensions), &parts.headers))))
    }
}

/// Who is connected; nobody where there is no connection.
pub(crate) fn peer(extensions: &Extensions) -> IpAddr {
    extensions.get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |Peer(peer)| peer.ip())
}

/// The client's address, for which a proxy that is connected may ask.
pub(crate) fn address(app: &App, peer: IpAddr, headers: &HeaderMap) -> String {
    let text = |name| headers.get(HeaderName::from_static(name)).and_then(|value| value.to_str().ok());
    client::address(peer, &app.settings.trusted_proxies, text)
}
