//! A connection that can be cut: what is sent through it goes nowhere then, and nobody is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, mem};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

/// Leads from a free port of 127.0.0.1 to somewhere else, until it is dropped.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    is_whole: watch::Sender<bool>,
    is_plugged: watch::Sender<bool>,
    connections: Arc<Mutex<Connections>>,
    _end: DropGuard,
}

/// Those that there are, and what ends them.
#[derive(Debug, Default)]
struct Connections {
    tasks: TaskTracker,
    severed: CancellationToken,
}

impl Cable {
    /// One that leads to `destination`.
    #[expect(clippy::expect_used, reason = "a test without a port cannot go on")]
    pub async fn lay(destination: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its number");
        let (is_whole, is_plugged) = (watch::Sender::new(true), watch::Sender::new(true));
        let (connections, end) = (Arc::default(), CancellationToken::new());
        let (whole, plugged) = (is_whole.subscribe(), is_plugged.subscribe());
        let watched = Watched { is_whole: whole, is_plugged: plugged, connections: Arc::clone(&connections) };
        TaskTracker::new().spawn(accept(listener, destination, watched, end.clone()));
        Self { address, is_whole, is_plugged, connections, _end: end.drop_guard() }
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing comes through, and nothing that was sent is lost: it waits.
    pub fn cut(&self) {
        self.is_whole.send_replace(false);
    }

    /// Ends every connection there is, and returns when they have; others can be made.
    pub async fn sever(&self) {
        let Connections { tasks, severed } = mem::take(&mut *lock(&self.connections));
        severed.cancel();
        tasks.close();
        tasks.wait().await;
    }

    /// Ends every connection there is, and each that is made from now on.
    pub fn unplug(&self) {
        self.is_plugged.send_replace(false);
    }

    /// What waited comes through, and connections can be made.
    pub fn mend(&self) {
        self.is_plugged.send_replace(true);
        self.is_whole.send_replace(true);
    }
}

/// What a connection goes by.
#[derive(Clone)]
struct Watched {
    is_whole: watch::Receiver<bool>,
    is_plugged: watch::Receiver<bool>,
    connections: Arc<Mutex<Connections>>,
}

fn lock(connections: &Mutex<Connections>) -> MutexGuard<'_, Connections> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, destination: SocketAddr, watched: Watched, end: CancellationToken) {
    while let Some(Ok((stream, _))) = end.run_until_cancelled(listener.accept()).await {
        let Watched { is_whole, mut is_plugged, connections } = watched.clone();
        let connections = lock(&connections);
        let severed = connections.severed.clone();
        let leading = lead(stream, destination, is_whole);
        // A connection that breaks is what the test wants to see.
        let until_severed = async move {
            tokio::select! {
                led = leading => drop(led),
                () = severed.cancelled() => {}
                _ = is_plugged.wait_for(|is_plugged| !is_plugged) => {}
            }
        };
        connections.tasks.spawn(end.clone().run_until_cancelled_owned(until_severed));
    }
}

async fn lead(near: TcpStream, destination: SocketAddr, mut is_whole: watch::Receiver<bool>) -> io::Result<()> {
    let _ = is_whole.wait_for(|is_whole| *is_whole).await;
    let far = TcpStream::connect(destination).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
    tokio::try_join!(pass(near_in, far_out, is_whole.clone()), pass(far_in, near_out, is_whole)).map(|_| ())
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut is_whole: watch::Receiver<bool>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1_024];
    loop {
        let count = from.read(&mut buffer).await?;
        let _ = is_whole.wait_for(|is_whole| *is_whole).await;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..count]).await?;
    }
}
