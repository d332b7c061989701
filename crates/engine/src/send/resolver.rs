//! Names to addresses.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_resolver::TokioResolver;

use super::explain;

const TIME_LIMIT: Duration = Duration::from_secs(3);
const MAX_ADDRESSES: usize = 16;

/// Resolves names. The answer is checked by whoever asks.
pub trait Resolve: Send + Sync {
    /// The addresses of a host's name.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// Resolves as the system is configured to, its hosts file included.
pub struct SystemResolver(TokioResolver);

impl SystemResolver {
    /// Reads the system's configuration.
    pub fn new() -> io::Result<Self> {
        let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
        resolver.map(Self).map_err(io::Error::other)
    }
}

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = self.0.lookup_ip(host).await.map_err(explain::lookup)?;
            Ok(found.iter().collect())
        })
    }
}

/// The addresses of a name, within a time limit. There are at most 16; what has more is not trusted to be checked well.
pub(crate) async fn resolve(resolver: &dyn Resolve, host: &str) -> io::Result<Vec<IpAddr>> {
    let addresses = tokio::time::timeout(TIME_LIMIT, resolver.resolve(host)).await;
    let addresses = addresses.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    match addresses.len() {
        0 => Err(io::Error::other("it has no address")),
        1..=MAX_ADDRESSES => Ok(addresses),
        _ => Err(io::Error::other(format!("it has more than {MAX_ADDRESSES} addresses"))),
    }
}
