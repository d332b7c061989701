//! The server, the bare relay beside it, and the receiver that both send to.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;

use crate::failure::{Failure, Result};
use crate::layout::Layout;
use crate::load::Load;
use crate::process::Process;
use crate::receiver::{Receiver, Shape};
use crate::server::{GOAL_EVENT, Server};
use crate::settings::Settings;
use crate::template::Template;

const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);

/// The server, the bare relay beside it, and the receiver that both send to.
pub(crate) struct Rig {
    /// The real server.
    pub(crate) server: Server,
    /// The bare relay, whose requests are as large as the server's webhooks.
    pub(crate) relay: Process,
    /// Where both send to.
    pub(crate) receiver: Receiver,
    connections: usize,
    next_number: u64,
}

impl Rig {
    /// Starts all three.
    pub(crate) async fn start(settings: &Settings) -> Result<Self> {
        let receiver = Receiver::start(Layout::SINGLE).await?;
        let server = Server::start(&settings.server).await?;
        let shape = sample(&server, &receiver).await?;
        let relay = start_relay(&settings.bench, &receiver, shape).await?;
        Ok(Self { server, relay, receiver, connections: settings.connections, next_number: 1 })
    }

    /// Adds a site to the server whose goal completions go to the receiver; answers the webhook's id.
    pub(crate) async fn add_site(&self, domain: &str) -> Result<String> {
        self.server.add_site(domain, &self.receiver.url(0), json!(["goal_completion"])).await
    }

    /// Numbers that no event of this rig had yet.
    pub(crate) fn take_numbers(&mut self, count: u64) -> Range<u64> {
        let first = self.next_number;
        self.next_number += count;
        first..self.next_number
    }

    /// Events that each complete the goal of a site.
    pub(crate) fn load(&self, address: SocketAddr, domain: &str) -> Load {
        Load::of_events(address, self.connections, Template::event(domain, GOAL_EVENT))
    }
}

/// Sends one event through the server, to see how large a webhook is.
async fn sample(server: &Server, receiver: &Receiver) -> Result<Shape> {
    const DOMAIN: &str = "sample.example";
    server.add_site(DOMAIN, &receiver.url(0), json!(["goal_completion"])).await?;
    let journal = receiver.expect(0..1);
    Load::of_events(server.process.address, 1, Template::event(DOMAIN, GOAL_EVENT)).each(0..1).await?;
    journal.complete(ARRIVAL_LIMIT).await?;
    journal.shape().ok_or_else(|| Failure::Void("no webhook came".to_owned()))
}

async fn start_relay(bench: &Path, receiver: &Receiver, shape: Shape) -> Result<Process> {
    let mut command = Command::new(bench);
    command.args(["relay", "--to", &receiver.url(0)]);
    command.args(["--body-bytes", &shape.body_bytes.to_string(), "--headers", &shape.headers.to_string()]);
    Process::start(command).await
}
