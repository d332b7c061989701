//! People: the first account, and guessing.

use std::net::{IpAddr, Ipv4Addr};

use bellwether_domain::id::UserId;
use bellwether_engine::{Credentials, SignInError};
use bellwether_store::NewUser;
use futures_util::FutureExt as _;
use futures_util::future::join_all;

use super::rig::Rig;

const OWNER: &str = "owner@example.com";
const PASSWORD: &str = "purple-otters-juggle-7";
const NETWORK: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

impl Rig {
    async fn sign_in(&self, email: &str, password: &str) -> Result<String, SignInError> {
        self.engine.sign_in(Credentials { email, password, device: "Firefox on Linux" }, NETWORK).await
    }

    /// Makes an account as another process does.
    async fn add_owner(&self) {
        let password_hash = bellwether_engine::hash_password(PASSWORD, [1; 16]);
        let (id, email, created_at) = (UserId::new(&self.ambient), OWNER.to_owned(), self.ambient.now());
        self.engine.store().add_user(NewUser { id, email, password_hash, owner: true, created_at }).await.expect("an account");
    }
}

#[tokio::test]
async fn the_first_account_is_whole_although_whoever_makes_it_goes_away() {
    let rig = Rig::start().await;
    let code = rig.engine.setup_code().await.expect("an answer").expect("a code");
    let credentials = Credentials { email: OWNER, password: PASSWORD, device: "Firefox on Linux" };
    let mut making = Box::pin(rig.engine.set_up(&code, credentials));
    let store = rig.engine.store();
    while !store.has_users().await.expect("an answer") {
        // Only this lets it go on.
        let _ = making.as_mut().now_or_never();
    }
    drop(making);
    assert_eq!(rig.engine.setup_code().await.expect("an answer"), None);
    let (owner, _) = store.user_by_email(OWNER.to_owned()).await.expect("an answer").expect("the owner");
    rig.workers.stop().await.expect("everything that was begun");
    assert_eq!(store.sessions(owner.id, rig.ambient.now()).await.expect("sessions").len(), 1);
}

#[tokio::test]
async fn the_code_of_the_first_account_stays_the_same_until_there_is_one() {
    let mut rig = Rig::start().await;
    let code = rig.engine.setup_code().await.expect("an answer").expect("a code");
    rig.restart().await;
    assert_eq!(rig.engine.setup_code().await.expect("an answer").as_ref(), Some(&code));
    assert!(rig.engine.is_setup_code(&code).await.expect("an answer"));
    rig.settings.secret_key = [8; 32];
    rig.restart().await;
    assert_ne!(rig.engine.setup_code().await.expect("an answer").as_ref(), Some(&code), "whoever has the database alone");
    rig.add_owner().await;
    assert!(!rig.engine.is_setup_code(&code).await.expect("an answer"));
    rig.restart().await;
    assert_eq!(rig.engine.setup_code().await.expect("an answer"), None);
}

#[tokio::test]
async fn guesses_made_at_once_count_as_if_one_came_after_the_other() {
    let rig = Rig::start().await;
    rig.add_owner().await;
    let guesses = join_all((0..50).map(|_| rig.sign_in(OWNER, "wrong"))).await;
    let hashed = guesses.iter().filter(|guess| matches!(guess, Err(SignInError::Wrong))).count();
    let refused = guesses.iter().filter(|guess| matches!(guess, Err(SignInError::Wait(_)))).count();
    assert_eq!((hashed, refused), (5, 45));
}

#[tokio::test]
async fn few_wait_for_their_password_to_be_looked_at() {
    let rig = Rig::start().await;
    let emails: Vec<_> = (0..100).map(|number| format!("{number}@example.com")).collect();
    let guesses = join_all(emails.iter().map(|email| rig.sign_in(email, PASSWORD))).await;
    let looked_at = guesses.iter().filter(|guess| matches!(guess, Err(SignInError::Wrong))).count();
    let turned_away = guesses.iter().filter(|guess| matches!(guess, Err(SignInError::Crowded(_)))).count();
    assert_eq!(looked_at + turned_away, 100);
    assert!(looked_at >= 32 && turned_away > 0, "{looked_at} were looked at");
}
