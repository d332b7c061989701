//! How events, sites, endpoints and deliveries are numbered where there are many of each.
//!
//! Sites take turns with the events. Each has as many webhooks as the others, each of which has an endpoint of its own, so an
//! event makes a delivery to each endpoint of its site. It only counts, and knows nothing of servers.

use std::ops::Range;

/// How many sites there are, and how many webhooks each of them has. Neither is 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The sites.
    pub(crate) sites: usize,
    /// The webhooks of each, and so the deliveries of an event.
    pub(crate) webhooks_per_site: usize,
}

impl Layout {
    /// One endpoint for everything; a delivery has the number of its event.
    pub(crate) const SINGLE: Self = Self { sites: 1, webhooks_per_site: 1 };

    /// How many endpoints there are. Those of the first site come first.
    pub(crate) fn endpoints(self) -> usize {
        self.sites * self.webhooks_per_site
    }

    /// The endpoints of a site.
    pub(crate) fn endpoints_of(self, site: usize) -> Range<usize> {
        site * self.webhooks_per_site..(site + 1) * self.webhooks_per_site
    }

    /// The number of an event's delivery to an endpoint; none where the event is of another site.
    pub(crate) fn delivery(self, event: u64, endpoint: usize) -> Option<u64> {
        let (site, webhook) = (endpoint / self.webhooks_per_site, endpoint % self.webhooks_per_site);
        (event % self.sites as u64 == site as u64).then(|| event * self.webhooks_per_site as u64 + webhook as u64)
    }

    /// The deliveries of events.
    pub(crate) fn deliveries(self, events: Range<u64>) -> Range<u64> {
        let each = self.webhooks_per_site as u64;
        events.start * each..events.end * each
    }

    /// The endpoint that a delivery goes to.
    pub(crate) fn endpoint(self, delivery: u64) -> usize {
        let each = self.webhooks_per_site as u64;
        let (site, webhook) = (delivery / each % self.sites as u64, delivery % each);
        site as usize * self.webhooks_per_site + webhook as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { sites: 3, webhooks_per_site: 2 };

    #[test]
    fn deliveries_of_an_event_go_to_the_endpoints_of_its_site() {
        let cases =
            [(0, 0, Some(0)), (0, 1, Some(1)), (0, 2, None), (1, 1, None), (1, 2, Some(2)), (5, 5, Some(11)), (6, 0, Some(12))];
        for (event, endpoint, expected) in cases {
            assert_eq!(LAYOUT.delivery(event, endpoint), expected, "{event} to {endpoint}");
        }
        assert_eq!((LAYOUT.endpoints(), LAYOUT.endpoints_of(1)), (6, 2..4));
    }

    #[test]
    fn each_delivery_has_its_endpoint() {
        for layout in [LAYOUT, Layout::SINGLE] {
            for (event, endpoint) in (0..20).flat_map(|event| (0..layout.endpoints()).map(move |endpoint| (event, endpoint))) {
                if let Some(delivery) = layout.delivery(event, endpoint) {
                    assert_eq!(layout.endpoint(delivery), endpoint, "{delivery} of {layout:?}");
                    assert!(layout.deliveries(event..event + 1).contains(&delivery), "{delivery} of {layout:?}");
                }
            }
        }
    }
}
