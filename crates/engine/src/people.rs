//! People: the first of them, signing in and out, and who has a part in which site.
//!
//! [`hashing`] says who may have a password hashed, and when. A guess at a password is counted before the password is looked at.

mod hashing;

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bellwether_domain::account::{check_password, parse_email, setup_code};
use bellwether_domain::ambient::Ambient;
use bellwether_domain::fields::Invalid;
use bellwether_domain::guess::{Guess, Guesses};
use bellwether_domain::id::{InvitationId, SessionId, SiteId, UserId};
use bellwether_store::{Invitation, NewUser, Role, Session, SignedIn, Store, StoreError, User};
use subtle::ConstantTimeEq as _;
use tracing::{error, info, warn};

use hashing::Hashing;
pub use hashing::{Crowded, hash_password};

use crate::manage::{ManageError, Result, not_found};
use crate::{Engine, token};

/// A session ends when nothing is asked for that long.
const SESSION: Duration = Duration::from_secs(14 * 24 * 3_600);
/// How often it is noted that a session is in use.
const TOUCH_INTERVAL: Duration = Duration::from_secs(300);
const INVITATION: Duration = Duration::from_secs(7 * 24 * 3_600);
const MAX_INVITATIONS_PER_SITE: usize = 50;
/// When somebody signs in once more, the session is over that was not used for the longest time.
const MAX_SESSIONS_PER_PERSON: usize = 50;
const MAX_DEVICE_CHARS: usize = 255;
/// What is compared with when there is no such account, so that this takes as long.
const NOBODYS_HASH: &str = "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// What signing in needs, beside the tables.
pub(crate) struct Door {
    guesses: Mutex<Guesses>,
    hashing: Hashing,
    /// Lets whoever has it make the first account; none once it is known that there is one.
    setup_code: Mutex<Option<String>>,
}

/// Why nobody was signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// No account has this address and password.
    #[error("the e-mail address or the password is wrong")]
    Wrong,
    /// There were too many mistakes.
    #[error("there were too many mistakes: try again in {} s", .0.as_secs())]
    Wait(Duration),
    /// The password was not looked at.
    #[error(transparent)]
    Crowded(#[from] Crowded),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Somebody who signs in, and from where.
pub struct Credentials<'a> {
    /// As it was typed.
    pub email: &'a str,
    /// As it was typed.
    pub password: &'a str,
    /// What the person will recognise the session by.
    pub device: &'a str,
}

impl Door {
    /// With the setup code, when there is nobody yet. It is the same in all processes of a database: whichever of them printed it,
    /// whichever is asked knows it.
    pub(crate) async fn open(store: &Store, ambient: &Ambient, key: &[u8; 32]) -> std::result::Result<Self, StoreError> {
        let code = store.keep_setup_nonce(ambient.bytes()).await?.map(|nonce| setup_code(key, &nonce));
        let guesses = Mutex::new(Guesses::new(ambient.bytes()));
        Ok(Self { guesses, hashing: Hashing::new(), setup_code: Mutex::new(code) })
    }

    fn guesses(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn code(&self) -> MutexGuard<'_, Option<String>> {
        self.setup_code.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Engine {
    /// What lets whoever has it make the first account; none once there is one, whoever made it.
    pub async fn setup_code(&self) -> std::result::Result<Option<String>, StoreError> {
        let code = self.inner.door.code().clone();
        // Other processes make accounts too.
        if code.is_some() && self.inner.store.has_users().await? {
            self.inner.door.code().take();
            return Ok(None);
        }
        Ok(code)
    }

    /// Whether `code` lets somebody make the first account.
    pub async fn is_setup_code(&self, code: &str) -> std::result::Result<bool, StoreError> {
        Ok(self.setup_code().await?.is_some_and(|right| right.as_bytes().ct_eq(code.as_bytes()).into()))
    }

    /// Makes the first account, an owner's, and signs the person in; returns what goes into the cookie.
    pub async fn set_up(&self, code: &str, credentials: Credentials<'_>) -> Result<String> {
        if !self.is_setup_code(code).await? {
            return Err(ManageError::NotFound);
        }
        let user = self.new_user(&credentials, true).await?;
        let (engine, id, device) = (self.clone(), user.id, credentials.device.to_owned());
        self.finish(async move {
            engine.inner.store.add_first_user(user).await.map_err(|error| match error {
                StoreError::Exists => ManageError::Conflict("there is an owner already"),
                error => error.into(),
            })?;
            info!(user = %id, "the first account was made");
            Ok(engine.begin_session(id, &device).await?)
        })
        .await
    }

    /// Signs somebody in who comes from a network; returns what goes into the cookie.
    pub async fn sign_in(&self, who: Credentials<'_>, network: IpAddr) -> std::result::Result<String, SignInError> {
        let user = self.who_is(&who, network).await?;
        info!(user = %user.id, "signed in");
        Ok(self.begin_session(user.id, who.device).await?)
    }

    /// Whose address and password these are.
    async fn who_is(&self, who: &Credentials<'_>, network: IpAddr) -> std::result::Result<User, SignInError> {
        let email = parse_email(who.email).map_err(|_| SignInError::Wrong)?;
        let found = self.inner.store.user_by_email(email.clone()).await?;
        let place = self.inner.door.hashing.place()?;
        let guess = Guess::SignIn { email: &email, has_account: found.is_some(), network };
        self.inner.door.guesses().begin(&guess, self.inner.ambient.now()).map_err(SignInError::Wait)?;
        let hash = found.as_ref().map_or(NOBODYS_HASH, |(_, hash)| hash).to_owned();
        let is_right = place.verify(who.password.to_owned(), hash).await;
        match found {
            Some((user, _)) if is_right => {
                self.inner.door.guesses().note_right(&guess);
                Ok(user)
            }
            _ => {
                warn!("somebody could not be signed in");
                Err(SignInError::Wrong)
            }
        }
    }

    /// Who bears a cookie.
    pub async fn signed_in(&self, cookie: &str) -> std::result::Result<Option<SignedIn>, StoreError> {
        let now = self.inner.ambient.now();
        let found = self.inner.store.signed_in(token::hash(cookie), now).await?;
        if let Some(SignedIn { session, .. }) = &found
            && now.since(session.last_seen_at) >= TOUCH_INTERVAL
            && let Err(error) = self.inner.store.touch_session(session.id, now, now + SESSION).await
        {
            // Whoever only looks can do without.
            error!(%error, session = %session.id, "it cannot be noted that a session is in use");
        }
        Ok(found)
    }

    /// Where a person is signed in.
    pub async fn sessions(&self, user_id: UserId) -> std::result::Result<Vec<Session>, StoreError> {
        self.inner.store.sessions(user_id, self.inner.ambient.now()).await
    }

    /// Signs a person out of one session.
    pub async fn sign_out(&self, user_id: UserId, session_id: SessionId) -> Result<()> {
        self.inner.store.delete_session(user_id, session_id).await.map_err(not_found)
    }

    /// Changes a person's password, and signs them out everywhere else.
    pub async fn change_password(&self, who: &SignedIn, old: &str, new: &str) -> Result<()> {
        self.check_own_password(who, old).await?;
        check_password(new, &who.user.email).map_err(|sentence| Invalid::field("password", sentence))?;
        let hash = self.hash_password(new).await?;
        self.inner.store.change_password(who.user.id, hash, Some(who.session.id)).await.map_err(not_found)
    }

    /// Whether somebody who is signed in knows the password.
    async fn check_own_password(&self, who: &SignedIn, password: &str) -> Result<()> {
        let (_, hash) = self.inner.store.user_by_email(who.user.email.clone()).await?.ok_or(ManageError::NotFound)?;
        let place = self.inner.door.hashing.place()?;
        let guess = Guess::Within(who.session.id);
        let begun = self.inner.door.guesses().begin(&guess, self.inner.ambient.now());
        let sentence = |pause: Duration| format!("was wrong too often: try again in {} s", pause.as_secs());
        begun.map_err(|pause| Invalid::field("old_password", sentence(pause)))?;
        if !place.verify(password.to_owned(), hash).await {
            return Err(Invalid::field("old_password", "is wrong").into());
        }
        self.inner.door.guesses().note_right(&guess);
        Ok(())
    }

    /// Makes a link by which somebody becomes a member of a site; returns what goes into the link.
    pub async fn invite(&self, site_id: SiteId, role: Role) -> Result<String> {
        let (token, now) = (token::new(&self.inner.ambient), self.inner.ambient.now());
        let id = InvitationId::new(&self.inner.ambient);
        let invitation = Invitation { id, site_id, role, created_at: now, expires_at: now + INVITATION };
        let added = self.inner.store.add_invitation(invitation, token::hash(&token), MAX_INVITATIONS_PER_SITE).await;
        added.map_err(|error| match error {
            StoreError::TooMany(most) => Invalid::field("invitations", format!("must be at most {most} a site")).into(),
            error => not_found(error),
        })?;
        Ok(token)
    }

    /// The invitation behind a link.
    pub async fn invitation(&self, token: &str) -> std::result::Result<Option<Invitation>, StoreError> {
        self.inner.store.find_invitation(token::hash(token), self.inner.ambient.now()).await
    }

    /// Makes a person who has an account a member by an invitation; returns the site. Who may do as much already leaves it to others.
    pub async fn accept(&self, token: &str, user_id: UserId) -> Result<SiteId> {
        let accepted = self.inner.store.accept_invitation(token::hash(token), user_id, None, self.inner.ambient.now()).await;
        accepted.map_err(|error| match error {
            StoreError::Exists => {
                ManageError::Conflict("you may do as much here already: the link is still good for somebody else")
            }
            error => not_found(error),
        })
    }

    /// Makes an account and a member by an invitation, and signs the person in; returns the site, and what goes into the cookie.
    pub async fn accept_as_new(&self, token: &str, credentials: Credentials<'_>) -> Result<(SiteId, String)> {
        let user = self.new_user(&credentials, false).await?;
        let (engine, id, device, token) = (self.clone(), user.id, credentials.device.to_owned(), token::hash(token));
        self.finish(async move {
            let accepted = engine.inner.store.accept_invitation(token, id, Some(user), engine.inner.ambient.now()).await;
            let site_id = accepted.map_err(|error| match error {
                StoreError::Exists => Invalid::field("email", "has an account already: sign in, then open the link again").into(),
                error => not_found(error),
            })?;
            Ok((site_id, engine.begin_session(id, &device).await?))
        })
        .await
    }

    /// Changes what a member may do.
    pub async fn change_member(&self, site_id: SiteId, user_id: UserId, role: Role) -> Result<()> {
        self.inner.store.change_member(site_id, user_id, role).await.map_err(not_found)
    }

    /// Takes a person's part in a site away.
    pub async fn remove_member(&self, site_id: SiteId, user_id: UserId) -> Result<()> {
        self.inner.store.remove_member(site_id, user_id).await.map_err(not_found)
    }

    /// Takes an invitation back.
    pub async fn take_invitation_back(&self, site_id: SiteId, id: InvitationId) -> Result<()> {
        self.inner.store.delete_invitation(site_id, id).await.map_err(not_found)
    }

    async fn begin_session(&self, user_id: UserId, device: &str) -> std::result::Result<String, StoreError> {
        let (token, now) = (token::new(&self.inner.ambient), self.inner.ambient.now());
        let device = device.chars().filter(|letter| !letter.is_control()).take(MAX_DEVICE_CHARS).collect();
        let id = SessionId::new(&self.inner.ambient);
        let session = Session { id, device, created_at: now, last_seen_at: now, expires_at: now + SESSION };
        self.inner.store.add_session(user_id, token::hash(&token), session, MAX_SESSIONS_PER_PERSON).await?;
        Ok(token)
    }

    async fn new_user(&self, credentials: &Credentials<'_>, owner: bool) -> Result<NewUser> {
        let mut invalid = Invalid::default();
        let email = parse_email(credentials.email).map_err(|sentence| invalid.add("email", sentence)).unwrap_or_default();
        let checked = check_password(credentials.password, &email);
        checked.unwrap_or_else(|sentence| invalid.add("password", sentence));
        let email = invalid.or(email)?;
        let password_hash = self.hash_password(credentials.password).await?;
        let (id, created_at) = (UserId::new(&self.inner.ambient), self.inner.ambient.now());
        Ok(NewUser { id, email, password_hash, owner, created_at })
    }

    async fn hash_password(&self, password: &str) -> Result<String> {
        let salt = self.inner.ambient.bytes();
        Ok(self.inner.door.hashing.place()?.hash(password.to_owned(), salt).await)
    }
}
