//! Several processes that watch one Plausible.

use bellwether_testkit::ambient::manual_of;
use bellwether_testkit::plausible::Row;
use bellwether_testkit::receiver::Receiver;
use serde_json::json;

use crate::suite::plausible::{Rig, completions};
use crate::suite::rig::{seconds, start};

/// Each looks at every tick, and one of them reads; when that one is gone without a word, the other goes on where it ended.
#[tokio::test]
async fn one_of_several_processes_reads_and_another_goes_on() {
    let (mut receiver, one) = (Receiver::start().await, Rig::start().await);
    let (ambient, clock) = manual_of(1);
    let (other, workers) = start(&one.database, &ambient, &one.settings, &one.names).await.expect("an engine");
    one.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion"]})).await;
    let mut written = Vec::new();
    for tick in 0..40 {
        let row = Row::pageview(1, ambient.now().second(), 1, &format!("/buy/{tick:02}"));
        one.write(std::slice::from_ref(&row)).await;
        written.push(row.pathname);
        clock.advance(seconds(1));
        other.follow().await.expect("what has changed");
        // Where time stands still, nothing happens.
        if tick < 15 {
            one.clock.advance(seconds(1));
            one.engine.dispatch_due().await.expect("a tick");
            one.engine.look().await.expect("a look");
        }
        other.dispatch_due().await.expect("a tick");
        other.look().await.expect("a look");
        assert_eq!(other.sites().len(), 1, "the other follows");
    }
    one.engine.drained().await;
    other.drained().await;
    let mut told: Vec<_> = completions(&mut receiver).into_iter().map(|(_, path, _)| path).collect();
    told.sort_unstable();
    assert_eq!(told, written);
    workers.stop().await.expect("a clean stop");
}
