//! Several processes on one database, each with a clock of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use bellwether_domain::ambient::Clock as _;
use bellwether_domain::delivery::Status;
use bellwether_domain::roles::Roles;
use bellwether_domain::time::Timestamp;
use bellwether_engine::{Credentials, Engine, IngestError, ManageError, Progress, Settings, StartError, Workers};
use bellwether_store::{Database, Migration, ReplayFilter, Store, StoreError};
use bellwether_testkit::ambient::manual_of;
use bellwether_testkit::cable::Cable;
use bellwether_testkit::receiver::{Received, Receiver};
use serde_json::json;
use tokio::runtime::{Builder, Runtime};
use tokio_postgres::NoTls;

use crate::suite::batches::events;
use crate::suite::rig::{Rig, new_webhook, seconds, settings, signup, site_change, start, webhook_change};

/// Another process on the same database.
pub(crate) async fn beside(rig: &Rig, process: u64) -> Rig {
    beside_as(Roles::ALL, rig, process).await
}

/// Another process on the same database, which does that.
pub(crate) async fn beside_as(roles: Roles, rig: &Rig, process: u64) -> Rig {
    let ((ambient, clock), names, settings) = (manual_of(process), rig.names.clone(), Settings { roles, ..rig.settings.clone() });
    let (engine, workers) = start(&rig.database, &ambient, &settings, &names).await.expect("an engine");
    let (site_id, goal_id, database) = (rig.site_id, rig.goal_id, rig.database.clone());
    Rig { clock, ambient, names, settings, database, engine, workers, site_id, goal_id }
}

/// Waits until a process has heard by itself of what others have changed.
pub(crate) async fn heard(rig: &Rig, is_so: impl Fn(&Rig) -> bool) {
    let hearing = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while !is_so(rig) {
            looks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(1), hearing).await.expect("word of the change within a second");
}

/// How often each event came.
fn counts(requests: &[Received]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        *counts.entry(request.header("webhook-id").to_owned()).or_default() += 1;
    }
    counts
}

#[tokio::test]
async fn what_one_process_changes_is_in_force_in_the_others() {
    let (mut receiver, one) = (Receiver::start().await, Rig::start().await);
    let other = beside(&one, 1).await;
    let webhook = one.hook(&receiver).await;
    heard(&other, |other| other.site().webhook(webhook).is_some()).await;
    other.complete().await;
    receiver.next().await;

    let change = webhook_change(&json!({"enabled": false}));
    other.engine.update_webhook(other.site_id, webhook, change).await.expect("a webhook");
    heard(&one, |one| one.site().webhook(webhook).is_some_and(|webhook| !webhook.is_on())).await;
    one.complete().await;
    one.engine.drained().await;
    assert!(receiver.so_far().is_empty(), "it is off");

    other.engine.update_site(other.site_id, site_change(&json!({"domain": "renamed.example"}))).await.expect("a site");
    heard(&one, |one| one.engine.find_site("renamed.example").is_some()).await;
    assert!(one.engine.find_site("example.com").is_none());
    other.engine.delete_site(other.site_id).await.expect("a site");
    heard(&one, |one| one.engine.find_site("renamed.example").is_none()).await;
}

#[tokio::test]
async fn changes_of_several_processes_at_a_time_are_all_kept() {
    let one = Rig::start().await;
    let other = beside(&one, 1).await;
    let webhook = one.webhook(json!({"url": "https://example.com/hook"})).await.webhook.id;
    let set = async |rig: &Rig, field: &str, value: serde_json::Value| {
        rig.engine.update_webhook(rig.site_id, webhook, webhook_change(&json!({field: value}))).await.expect("a webhook")
    };
    set(&other, "name", json!("Another")).await;
    set(&one, "rate_limit_per_second", json!(9)).await;
    let last = set(&other, "retry_schedule", json!([7])).await;
    assert_eq!((last.name.as_str(), last.rate_limit_per_second), ("Another", Some(9)));
    assert_eq!(last.schedule().delays_seconds(), [7]);
}

/// A process that does something only while it [runs](Paused::run).
struct Paused(Runtime);

impl Paused {
    fn new() -> Self {
        Self(Builder::new_current_thread().enable_all().build().expect("a runtime"))
    }

    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.block_on(work)
    }
}

/// Twenty deliveries in the memory of a process, eight of them under way.
async fn busy(receiver: &mut Receiver) -> (Rig, Vec<Received>) {
    let rig = Rig::start().await;
    rig.hook(receiver).await;
    receiver.hold();
    for _ in 0..20 {
        rig.complete().await;
    }
    (rig, receiver.received(8).await)
}

#[test]
fn what_a_killed_process_had_is_sent_by_another_once_its_lease_is_over() {
    let (receiving, killed, living) = (Runtime::new().expect("a runtime"), Paused::new(), Paused::new());
    let mut receiver = receiving.block_on(Receiver::start());
    let (one, mut requests) = killed.run(busy(&mut receiver));
    killed.0.shutdown_background();
    receiver.release();
    living.run(async {
        let other = beside(&one, 1).await;
        other.pass(seconds(29)).await;
        assert_eq!(receiver.so_far().len(), 0, "nobody is taken for dead too early");
        other.pass(seconds(11)).await;
        assert_eq!(other.count(Status::Success).await, 20);
    });
    requests.extend(receiver.so_far());
    let counts = counts(&requests);
    assert_eq!((counts.len(), requests.len()), (20, 28), "what was under way goes out again, and nothing is lost");
}

#[test]
fn a_process_that_was_paused_sends_nothing_that_others_have_taken_over() {
    let (receiving, paused, living) = (Runtime::new().expect("a runtime"), Paused::new(), Paused::new());
    let mut receiver = receiving.block_on(Receiver::start());
    let (one, mut requests) = paused.run(busy(&mut receiver));
    receiver.release();
    living.run(async {
        let other = beside(&one, 1).await;
        other.pass(seconds(31)).await;
        assert_eq!(other.count(Status::Success).await, 20);
    });
    // It wakes up, and time has passed for it, too.
    one.clock.advance(seconds(60));
    paused.run(async {
        one.pass(seconds(0)).await;
        requests.extend(receiver.so_far());
        let counts = counts(&requests);
        let twice = counts.values().filter(|count| **count > 1).count();
        assert_eq!((counts.len(), twice), (20, 8), "only what was under way goes out twice");
        assert_eq!(one.count(Status::Success).await, 20);

        // It goes on under another name.
        one.visit(1, signup()).await.expect("an event that is taken");
        receiver.next().await;
        one.engine.drained().await;
        assert_eq!(one.count(Status::Success).await, 21);
    });
}

#[tokio::test]
async fn while_a_process_cannot_tell_whether_it_lives_it_keeps_what_comes_and_sends_nothing() {
    let (mut receiver, rig) = (Receiver::start().await, Rig::start().await);
    rig.hook(&receiver).await;
    rig.clock.advance(seconds(25));
    rig.complete().await;
    rig.engine.drained().await;
    assert_eq!((receiver.so_far().len(), rig.count(Status::Pending).await), (0, 1));
    rig.pass(seconds(0)).await;
    assert_eq!(receiver.received(1).await.len(), 1);
}

#[test]
fn one_of_several_processes_replays_and_prunes_and_another_does_when_it_is_dead() {
    let (receiving, killed, living) = (Runtime::new().expect("a runtime"), Paused::new(), Paused::new());
    let mut receiver = receiving.block_on(Receiver::start());
    receiver.behave_next([400, 400]);
    let one = killed.run(async {
        let one = Rig::start().await;
        one.hook(&receiver).await;
        one.complete_in_turn(2).await;
        receiver.received(2).await;
        one
    });
    let other = living.run(async {
        let other = beside(&one, 1).await;
        other.clock.advance(seconds(1));
        let replay = ReplayFilter {
            webhook_id: other.site().webhooks[0].webhook.id,
            status: Status::Failed,
            since: Timestamp::EPOCH,
            until: other.clock.now(),
        };
        assert_eq!(other.engine.replay(other.site_id, replay).await.expect("a replay"), 2);
        assert_eq!(other.engine.go_on_with_replays().await.expect("nothing to do"), Progress::default());
        other
    });
    killed.0.shutdown_background();
    living.run(async {
        other.pass(seconds(29)).await;
        other.pass(seconds(11)).await;
        other.pass(seconds(11)).await;
        other.engine.go_on_with_replays().await.expect("the replay");
        other.pass(seconds(0)).await;
        assert_eq!((receiver.received(2).await.len(), other.count(Status::Success).await), (2, 2));
    });
}

#[tokio::test]
async fn how_far_a_process_came_that_is_gone_is_forgotten_in_the_end() {
    let rig = Rig::start().await;
    let commits = || rig.numbers("SELECT COUNT(*) FROM commits");
    rig.database.store().await.close().await;
    let gone = rig.database.store().await;
    gone.check().await.expect("a database");
    gone.close().await;
    assert_eq!(commits().await, [2]);
    for (minutes, expected) in [(0, 2), (59, 2), (1, 1)] {
        rig.pass(seconds(minutes * 60)).await;
        rig.engine.prune().await.expect("pruned");
        assert_eq!(commits().await, [expected], "after {minutes} minutes");
    }
}

#[tokio::test]
async fn the_code_that_one_process_printed_makes_the_first_account_at_any() {
    let one = Rig::start().await;
    let other = beside(&one, 1).await;
    let code = one.engine.setup_code().await.expect("an answer").expect("a code");
    assert_eq!(other.engine.setup_code().await.expect("an answer").as_ref(), Some(&code));
    let credentials = || Credentials { email: "owner@example.com", password: "purple-otters-juggle-7", device: "Firefox" };
    other.engine.set_up(&code, credentials()).await.expect("the first account");
    assert!(matches!(one.engine.set_up(&code, credentials()).await, Err(ManageError::NotFound)));
    assert_eq!(one.engine.setup_code().await.expect("an answer"), None);
}

#[tokio::test]
async fn what_counts_events_is_for_one_process_alone() {
    let one = Rig::start().await;
    let spike = json!({"url": "https://example.com/hook", "triggers": ["visitor_spike"]});
    let counting = one.webhook(spike.clone()).await.webhook.id;
    let ((ambient, _), names) = (manual_of(1), one.names.clone());
    let living = async {
        let mut beats = tokio::time::interval(Duration::from_millis(100));
        loop {
            beats.tick().await;
            one.pass(seconds(5)).await;
        }
    };
    let refused = tokio::select! {
        started = start(&one.database, &ambient, &one.settings, &names) => started.err(),
        () = living => None,
    };
    assert!(matches!(refused, Some(StartError::Spread)), "{refused:?}");
    assert_eq!(one.numbers("SELECT COUNT(*) FROM owners").await, [1], "nobody waits for the one that was refused");

    one.engine.delete_webhook(one.site_id, counting).await.expect("a webhook");
    let other = beside(&one, 2).await;
    let refused = other.engine.create_webhook(other.site_id, new_webhook(&spike)).await.expect_err("a mistake").to_string();
    assert!(refused.contains("several take them here"), "{refused}");
    other.webhook(json!({"url": "https://example.com/hook", "triggers": ["goal_completion"]})).await;
}

#[tokio::test]
async fn what_counts_events_is_refused_from_the_moment_that_another_process_takes_them() {
    let one = Rig::start().await;
    let spike = json!({"url": "https://example.com/hook", "triggers": ["visitor_spike"]});
    let off = json!({"url": "https://example.com/hook", "triggers": ["visitor_spike"], "enabled": false});
    let off = one.webhook(off).await.webhook.id;
    let other = beside(&one, 1).await;
    // No sign of life was given since, by either of them.
    for rig in [&one, &other] {
        let refused = rig.engine.create_webhook(rig.site_id, new_webhook(&spike)).await.expect_err("a mistake").to_string();
        assert!(refused.contains("several take them here"), "{refused}");
        let on = webhook_change(&json!({"enabled": true}));
        rig.engine.update_webhook(rig.site_id, off, on).await.expect_err("a mistake");
    }
    one.engine.update_webhook(one.site_id, off, webhook_change(&json!({"name": "Still off"}))).await.expect("a webhook");
    one.webhook(json!({"url": "https://example.com/hook", "triggers": ["goal_completion"]})).await;
    other.workers.stop().await.expect("a clean stop");
    one.webhook(spike).await;
}

#[tokio::test]
async fn a_webhook_that_counts_events_stays_off_where_several_processes_take_them() {
    let one = Rig::start().await;
    let spike = json!({"url": "https://example.com/hook", "triggers": ["visitor_spike"], "enabled": false});
    let counting = one.webhook(spike).await.webhook.id;
    let other = beside(&one, 1).await;
    let switch = async |on: bool| {
        other.engine.update_webhook(other.site_id, counting, webhook_change(&json!({"enabled": on}))).await.map(|_| ())
    };
    let refused = switch(true).await.expect_err("a mistake").to_string();
    assert!(refused.contains("several processes take events here"), "{refused}");
    other.workers.stop().await.expect("a clean stop");

    let web = beside_as(roles("web,dispatch"), &one, 2).await;
    web.engine.update_webhook(web.site_id, counting, webhook_change(&json!({"enabled": true}))).await.expect("one takes them");
    drop(start(&web.database, &manual_of(3).0, &web.settings, &web.names).await.expect("it takes none either"));
}

pub(crate) fn roles(names: &str) -> Roles {
    names.parse().expect("roles")
}

/// One that is configured and takes events, and one that sends.
async fn apart() -> (Receiver, Rig, Rig) {
    let front = Rig::start_with(Settings { roles: roles("web,ingest"), ..settings() }).await;
    let sender = beside_as(roles("dispatch"), &front, 1).await;
    (Receiver::start().await, front, sender)
}

/// Within much less than the time after which the tables are looked at in any case.
async fn at_once<T>(arriving: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(1), arriving).await.expect("it within a second")
}

#[tokio::test]
async fn what_one_process_takes_another_sends_at_once() {
    let (mut receiver, front, sender) = apart().await;
    let webhook = front.hook(&receiver).await;
    heard(&sender, |sender| sender.site().webhook(webhook).is_some()).await;
    for _ in 0..3 {
        front.complete().await;
        at_once(receiver.next()).await;
    }
    // By hand, too.
    let test = front.engine.send_test(front.site_id, webhook).await.expect("a test");
    assert_eq!(at_once(receiver.next()).await.header("x-webhook-event"), "webhook_test");
    front.engine.resend(front.site_id, webhook, test).await.expect("another");
    at_once(receiver.next()).await;
    sender.engine.drained().await;
    assert_eq!(front.count(Status::Success).await, 5);
}

#[tokio::test]
async fn what_no_hint_tells_of_is_found_in_the_table() {
    let (mut receiver, front, sender) = apart().await;
    let webhook = front.hook(&receiver).await;
    heard(&sender, |sender| sender.site().webhook(webhook).is_some()).await;
    // As a hint that was lost: it is put into the table by nobody.
    front.workers.stop().await.expect("a clean stop");
    front.complete().await;
    sender.engine.drained().await;
    assert!(receiver.so_far().is_empty());
    sender.clock.advance(seconds(5));
    tokio::time::timeout(Duration::from_secs(10), receiver.next()).await.expect("what nobody told of");
}

#[tokio::test]
async fn the_eldest_of_those_that_send_replays_what_others_are_asked_for() {
    let (mut receiver, front, sender) = apart().await;
    let webhook = front.hook(&receiver).await;
    heard(&sender, |sender| sender.site().webhook(webhook).is_some()).await;
    receiver.behave_next([400]);
    front.complete().await;
    receiver.next().await;
    sender.engine.drained().await;
    front.clock.advance(seconds(1));
    let replay = ReplayFilter { webhook_id: webhook, status: Status::Failed, since: Timestamp::EPOCH, until: front.clock.now() };
    assert_eq!(front.engine.replay(front.site_id, replay).await.expect("a replay"), 1);
    assert_eq!(front.engine.go_on_with_replays().await.expect("nothing to do"), Progress::default(), "it does not send");
    tokio::time::timeout(Duration::from_secs(5), receiver.next()).await.expect("the replay");
    sender.engine.drained().await;
    assert_eq!(front.count(Status::Success).await, 1);
}

#[tokio::test]
async fn webhooks_that_one_process_forgets_are_forgotten_by_the_others() {
    let one = Rig::start().await;
    let webhook = one.webhook(json!({"url": "https://example.com/hook"})).await.webhook.id;
    let other = beside(&one, 1).await;
    one.engine.delete_webhook(one.site_id, webhook).await.expect("a webhook");
    heard(&other, |other| other.site().webhook(webhook).is_some_and(|webhook| webhook.deleted_at.is_some())).await;
    one.pass_days(31).await;
    one.clock.advance(seconds(3_601));
    one.engine.dispatch_due().await.expect("a tick");
    one.engine.prune().await.expect("pruned");
    assert!(one.site().webhooks.is_empty());
    heard(&other, |other| other.site().webhooks.is_empty()).await;
}

/// From then on commits of events wait while somebody else holds a lock.
const WAIT: &str = "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON events DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait();
    SELECT pg_advisory_lock(1)";
const IS_WAITING: &str = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
    AND query = 'COMMIT' AND wait_event = 'advisory'";

/// The answer to a commit is lost, and nobody can be asked about it: what it made this process's own is not in its memory.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_without_an_answer_is_sent_after_all() {
    let (mut receiver, before) = (Receiver::start().await, Rig::start().await);
    before.hook(&receiver).await;
    before.workers.stop().await.expect("a clean stop");
    let url = before.database.url();
    let host = url.strip_prefix("postgres://postgres@").and_then(|rest| rest.split_once('/')).expect("a URL").0;
    let cable = Cable::lay(host.parse().expect("an address")).await;
    let server = url.replace(host, &cable.address().to_string()).parse().expect("a URL");
    let store = Store::open(&Database::Server(Box::new(server)), Migration::Require).await.expect("a store");
    let (ambient, clock) = manual_of(1);
    let (workers, names) = (Workers::default(), before.names.clone());
    let engine = Engine::start(store, ambient.clone(), before.settings.clone(), names, &workers).await.expect("an engine");
    let rig = Rig { clock, ambient, engine, workers, ..before };

    let (holder, connection) = tokio_postgres::connect(&url, NoTls).await.expect("a connection");
    #[expect(clippy::disallowed_methods, reason = "it ends with the client")]
    tokio::spawn(connection);
    holder.batch_execute(WAIT).await.expect("a lock");
    let lose = async {
        while holder.query_opt(IS_WAITING, &[]).await.expect("what is under way").is_none() {}
        cable.cut();
        cable.sever().await;
        holder.batch_execute("SELECT pg_advisory_unlock(1)").await.expect("the lock");
    };
    let (kept, ()) = tokio::join!(rig.visit(1, signup()), lose);
    assert!(matches!(kept, Err(IngestError::Store(StoreError::InDoubt))), "{kept:?}");
    cable.mend();
    rig.pass(seconds(5)).await;
    assert_eq!(rig.numbers("SELECT COUNT(*) FROM deliveries WHERE owner IS NOT NULL").await, [1], "it was kept");
    rig.pass(seconds(55)).await;
    assert!(receiver.so_far().is_empty(), "it might be on its way into memory");
    for _ in 0..2 {
        rig.pass(seconds(5)).await;
    }
    assert_eq!(receiver.received(1).await.len(), 1);
    rig.engine.drained().await;
    assert_eq!((rig.count(Status::Success).await, receiver.so_far().len()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_several_processes_gather_goes_out_together_and_once() {
    let (mut receiver, one) = (Receiver::start().await, Rig::start().await);
    let other = beside(&one, 1).await;
    let webhook = one.batching(&receiver, 100).await.webhook.id;
    heard(&other, |other| other.site().webhook(webhook).is_some()).await;
    for _ in 0..5 {
        tokio::join!(one.complete(), other.complete());
    }
    tokio::join!(one.pass(seconds(10)), other.pass(seconds(10)));
    let request = receiver.next().await;
    assert_eq!(events(&request).len(), 10);
    tokio::join!(one.pass(seconds(10)), other.pass(seconds(10)));
    assert_eq!((receiver.so_far().len(), one.count(Status::Success).await), (0, 1));
    // What one has gathered alone, another sends when that one is gone.
    one.complete().await;
    one.workers.stop().await.expect("a clean stop");
    other.pass(seconds(10)).await;
    assert_eq!(events(&receiver.next().await).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_process_gathers_that_does_not_send_others_do() {
    let (mut receiver, sends) = (Receiver::start().await, Rig::start().await);
    let takes = beside_as("ingest".parse().expect("roles"), &sends, 1).await;
    let webhook = sends.batching(&receiver, 3).await.webhook.id;
    heard(&takes, |takes| takes.site().webhook(webhook).is_some()).await;
    for _ in 0..3 {
        takes.complete().await;
    }
    assert_eq!(events(&receiver.next().await).len(), 3, "full, as a hint says");
    takes.complete().await;
    sends.pass(seconds(10)).await;
    assert_eq!(events(&receiver.next().await).len(), 1);
}
