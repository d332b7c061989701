//! People: their accounts, their sessions, and what they may do with which site.

use std::time::Duration;

use bellwether_domain::id::{InvitationId, SessionId, SiteId, UserId};
use bellwether_store::{Invitation, NewUser, Role, Session, StoreError};

use super::rig::Rig;

pub(crate) fn user(rig: &Rig, email: &str, owner: bool) -> NewUser {
    let (id, password_hash) = (UserId::new(&rig.ambient), format!("hash of {email}"));
    NewUser { id, email: email.to_owned(), password_hash, owner, created_at: rig.now() }
}

fn session(rig: &Rig, seconds: u64) -> Session {
    let (id, now) = (SessionId::new(&rig.ambient), rig.now());
    Session { id, device: "Firefox on Linux".to_owned(), created_at: now, last_seen_at: now, expires_at: rig.later(seconds) }
}

fn invitation(rig: &Rig, site_id: SiteId, role: Role) -> Invitation {
    Invitation { id: InvitationId::new(&rig.ambient), site_id, role, created_at: rig.now(), expires_at: rig.later(60) }
}

#[tokio::test]
async fn the_first_person_is_the_first_once() {
    let rig = Rig::new().await;
    assert!(!rig.store.has_users().await.expect("an answer"));
    let first = user(&rig, "a@example.com", true);
    assert!(matches!(rig.store.add_first_user(first.clone()).await, Err(StoreError::Exists)), "nobody was told how");
    let kept = [[1; 16], [2; 16]].map(|nonce| rig.store.keep_setup_nonce(nonce));
    let kept = futures_util::future::join_all(kept).await.into_iter().map(|kept| kept.expect("an answer"));
    assert_eq!(kept.collect::<Vec<_>>(), [Some([1; 16]), Some([1; 16])], "who comes first decides");
    rig.store.add_first_user(first.clone()).await.expect("a person");
    assert!(rig.store.has_users().await.expect("an answer"));
    assert!(matches!(rig.store.add_first_user(user(&rig, "b@example.com", true)).await, Err(StoreError::Exists)));
    let (found, hash) = rig.store.user_by_email("a@example.com".to_owned()).await.expect("an answer").expect("the person");
    assert_eq!((found.id, found.owner, hash), (first.id, true, first.password_hash));
    assert_eq!(rig.store.user_by_email("b@example.com".to_owned()).await.expect("an answer"), None);
    assert_eq!(rig.store.keep_setup_nonce([3; 16]).await.expect("an answer"), None);
}

#[tokio::test]
async fn the_code_is_over_with_any_account() {
    let rig = Rig::new().await;
    rig.store.keep_setup_nonce([1; 16]).await.expect("an answer");
    rig.store.add_user(user(&rig, "a@example.com", false)).await.expect("a person");
    assert!(matches!(rig.store.add_first_user(user(&rig, "b@example.com", true)).await, Err(StoreError::Exists)));
}

#[tokio::test]
async fn sessions_are_found_while_they_last_and_end_alone_or_with_a_password() {
    let rig = Rig::new().await;
    let (a, b) = (user(&rig, "a@example.com", false), user(&rig, "b@example.com", false));
    for user in [&a, &b] {
        rig.store.add_user(user.clone()).await.expect("a person");
    }
    let (first, second, other) = (session(&rig, 60), session(&rig, 60), session(&rig, 60));
    for (user_id, hash, session) in [(a.id, 1, &first), (a.id, 2, &second), (b.id, 3, &other)] {
        rig.store.add_session(user_id, [hash; 32], session.clone(), 10).await.expect("a session");
    }
    let found = async |hash: u8| rig.store.signed_in([hash; 32], rig.now()).await.expect("an answer");
    let signed_in = found(1).await.expect("somebody");
    assert_eq!((signed_in.user.id, signed_in.session, signed_in.sites), (a.id, first.clone(), Vec::new()));
    assert_eq!(found(9).await, None);
    rig.clock.advance(Duration::from_secs(30));
    rig.store.touch_session(second.id, rig.now(), rig.later(60)).await.expect("noted");
    let listed = rig.store.sessions(a.id, rig.now()).await.expect("sessions");
    assert_eq!(listed.iter().map(|session| session.id).collect::<Vec<_>>(), [second.id, first.id]);
    rig.clock.advance(Duration::from_secs(30));
    assert!(found(1).await.is_none() && found(2).await.is_some());
    assert!(matches!(rig.store.delete_session(b.id, second.id).await, Err(StoreError::Gone)));
    let third = session(&rig, 60);
    rig.store.add_session(a.id, [4; 32], third.clone(), 10).await.expect("a session");
    assert!(matches!(rig.store.delete_session(a.id, first.id).await, Err(StoreError::Gone)), "it was over and is forgotten");
    rig.store.change_password(a.id, "new".to_owned(), Some(third.id)).await.expect("changed");
    assert!(found(2).await.is_none() && found(4).await.is_some());
    rig.store.delete_session(a.id, third.id).await.expect("signed out");
    assert!(found(4).await.is_none());
    assert!(matches!(rig.store.change_password(UserId::new(&rig.ambient), String::new(), None).await, Err(StoreError::Gone)));
}

#[tokio::test]
async fn of_many_sessions_those_are_kept_that_are_in_use() {
    let rig = Rig::new().await;
    let (a, b) = (user(&rig, "a@example.com", false), user(&rig, "b@example.com", false));
    for user in [&a, &b] {
        rig.store.add_user(user.clone()).await.expect("a person");
    }
    let first = session(&rig, 60);
    rig.store.add_session(a.id, [1; 32], first.clone(), 3).await.expect("a session");
    for hash in [2, 3] {
        rig.clock.advance(Duration::from_secs(1));
        rig.store.add_session(a.id, [hash; 32], session(&rig, 60), 3).await.expect("a session");
        rig.store.add_session(b.id, [10 + hash; 32], session(&rig, 60), 3).await.expect("a session");
    }
    rig.clock.advance(Duration::from_secs(1));
    rig.store.touch_session(first.id, rig.now(), rig.later(60)).await.expect("noted");
    rig.store.add_session(a.id, [4; 32], session(&rig, 60), 3).await.expect("a session");
    let is_kept = async |hash: u8| rig.store.signed_in([hash; 32], rig.now()).await.expect("an answer").is_some();
    for (hash, expected) in [(1, true), (2, false), (3, true), (4, true), (12, true), (13, true)] {
        assert_eq!(is_kept(hash).await, expected, "{hash}");
    }
}

#[tokio::test]
async fn an_invitation_lowers_nobody_and_is_not_used_up_by_whoever_may_do_as_much() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let (member, owner) = (user(&rig, "a@example.com", false), user(&rig, "b@example.com", true));
    for user in [&member, &owner] {
        rig.store.add_user(user.clone()).await.expect("a person");
    }
    for (hash, role) in [(1, Role::Admin), (2, Role::Viewer), (3, Role::Admin)] {
        rig.store.add_invitation(invitation(&rig, site, role), [hash; 32], 3).await.expect("an invitation");
    }
    let accept = async |hash: u8, id| rig.store.accept_invitation([hash; 32], id, None, rig.now()).await;
    accept(1, member.id).await.expect("the site");
    for (hash, id) in [(2, member.id), (3, member.id), (2, owner.id), (3, owner.id)] {
        assert!(matches!(accept(hash, id).await, Err(StoreError::Exists)), "{hash}");
    }
    assert_eq!(rig.store.invitations(site, rig.now()).await.expect("invitations").len(), 2);
    let members = rig.store.members(site).await.expect("members");
    assert_eq!(members.iter().map(|member| member.role).collect::<Vec<_>>(), [Role::Admin]);
}

#[tokio::test]
async fn an_invitation_makes_one_member_and_is_used_up() {
    let rig = Rig::new().await;
    let site = rig.site("example.com").await.id;
    let new = user(&rig, "a@example.com", false);
    for (hash, role) in [(1, Role::Viewer), (2, Role::Admin), (3, Role::Viewer)] {
        rig.store.add_invitation(invitation(&rig, site, role), [hash; 32], 3).await.expect("an invitation");
    }
    assert!(matches!(
        rig.store.add_invitation(invitation(&rig, site, Role::Viewer), [4; 32], 3).await,
        Err(StoreError::TooMany(3))
    ));
    assert_eq!(rig.store.invitations(site, rig.now()).await.expect("invitations").len(), 3);
    let accept = async |hash: u8, new: Option<NewUser>, id| rig.store.accept_invitation([hash; 32], id, new, rig.now()).await;
    assert_eq!(accept(1, Some(new.clone()), new.id).await.expect("the site"), site);
    assert!(matches!(accept(1, None, new.id).await, Err(StoreError::Gone)));
    let same = user(&rig, "a@example.com", false);
    assert!(matches!(accept(2, Some(same.clone()), same.id).await, Err(StoreError::Exists)));
    let members = rig.store.members(site).await.expect("members");
    assert_eq!(
        members.iter().map(|member| (member.email.as_str(), member.role)).collect::<Vec<_>>(),
        [("a@example.com", Role::Viewer)]
    );
    accept(2, None, new.id).await.expect("the site");
    assert_eq!(rig.store.members(site).await.expect("members")[0].role, Role::Admin);
    rig.store.change_member(site, new.id, Role::Viewer).await.expect("changed");
    rig.store.add_session(new.id, [7; 32], session(&rig, 60), 10).await.expect("a session");
    let signed_in = rig.store.signed_in([7; 32], rig.now()).await.expect("an answer").expect("somebody");
    assert_eq!(signed_in.sites, [(site, Role::Viewer)]);
    rig.store.remove_member(site, new.id).await.expect("removed");
    assert!(matches!(rig.store.remove_member(site, new.id).await, Err(StoreError::Gone)));
    assert!(matches!(rig.store.change_member(site, new.id, Role::Admin).await, Err(StoreError::Gone)));
    let left = rig.store.invitations(site, rig.now()).await.expect("invitations");
    assert!(rig.store.find_invitation([3; 32], rig.now()).await.expect("an answer").is_some());
    rig.store.delete_invitation(site, left[0].id).await.expect("taken back");
    assert!(rig.store.find_invitation([3; 32], rig.now()).await.expect("an answer").is_none());
    rig.store.add_invitation(invitation(&rig, site, Role::Viewer), [5; 32], 3).await.expect("an invitation");
    assert!(rig.store.find_invitation([5; 32], rig.later(60)).await.expect("an answer").is_none());
    rig.store.delete_site(site, rig.now()).await.expect("deleted");
    assert!(rig.store.find_invitation([5; 32], rig.now()).await.expect("an answer").is_none());
}
