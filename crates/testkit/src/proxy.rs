//! An HTTP proxy that leads every tunnel to the same place, whatever address it is asked for.
//!
//! So a test sees which addresses are asked for, without reaching any of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// A proxy on a free port of 127.0.0.1, which ends when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _end: DropGuard,
}

/// A request for a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Address and port, as asked for.
    pub target: String,
    /// The `Proxy-Authorization` header; empty without it.
    pub authorization: String,
}

impl Proxy {
    /// One that leads to `destination`.
    #[expect(clippy::expect_used, reason = "a test without a port cannot go on")]
    pub async fn start(destination: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its number");
        let (asked, end) = (Arc::default(), CancellationToken::new());
        TaskTracker::new().spawn(accept(listener, destination, Arc::clone(&asked), end.clone()));
        Self { address, asked, _end: end.drop_guard() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked for so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn accept(listener: TcpListener, destination: SocketAddr, asked: Arc<Mutex<Vec<Asked>>>, end: CancellationToken) {
    let tasks = TaskTracker::new();
    while let Some(Ok((stream, _))) = end.run_until_cancelled(listener.accept()).await {
        let leading = lead(stream, destination, asked.clone());
        // A connection that ends early is what the test wants to see.
        tasks.spawn(end.clone().run_until_cancelled_owned(async move { leading.await.ok() }));
    }
}

async fn lead(stream: TcpStream, destination: SocketAddr, asked: Arc<Mutex<Vec<Asked>>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let request = read_head(&mut stream).await?;
    let target = request.lines().next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
    let authorization =
        request.lines().find_map(|line| line.strip_prefix("Proxy-Authorization: ")).unwrap_or_default().to_owned();
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(Asked { target, authorization });
    let mut onward = TcpStream::connect(destination).await?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    copy_bidirectional(&mut stream, &mut onward).await?;
    Ok(())
}

/// Everything up to the empty line.
async fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut head = String::new();
    while stream.read_line(&mut head).await? > 2 {}
    Ok(head)
}
