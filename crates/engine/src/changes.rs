//! Word that the deliveries of a webhook changed, for those who look on. It is a hint: what changed stands in the tables.

use std::array;

use bellwether_domain::id::WebhookId;
use futures_util::future::select_all;
use tokio::sync::watch;

/// Webhooks share so many channels; who looks on is told of some other webhooks' changes, too.
const CHANNELS: usize = 256;

/// Where changes are told.
pub(crate) struct Changes([watch::Sender<()>; CHANNELS]);

/// Somebody who looks on. What changes while nobody waits is told to who waits next.
pub struct Watcher(Vec<watch::Receiver<()>>);

impl Changes {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| watch::Sender::new(())))
    }

    /// Tells of a change. Next to nothing while nobody looks on.
    pub(crate) fn note(&self, webhook_id: WebhookId) {
        let channel = self.channel(webhook_id);
        if channel.receiver_count() > 0 {
            channel.send_replace(());
        }
    }

    /// From now on, changes of these webhooks' deliveries are told.
    pub(crate) fn watch(&self, webhook_ids: &[WebhookId]) -> Watcher {
        Watcher(webhook_ids.iter().map(|id| self.channel(*id).subscribe()).collect())
    }

    fn channel(&self, webhook_id: WebhookId) -> &watch::Sender<()> {
        let [.., last] = *webhook_id.as_bytes();
        &self.0[usize::from(last) % CHANNELS]
    }
}

impl Watcher {
    /// Waits until something changes; without webhooks for ever.
    pub async fn changed(&mut self) {
        let changes: Vec<_> = self.0.iter_mut().map(|receiver| Box::pin(receiver.changed())).collect();
        if changes.is_empty() {
            return std::future::pending().await;
        }
        // The channels are there as long as the engine is.
        let _ = select_all(changes).await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn webhook(last: u8) -> WebhookId {
        WebhookId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last])
    }

    #[test]
    fn those_who_look_on_are_told_once_of_changes_before_they_waited() {
        let changes = Changes::new();
        changes.note(webhook(1));
        let mut watcher = changes.watch(&[webhook(1), webhook(2)]);
        assert_eq!(watcher.changed().now_or_never(), None, "it was before");
        changes.note(webhook(3));
        assert_eq!(watcher.changed().now_or_never(), None, "it was another");
        changes.note(webhook(2));
        changes.note(webhook(2));
        assert_eq!(watcher.changed().now_or_never(), Some(()));
        assert_eq!(watcher.changed().now_or_never(), None);
        assert_eq!(changes.watch(&[]).changed().now_or_never(), None);
    }
}
