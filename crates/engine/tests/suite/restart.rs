//! What survives when the process ends, in good order or not.

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::delivery::Status;
use bellwether_domain::visitor::{Salt, day};
use bellwether_engine::{Settings, StartError, StopError};
use bellwether_store::StoreError;
use bellwether_testkit::receiver::{Behaviour, Receiver};
use serde_json::json;
use tokio::runtime::Runtime;

use super::rig::{Rig, pageview, seconds, signup};

#[tokio::test]
async fn what_waits_for_another_attempt_goes_on_after_a_restart() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let webhook = rig.hook(&receiver).await;
    receiver.behave_next([200, 503]);
    rig.complete().await;
    rig.engine.drained().await;
    rig.clock.advance(seconds(1));
    rig.complete().await;
    rig.engine.drained().await;
    rig.restart().await;
    rig.pass(seconds(2)).await;
    let requests = receiver.so_far();
    let ids: Vec<_> = requests.iter().map(|request| request.header("webhook-id")).collect();
    assert_eq!(ids.len(), 3, "what was settled is not sent again");
    assert!(ids[1] == ids[2] && ids[0] != ids[1]);
    let detail = rig.latest(webhook).await;
    assert_eq!((detail.delivery.status, detail.delivery.attempt_count, detail.attempts.len()), (Status::Success, 2, 2));
    assert_eq!((rig.count(Status::Success).await, rig.deliveries(webhook).await.len()), (2, 2));
}

#[tokio::test]
async fn what_is_queued_at_the_shutdown_is_sent_by_the_next_process() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    receiver.hold();
    for _ in 0..20 {
        rig.complete().await;
    }
    let mut requests = receiver.received(8).await;
    let (stopping, releasing) = (rig.workers.clone(), async { receiver.release() });
    let (stopped, ()) = tokio::join!(stopping.stop(), releasing);
    assert_eq!(stopped, Ok(()));
    requests.extend(receiver.so_far());
    assert_eq!((requests.len(), rig.count(Status::Success).await), (8, 8), "what was under way arrives, and is recorded");
    rig.start_again().await;
    requests.extend(receiver.received(12).await);
    rig.pass(seconds(100)).await;
    requests.extend(receiver.so_far());
    let mut ids: Vec<_> = requests.iter().map(|request| request.header("webhook-id").to_owned()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((requests.len(), ids.len(), rig.count(Status::Success).await), (20, 20, 20));
}

#[tokio::test]
async fn what_fires_after_the_shutdown_is_sent_by_the_next_process() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    rig.workers.stop().await.expect("a clean stop");
    rig.complete().await;
    assert!(receiver.so_far().is_empty());
    rig.start_again().await;
    receiver.next().await;
    rig.engine.drained().await;
    assert_eq!(rig.count(Status::Success).await, 1);
}

/// A process whose tasks end wherever they are when it is killed.
pub(crate) struct Process(Runtime);

impl Process {
    pub(crate) fn new() -> Self {
        Self(Runtime::new().expect("a runtime"))
    }

    pub(crate) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.block_on(work)
    }

    pub(crate) fn kill(self) {
        self.0.shutdown_background();
    }
}

#[test]
fn what_was_under_way_when_the_process_was_killed_is_sent_again() {
    let (receiving, killed, next) = (Process::new(), Process::new(), Process::new());
    let mut receiver = receiving.run(Receiver::start());
    receiver.behave_next([Behaviour::from(200), Behaviour::Hang, Behaviour::Hang]);
    let (mut rig, before) = killed.run(async {
        let rig = Rig::start().await;
        rig.hook(&receiver).await;
        rig.complete().await;
        rig.engine.drained().await;
        rig.complete().await;
        rig.complete().await;
        let before = receiver.received(3).await;
        (rig, before)
    });
    killed.kill();
    let after = next.run(async {
        rig.start_again().await;
        rig.outlive_lease().await;
        let after = receiver.received(2).await;
        rig.pass(seconds(100)).await;
        assert_eq!((rig.count(Status::Success).await, receiver.so_far().len()), (3, 0));
        after
    });
    let ids = |requests: &[bellwether_testkit::receiver::Received]| {
        let mut ids: Vec<_> = requests.iter().map(|request| request.header("webhook-id").to_owned()).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(&after), ids(&before[1..]));
}

#[tokio::test]
async fn a_process_is_known_to_live_before_it_owns_anything() {
    let rig = Rig::start().await;
    rig.workers.stop().await.expect("a clean stop");
    let (_engine, workers) = rig.try_start().await.expect("an engine");
    let owners = async || rig.numbers("SELECT COUNT(*) FROM owners").await;
    assert_eq!(owners().await, [1]);
    workers.stop().await.expect("a clean stop");
    assert_eq!(owners().await, [0]);
}

#[tokio::test]
async fn a_cooldown_survives_a_restart() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let spike = json!({"type": "visitor_spike", "unit": "visitors", "threshold": 2, "cooldown_seconds": 3_600});
    rig.webhook(json!({"url": receiver.url(), "triggers": [spike]})).await;
    for (passed, restarts, fires) in [(0, false, 1), (600, true, 0), (600, false, 0), (2_400, true, 1)] {
        rig.clock.advance(seconds(passed));
        if restarts {
            rig.restart().await;
        }
        for visitor in [1, 2] {
            rig.visit(visitor, pageview()).await.expect("an event that is taken");
        }
        rig.engine.drained().await;
        assert_eq!(receiver.so_far().len(), fires, "{passed} s later");
    }
}

#[tokio::test]
async fn salts_survive_a_restart_and_last_until_the_next_midnight_but_one() {
    let mut rig = Rig::start().await;
    let today = day(rig.clock.now());
    let kept = rig.kept_salts().await;
    rig.restart().await;
    assert!(rig.kept_salts().await == kept && kept.len() == 1);
    rig.clock.advance(seconds(86_400));
    rig.engine.keep_up().await;
    let both = rig.kept_salts().await;
    assert!(both.len() == 2 && both[0] == kept[0] && both[1].day == today + 1);
    rig.clock.advance(seconds(86_400));
    rig.visit(1, signup()).await.expect("an event that is taken");
    let later = rig.kept_salts().await;
    assert!(later.len() == 2 && later[0] == both[1]);
}

impl Rig {
    async fn kept_salts(&self) -> Vec<Salt> {
        // One of a day that is forgotten at once brings the others to light.
        self.engine.store().keep_salt(Salt { day: 0, key: [0; 16] }, 1).await.expect("the salts")
    }
}

#[tokio::test]
async fn a_database_that_cannot_be_written_any_more_ends_the_process() {
    let rig = Rig::start().await;
    let died = rig.engine.store().write::<()>(|_| panic!("as it must for this test")).await;
    assert!(matches!(died, Err(StoreError::Closed)), "{died:?}");
    rig.workers.shutdown().cancelled().await;
    assert_eq!(rig.workers.stop().await, Err(StopError::Died));
}

#[tokio::test]
async fn configuration_survives_a_restart() {
    let (mut receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    let fields = json!({"url": receiver.url(), "name": "Mine", "retry_schedule": [5], "triggers": ["visitor_spike", {"type": "goal_completion", "goal_id": rig.goal_id}]});
    rig.webhook(fields).await;
    rig.clock.advance(seconds(1));
    let deleted = rig.hook(&receiver).await;
    rig.engine.delete_webhook(rig.site_id, deleted).await.expect("a webhook");
    let before = rig.site();
    rig.restart().await;
    let after = rig.site();
    assert_eq!((&after.site, &after.goals), (&before.site, &before.goals));
    let webhooks = |site: &bellwether_engine::ActiveSite| -> Vec<_> {
        site.webhooks.iter().map(|webhook| (webhook.webhook.clone(), webhook.deleted_at)).collect()
    };
    assert_eq!(webhooks(&after), webhooks(&before));
    rig.complete().await;
    receiver.next().await;
    rig.engine.drained().await;
    assert!(receiver.so_far().is_empty());
}

#[tokio::test]
async fn another_secret_key_is_refused_at_the_start() {
    let (receiver, mut rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    rig.workers.stop().await.expect("a clean stop");
    rig.settings = Settings { secret_key: [8; 32], ..rig.settings };
    assert!(matches!(rig.try_start().await.err(), Some(StartError::WrongKey)));
    let extra_roots_pem = Some(b"no certificate".to_vec());
    rig.settings = Settings { secret_key: [7; 32], extra_roots_pem, ..rig.settings };
    assert!(matches!(rig.try_start().await.err(), Some(StartError::Sender(_))));
}
