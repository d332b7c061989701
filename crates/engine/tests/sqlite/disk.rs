//! A file that cannot grow, or cannot be written.

use bellwether_domain::delivery::Status;
use bellwether_engine::IngestError;
use bellwether_store::StoreError;
use bellwether_testkit::receiver::Receiver;
use serde_json::json;

use crate::suite::detection::{data, take};
use crate::suite::rig::{Rig, signup};

async fn limit_pages(rig: &Rig, pages: u32) {
    let sql = format!("PRAGMA max_page_count = {pages}");
    rig.engine.store().write(move |connection| connection.run_all(&sql)).await.expect("a limit");
}

#[tokio::test]
async fn what_finds_the_disk_full_is_refused_and_fires_when_there_is_room_again() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    let counted = json!({"type": "goal_completion", "threshold": 2});
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 1});
    rig.webhook(json!({"url": receiver.url(), "triggers": ["goal_completion", counted, spike]})).await;
    take(&rig, 1, json!({"n": "engagement", "u": "https://example.com/", "e": 1})).await;
    rig.engine.store().check().await.expect("a database");
    limit_pages(&rig, 1).await;
    let props: serde_json::Map<_, _> = (0..30).map(|number| (format!("p{number}"), json!("x".repeat(2_000)))).collect();
    let big = json!({"n": "Signup", "u": "https://example.com/", "p": props});
    for _ in 0..3 {
        let refused = rig.visit(1, big.clone()).await;
        assert!(matches!(refused, Err(IngestError::Store(StoreError::Full))), "{refused:?}");
    }
    rig.engine.drained().await;
    assert!(receiver.so_far().is_empty() && rig.count(Status::Pending).await == 0);
    limit_pages(&rig, 1_000_000).await;
    take(&rig, 1, big).await;
    let mut kinds: Vec<_> = data(&mut receiver).iter().map(|data| (data["count"].clone(), data["threshold"].clone())).collect();
    kinds.sort_by_key(|kind| format!("{kind:?}"));
    assert_eq!(kinds, [(json!(null), json!(1)), (json!(1), json!(null)), (json!(2), json!(null))]);
    take(&rig, 1, signup()).await;
    assert_eq!(data(&mut receiver).len(), 1, "counting went on where it was");
}

#[tokio::test]
async fn what_finds_the_database_read_only_is_refused_and_what_waits_goes_out_when_it_can_be_written_again() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    receiver.behave_next([503]);
    take(&rig, 1, signup()).await;
    assert_eq!(rig.count(Status::Retrying).await, 1);
    rig.disturb("PRAGMA query_only = ON").await;
    let refused = rig.visit(1, signup()).await;
    assert!(matches!(refused, Err(IngestError::Store(StoreError::ReadOnly))), "{refused:?}");
    rig.clock.advance(std::time::Duration::from_secs(2));
    assert!(rig.engine.dispatch_due().await.is_err());
    rig.restart().await;
    rig.pass(std::time::Duration::ZERO).await;
    take(&rig, 1, signup()).await;
    assert_eq!((rig.count(Status::Success).await, receiver.so_far().len()), (2, 3));
}
