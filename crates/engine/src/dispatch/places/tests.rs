use super::*;

const BEFORE: Timestamp = Timestamp::EPOCH;

fn now() -> Timestamp {
    BEFORE + Duration::from_secs(1)
}

fn later() -> Timestamp {
    BEFORE + Duration::from_secs(2)
}

fn id(number: u16) -> WebhookId {
    let mut bytes = [0; 16];
    bytes[14..].copy_from_slice(&number.to_be_bytes());
    WebhookId::from_bytes(bytes)
}

fn all(_: WebhookId) -> usize {
    usize::MAX
}

/// Everything that an endpoint gets when it takes what it can.
fn fill(places: &Arc<Places>, webhook_id: WebhookId) -> Vec<Place> {
    std::iter::from_fn(|| places.take(webhook_id, now())).collect()
}

#[test]
fn endpoints_share_the_places_and_leave_room_for_one_more() {
    let places = Places::new();
    let first = fill(&places, id(1));
    assert_eq!(first.len(), (MAX_HELD - RESERVED) / 2);
    let others: Vec<_> = (2..200).map(|number| fill(&places, id(number))).collect();
    assert!(others.iter().all(|held| held.len() >= FEW));
    assert_eq!(fill(&places, id(1_000)).len(), FEW);
    drop(first);
    assert!(fill(&places, id(1_000)).len() > MAX_HELD / 10);
    drop(others);
    assert!(places.state().endpoints.is_empty());
    assert_eq!(places.state().free, MAX_HELD);
}

#[test]
fn hanging_endpoints_that_come_in_turn_have_equal_shares() {
    let places = Places::new();
    let mut held: Vec<Vec<Place>> = (0..99).map(|_| Vec::new()).collect();
    for _ in 0..MAX_HELD {
        for (number, held) in (0..).zip(&mut held) {
            held.extend(places.take(id(number), now()));
        }
    }
    let share = (MAX_HELD - RESERVED) / 100;
    assert!(held.iter().all(|held| held.len() == share), "{:?}", held.iter().map(Vec::len).collect::<Vec<_>>());
    assert_eq!(fill(&places, id(1_000)).len(), share / 2);
}

#[test]
fn what_is_new_waits_behind_what_is_due_in_the_table() {
    let places = Places::new();
    places.note_stored(id(1), later());
    assert!(places.take(id(1), now()).is_some());
    assert!(places.take(id(1), later()).is_none());
    assert!(places.take(id(2), later()).is_some());
}

#[test]
fn what_waits_in_the_table_comes_in_when_it_is_due_and_much_at_a_time() {
    let places = Places::new();
    places.note_stored(id(1), later());
    places.note_stored(id(1), now());
    places.note_stored(id(1), later());
    places.note_stored(id(2), later());
    assert_eq!(places.next_look(BEFORE, all), Some(now()));
    let taken = places.take_for_stored((now(), 600), all);
    assert_eq!(taken.iter().map(|(webhook_id, places)| (*webhook_id, places.len())).collect::<Vec<_>>(), [(id(1), 600)]);
    assert_eq!(places.next_look(now(), all), Some(later()));
    places.note_stored(id(1), now());
    assert_eq!(places.next_look(now(), all), Some(now()));
}

#[test]
fn an_endpoint_that_holds_much_waits_for_room_and_another_does_not() {
    let places = Places::new();
    let mut held = fill(&places, id(1));
    places.note_stored(id(1), now());
    assert_eq!(places.next_look(now(), all), Some(now() + ROOM_INTERVAL));
    assert!(places.take_for_stored((now(), 600), all).is_empty());
    places.note_stored(id(2), now());
    assert_eq!(places.next_look(now(), all), Some(now()));
    assert_eq!(places.take_for_stored((now(), 600), all).len(), 1);
    held.truncate(MAX_HELD / 8);
    assert_eq!(places.take_for_stored((now(), 600), all).len(), 1);
}

/// An endpoint whose breaker opened at `at`.
fn open(places: &Places, webhook_id: WebhookId, at: Timestamp) {
    let ended: Vec<_> = (0..5).map(|_| places.attempt_ended(webhook_id, false, Pass::Usual, at).change).collect();
    assert_eq!(ended[4], Change::Opens(at + Duration::from_secs(1)));
}

#[test]
fn a_barred_endpoint_gets_one_place_at_a_time_and_only_when_it_is_time() {
    let places = Places::new();
    let held = fill(&places, id(1));
    places.note_stored(id(1), BEFORE);
    open(&places, id(1), BEFORE);
    drop(held);
    assert!(places.take(id(1), BEFORE).is_none() && places.take_for_stored((BEFORE, 600), all).is_empty());
    assert_eq!(places.next_look(BEFORE, all), Some(now()));
    assert!(places.is_barred(id(1)) && !places.is_idle(id(1), now()));
    let mut trial = places.take_for_stored((now(), 600), all);
    assert_eq!(trial.len(), 1);
    assert_eq!(trial[0].1.len(), 1);
    assert_eq!(trial[0].1[0].pass(), Pass::Trial);
    places.note_stored(id(1), BEFORE);
    assert!(places.take_for_stored((later(), 600), all).is_empty());
    assert_eq!(places.next_look(later(), all), Some(now() + TRIAL_TIME));
    assert_eq!(places.attempt_ended(id(1), true, Pass::Trial, later()).change, Change::Closes);
    trial.clear();
    let taken = places.take_for_stored((later(), 600), all);
    assert_eq!(taken[0].1.len(), 600);
    assert_eq!(taken[0].1[0].pass(), Pass::Usual);
}

#[test]
fn what_is_sent_by_hand_passes_a_bar_and_a_trial_that_came_to_nothing_is_made_again() {
    let places = Places::new();
    open(&places, id(2), BEFORE);
    assert!(places.take_by_hand(id(2)).is_some_and(|place| place.pass() == Pass::ByHand));
    assert!(places.is_barred(id(2)));
    let trial = places.take(id(2), now());
    assert!(trial.as_ref().is_some_and(|place| place.pass() == Pass::Trial));
    assert!(places.take(id(2), later()).is_none());
    drop(trial);
    assert!(places.take(id(2), later()).is_some_and(|place| place.pass() == Pass::Trial));
    places.start_over(id(2));
    assert!(!places.is_barred(id(2)));
    assert!(places.state().endpoints.is_empty());
}

/// In whatever order what was under way ends, what is known of the endpoint and what may come in agree.
#[test]
fn a_success_among_failures_leaves_no_bar() {
    for success_at in 0..7 {
        let places = Places::new();
        for index in 0..7 {
            places.attempt_ended(id(1), index == success_at, Pass::Usual, BEFORE);
        }
        let is_open = places.breaker(id(1)).trial_at().is_some();
        assert_eq!(places.is_barred(id(1)), is_open, "{success_at}");
        assert_eq!(is_open, success_at == 0 || success_at == 1, "{success_at}");
    }
}

#[test]
fn it_is_told_once_since_when_an_endpoint_fails() {
    let places = Places::new();
    let attempt = |success| places.attempt_ended(id(1), success, Pass::Usual, now());
    attempt(true);
    assert!(places.take_changes().is_empty());
    attempt(false);
    attempt(false);
    let changes = places.take_changes();
    assert_eq!(changes, [(id(1), Some(now()))]);
    assert!(places.take_changes().is_empty());
    places.put_changes_back(&changes);
    attempt(true);
    assert_eq!(places.take_changes(), [(id(1), None)]);
    assert!(places.state().endpoints.is_empty());
}

#[test]
fn an_endpoint_with_next_to_nothing_to_do_is_idle() {
    let places = Places::new();
    assert!(places.is_idle(id(1), now()));
    let mut held: Vec<_> = (0..FEW).filter_map(|_| places.take(id(1), now())).collect();
    assert!(!places.is_idle(id(1), now()));
    held.pop();
    assert!(places.is_idle(id(1), now()));
    places.note_stored(id(1), later());
    assert!(places.is_idle(id(1), now()) && !places.is_idle(id(1), later()));
}

#[tokio::test]
async fn closed_places_take_nothing_in_and_become_free() {
    let places = Places::new();
    let held = places.take(id(1), now());
    places.note_stored(id(2), now());
    places.close();
    assert!(places.take(id(1), now()).is_none() && places.take_for_stored((now(), 600), all).is_empty());
    let mut all_free = std::pin::pin!(places.all_free());
    assert!(tokio::time::timeout(Duration::ZERO, &mut all_free).await.is_err());
    drop(held);
    all_free.await;
}
#[test]
fn an_endpoint_of_large_requests_holds_few_of_them() {
    let places = Places::new();
    let most = |webhook_id| if webhook_id == id(1) { 8 } else { usize::MAX };
    places.note_stored(id(1), now());
    places.note_stored(id(2), now());
    let mut taken = places.take_for_stored((now(), 600), most);
    taken.sort_by_key(|(webhook_id, _)| *webhook_id);
    assert_eq!(taken.iter().map(|(_, places)| places.len()).collect::<Vec<_>>(), [8, 592]);
    places.note_stored(id(1), now());
    assert!(places.take_for_stored((now(), 600), most).is_empty());
    taken[0].1.truncate(5);
    assert_eq!(places.take_for_stored((now(), 600), most)[0].1.len(), 3);
}
