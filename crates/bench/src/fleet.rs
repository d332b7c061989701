//! Many sites on a server, and the endpoints that their webhooks go to.

use std::net::SocketAddr;
use std::ops::Range;

use serde_json::json;

use crate::failure::Result;
use crate::layout::Layout;
use crate::load::{Load, Requests};
use crate::receiver::Receiver;
use crate::server::{GOAL_EVENT, Server};
use crate::template::Template;

/// Many sites on a server, and the endpoints that their webhooks go to.
pub(crate) struct Fleet {
    /// The endpoints.
    pub(crate) receiver: Receiver,
    layout: Layout,
    name: &'static str,
    /// The ids of the webhooks, by endpoint.
    webhooks: Vec<String>,
    next_number: u64,
}

impl Fleet {
    /// Adds the sites of a layout to a server, each with a goal whose completions go to prompt endpoints.
    pub(crate) async fn start(name: &'static str, layout: Layout, server: &Server) -> Result<Self> {
        let receiver = Receiver::start(layout).await?;
        let mut webhooks = Vec::with_capacity(layout.endpoints());
        for site in 0..layout.sites {
            server.add_silent_site(&domain(name, site)).await?;
            for endpoint in layout.endpoints_of(site) {
                let url = receiver.url(endpoint);
                webhooks.push(server.add_webhook(&domain(name, site), &url, json!(["goal_completion"])).await?);
            }
        }
        Ok(Self { receiver, layout, name, webhooks, next_number: 0 })
    }

    /// A site's domain.
    pub(crate) fn domain(&self, site: usize) -> String {
        domain(self.name, site)
    }

    /// An endpoint's webhook.
    pub(crate) fn webhook(&self, endpoint: usize) -> &str {
        self.webhooks.get(endpoint).map_or("", String::as_str)
    }

    /// Numbers that no event of this fleet had yet, `each` of them for each site.
    pub(crate) fn take_numbers(&mut self, each: u64) -> Range<u64> {
        let first = self.next_number;
        self.next_number += each * self.layout.sites as u64;
        first..self.next_number
    }

    /// Events that each complete the goal of the site whose turn it is.
    pub(crate) fn load(&self, address: SocketAddr, connections: usize) -> Load {
        let event = |site| Template::event(&domain(self.name, site), GOAL_EVENT);
        let requests = Requests::InTurn((0..self.layout.sites).map(event).collect());
        Load { address, connections, requests, expected: 202 }
    }

    /// Waits until the history of every webhook shows `each` successes.
    pub(crate) async fn recorded(&self, server: &Server, each: u64) -> Result<()> {
        for site in 0..self.layout.sites {
            for webhook in &self.webhooks[self.layout.endpoints_of(site)] {
                server.recorded(&domain(self.name, site), webhook, each).await?;
            }
        }
        Ok(())
    }
}

fn domain(name: &str, site: usize) -> String {
    format!("{name}-{site}.example")
}
