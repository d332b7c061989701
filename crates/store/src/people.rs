//! People: their accounts, where they are signed in, and what they may do with which site.

use bellwether_domain::id::{InvitationId, SessionId, SiteId, UserId};
use bellwether_domain::time::Timestamp;

use crate::access::Role;
use crate::sites::changed_one;
use crate::sql::{Connection, Row, values};
use crate::{Store, StoreError};

/// A person to be kept.
#[derive(Clone)]
pub struct NewUser {
    /// The person's id.
    pub id: UserId,
    /// Lower case.
    pub email: String,
    /// In the format of PHC strings.
    pub password_hash: String,
    /// May do everything.
    pub owner: bool,
    /// When the account was made.
    pub created_at: Timestamp,
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The person's id.
    pub id: UserId,
    /// Lower case.
    pub email: String,
    /// May do everything.
    pub owner: bool,
}

/// Where a person is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// What people recognise it by.
    pub device: String,
    /// Since when.
    pub created_at: Timestamp,
    /// When something was asked for last.
    pub last_seen_at: Timestamp,
    /// When it ends, unless something is asked for before.
    pub expires_at: Timestamp,
}

/// Who is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// The person.
    pub user: User,
    /// Where.
    pub session: Session,
    /// The sites that the person has a part in. Owners have a part in all.
    pub sites: Vec<(SiteId, Role)>,
}

/// Somebody who has a part in a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The person.
    pub user_id: UserId,
    /// The person's address.
    pub email: String,
    /// What the person may do.
    pub role: Role,
}

/// A link that makes whoever opens it a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its id.
    pub id: InvitationId,
    /// The site.
    pub site_id: SiteId,
    /// What its member may do.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it can be accepted.
    pub expires_at: Timestamp,
}

impl Store {
    /// Keeps a person; one statement. Errors: `Exists` for the same e-mail address.
    pub async fn add_user(&self, new: NewUser) -> Result<(), StoreError> {
        self.write(move |connection| insert_user(connection, &new)).await
    }

    /// Keeps the first person, who has proved to know the code that was made of what [`Store::keep_setup_nonce`] keeps; one transaction.
    /// Errors: `Exists` when there is one already.
    pub async fn add_first_user(&self, new: NewUser) -> Result<(), StoreError> {
        let add = move |connection: &Connection| {
            // Only one of those who come at a time finds it there.
            let is_first = connection.execute("DELETE FROM setup", &[])? > 0 && !any_user(connection)?;
            if is_first { insert_user(connection, &new) } else { Err(StoreError::Exists) }
        };
        self.write(add).await
    }

    /// Keeps what the code of the first account is made of, unless something is kept already, and returns what is; none when there is
    /// somebody; one transaction.
    pub async fn keep_setup_nonce(&self, nonce: [u8; 16]) -> Result<Option<[u8; 16]>, StoreError> {
        let keep = move |connection: &Connection| {
            if any_user(connection)? {
                return Ok(None);
            }
            connection.execute("INSERT INTO setup (id, nonce) VALUES (1, $1) ON CONFLICT (id) DO NOTHING", &values![&nonce])?;
            connection.query_optional("SELECT nonce FROM setup", &[], |row| row.get(0))
        };
        self.write(keep).await
    }

    /// Whether there is anybody; one statement.
    pub async fn has_users(&self) -> Result<bool, StoreError> {
        self.read(any_user).await
    }

    /// A person by e-mail address, with the hash of the password; one statement.
    pub async fn user_by_email(&self, email: String) -> Result<Option<(User, String)>, StoreError> {
        let find = move |connection: &Connection| {
            let sql = "SELECT id, email, owner, password_hash FROM users WHERE email = $1";
            connection.query_optional(sql, &values![&email], |row| Ok((read_user(row)?, row.get(3)?)))
        };
        self.read(find).await
    }

    /// Changes a password, and signs the person out everywhere but in `kept`; one transaction. Errors: `Gone`.
    pub async fn change_password(&self, id: UserId, hash: String, kept: Option<SessionId>) -> Result<(), StoreError> {
        let change = move |connection: &Connection| {
            let sql = "UPDATE users SET password_hash = $1 WHERE id = $2";
            changed_one(connection.execute(sql, &values![&hash, id])?)?;
            let kept = kept.unwrap_or(SessionId::from_bytes([0; 16]));
            let sql = "DELETE FROM sessions WHERE user_id = $1 AND id <> $2";
            connection.execute(sql, &values![id, kept])?;
            Ok(())
        };
        self.write(change).await
    }

    /// Signs a person in, and forgets the sessions that are over, and those above `most` of the person's that were not used for the
    /// longest time; one transaction.
    pub async fn add_session(&self, user_id: UserId, hash: [u8; 32], session: Session, most: usize) -> Result<(), StoreError> {
        let add = move |connection: &Connection| {
            connection.execute("DELETE FROM sessions WHERE expires_at_us <= $1", &values![session.created_at])?;
            let sql = "DELETE FROM sessions WHERE user_id = $1 AND id NOT IN
                       (SELECT id FROM sessions WHERE user_id = $1 ORDER BY last_seen_at_us DESC, id DESC LIMIT $2)";
            connection.execute(sql, &values![user_id, most.saturating_sub(1)])?;
            let sql = "INSERT INTO sessions (id, hash, user_id, device, created_at_us, last_seen_at_us, expires_at_us)
                       VALUES ($1, $2, $3, $4, $5, $6, $7)";
            connection.execute(
                sql,
                &values![
                    session.id,
                    &hash,
                    user_id,
                    &session.device,
                    session.created_at,
                    session.last_seen_at,
                    session.expires_at,
                ],
            )?;
            Ok(())
        };
        self.write(add).await
    }

    /// Who bears a cookie at `now`, with the sites they have a part in; one transaction.
    pub async fn signed_in(&self, hash: [u8; 32], now: Timestamp) -> Result<Option<SignedIn>, StoreError> {
        let find = move |connection: &Connection| {
            let sql = "SELECT u.id, u.email, u.owner, s.id, s.device, s.created_at_us, s.last_seen_at_us, s.expires_at_us
                       FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.hash = $1 AND s.expires_at_us > $2";
            let row = |row: &Row<'_>| Ok((read_user(row)?, read_session(row, 3)?));
            let found = connection.query_optional(sql, &values![&hash, now], row)?;
            let Some((user, session)) = found else {
                return Ok(None);
            };
            let sites = sites_of(connection, user.id)?;
            Ok(Some(SignedIn { user, session, sites }))
        };
        self.read(find).await
    }

    /// Notes that a session is in use; one statement.
    pub async fn touch_session(&self, id: SessionId, now: Timestamp, expires_at: Timestamp) -> Result<(), StoreError> {
        let touch = move |connection: &Connection| {
            let sql = "UPDATE sessions SET last_seen_at_us = $1, expires_at_us = $2 WHERE id = $3";
            connection.execute(sql, &values![now, expires_at, id])?;
            Ok(())
        };
        self.write(touch).await
    }

    /// Where a person is signed in at `now`, the latest first; one statement.
    pub async fn sessions(&self, user_id: UserId, now: Timestamp) -> Result<Vec<Session>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = "SELECT id, device, created_at_us, last_seen_at_us, expires_at_us FROM sessions
                       WHERE user_id = $1 AND expires_at_us > $2 ORDER BY last_seen_at_us DESC, id";
            connection.query(sql, &values![user_id, now], |row| read_session(row, 0))
        };
        self.read(all).await
    }

    /// Signs a person out of one session; one statement. Errors: `Gone` when it is not the person's.
    pub async fn delete_session(&self, user_id: UserId, id: SessionId) -> Result<(), StoreError> {
        let delete = move |connection: &Connection| {
            let sql = "DELETE FROM sessions WHERE user_id = $1 AND id = $2";
            changed_one(connection.execute(sql, &values![user_id, id])?)
        };
        self.write(delete).await
    }

    /// Who has a part in a site, by address; one statement. Owners are not among them.
    pub async fn members(&self, site_id: SiteId) -> Result<Vec<Member>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = "SELECT u.id, u.email, m.role FROM members m JOIN users u ON u.id = m.user_id
                       WHERE m.site_id = $1 ORDER BY u.email";
            let member = |row: &Row<'_>| Ok(Member { user_id: row.get(0)?, email: row.get(1)?, role: row.get(2)? });
            connection.query(sql, &values![site_id], member)
        };
        self.read(all).await
    }

    /// Changes what a member may do; one statement. Errors: `Gone`.
    pub async fn change_member(&self, site_id: SiteId, user_id: UserId, role: Role) -> Result<(), StoreError> {
        let change = move |connection: &Connection| {
            let sql = "UPDATE members SET role = $1 WHERE user_id = $2 AND site_id = $3";
            changed_one(connection.execute(sql, &values![role.name(), user_id, site_id])?)
        };
        self.write(change).await
    }

    /// Takes a person's part in a site away; one statement. Errors: `Gone`.
    pub async fn remove_member(&self, site_id: SiteId, user_id: UserId) -> Result<(), StoreError> {
        let remove = move |connection: &Connection| {
            let sql = "DELETE FROM members WHERE user_id = $1 AND site_id = $2";
            changed_one(connection.execute(sql, &values![user_id, site_id])?)
        };
        self.write(remove).await
    }

    /// Keeps an invitation, up to `most` of a site; one transaction. Errors: `TooMany`, `Gone` without its site.
    pub async fn add_invitation(&self, new: Invitation, hash: [u8; 32], most: usize) -> Result<(), StoreError> {
        let add = move |connection: &Connection| {
            connection.execute("DELETE FROM invitations WHERE expires_at_us <= $1", &values![new.created_at])?;
            let count = "SELECT COUNT(*) FROM invitations WHERE site_id = $1";
            let count: usize = connection.query_one(count, &values![new.site_id], |row| row.get(0))?;
            if count >= most {
                return Err(StoreError::TooMany(most));
            }
            let sql = "INSERT INTO invitations (id, hash, site_id, role, created_at_us, expires_at_us)
                       VALUES ($1, $2, $3, $4, $5, $6)";
            let (created_at, expires_at) = (new.created_at, new.expires_at);
            let values = values![new.id, &hash, new.site_id, new.role.name(), created_at, expires_at];
            connection.execute(sql, &values)?;
            Ok(())
        };
        self.write(add).await
    }

    /// The invitations to a site that can be accepted at `now`; one statement.
    pub async fn invitations(&self, site_id: SiteId, now: Timestamp) -> Result<Vec<Invitation>, StoreError> {
        let all = move |connection: &Connection| {
            let sql = "SELECT id, site_id, role, created_at_us, expires_at_us FROM invitations
                       WHERE site_id = $1 AND expires_at_us > $2 ORDER BY id";
            connection.query(sql, &values![site_id, now], read_invitation)
        };
        self.read(all).await
    }

    /// The invitation behind a link at `now`; one statement.
    pub async fn find_invitation(&self, hash: [u8; 32], now: Timestamp) -> Result<Option<Invitation>, StoreError> {
        self.read(move |connection| select_invitation(connection, hash, now)).await
    }

    /// Takes an invitation back; one statement. Errors: `Gone`.
    pub async fn delete_invitation(&self, site_id: SiteId, id: InvitationId) -> Result<(), StoreError> {
        let delete = move |connection: &Connection| {
            let sql = "DELETE FROM invitations WHERE site_id = $1 AND id = $2";
            changed_one(connection.execute(sql, &values![site_id, id])?)
        };
        self.write(delete).await
    }

    /// Makes a person a member by an invitation, which is used up by that, and returns the site; one transaction. A `new` person is
    /// kept first. Errors: `Gone` without an invitation that can be accepted, `Exists` for a new person's address, and for whoever may
    /// do as much already.
    pub async fn accept_invitation(
        &self,
        hash: [u8; 32],
        user_id: UserId,
        new: Option<NewUser>,
        now: Timestamp,
    ) -> Result<SiteId, StoreError> {
        let accept = move |connection: &Connection| {
            let invitation = select_invitation(connection, hash, now)?.ok_or(StoreError::Gone)?;
            new.iter().try_for_each(|new| insert_user(connection, new))?;
            if role_on(connection, user_id, invitation.site_id)? >= Some(invitation.role) {
                return Err(StoreError::Exists);
            }
            let sql = "INSERT INTO members (user_id, site_id, role, created_at_us) VALUES ($1, $2, $3, $4)
                       ON CONFLICT (user_id, site_id) DO UPDATE SET role = excluded.role";
            let (site_id, role) = (invitation.site_id, invitation.role.name());
            connection.execute(sql, &values![user_id, site_id, role, now])?;
            connection.execute("DELETE FROM invitations WHERE id = $1", &values![invitation.id])?;
            Ok(site_id)
        };
        self.write(accept).await
    }
}

fn any_user(connection: &Connection) -> Result<bool, StoreError> {
    connection.query_one("SELECT EXISTS (SELECT 1 FROM users)", &[], |row| row.get(0))
}

fn insert_user(connection: &Connection, new: &NewUser) -> Result<(), StoreError> {
    let insert = "INSERT INTO users (id, email, password_hash, owner, created_at_us) VALUES ($1, $2, $3, $4, $5)";
    let (id, created_at) = (new.id, new.created_at);
    connection.execute(insert, &values![id, &new.email, &new.password_hash, new.owner, created_at])?;
    connection.execute("DELETE FROM setup", &[]).map(|_| ())
}

/// What a person may do with a site.
fn role_on(connection: &Connection, user_id: UserId, site_id: SiteId) -> Result<Option<Role>, StoreError> {
    let sql = "SELECT CASE WHEN u.owner THEN $1 ELSE m.role END
               FROM users u LEFT JOIN members m ON m.user_id = u.id AND m.site_id = $2 WHERE u.id = $3";
    Ok(connection.query_optional(sql, &values![Role::Admin, site_id, user_id], |row| row.get(0))?.flatten())
}

fn sites_of(connection: &Connection, user_id: UserId) -> Result<Vec<(SiteId, Role)>, StoreError> {
    let sql = "SELECT site_id, role FROM members WHERE user_id = $1";
    connection.query(sql, &values![user_id], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn select_invitation(connection: &Connection, hash: [u8; 32], now: Timestamp) -> Result<Option<Invitation>, StoreError> {
    let sql = "SELECT id, site_id, role, created_at_us, expires_at_us FROM invitations
               WHERE hash = $1 AND expires_at_us > $2
               AND site_id IN (SELECT id FROM sites WHERE deleted_at_us IS NULL)";
    connection.query_optional(sql, &values![&hash, now], read_invitation)
}

fn read_user(row: &Row<'_>) -> Result<User, StoreError> {
    Ok(User { id: row.get(0)?, email: row.get(1)?, owner: row.get(2)? })
}

fn read_session(row: &Row<'_>, first: usize) -> Result<Session, StoreError> {
    Ok(Session {
        id: row.get(first)?,
        device: row.get(first + 1)?,
        created_at: row.get(first + 2)?,
        last_seen_at: row.get(first + 3)?,
        expires_at: row.get(first + 4)?,
    })
}

fn read_invitation(row: &Row<'_>) -> Result<Invitation, StoreError> {
    Ok(Invitation { id: row.get(0)?, site_id: row.get(1)?, role: row.get(2)?, created_at: row.get(3)?, expires_at: row.get(4)? })
}
