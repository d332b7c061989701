//! The short commands: they open the database, do one thing and say how it went.

use std::io::{self, IsTerminal as _, Read as _, Write as _};

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use bellwether_domain::ambient::Ambient;
use bellwether_domain::id::UserId;
use bellwether_engine::{Engine, new_key};
use bellwether_store::{Migration, NewUser, Store, StoreError};

use crate::Ended;
use crate::cli::{KeyCreate, Role, UserCreate};
use crate::config::Config;
use crate::secret_key::create_data_dir;
use crate::server::{at, settings};

type Error = Box<dyn std::error::Error + Send + Sync>;

const MAX_PASSWORD_BYTES: usize = 1_024;
const MIN_PASSWORD_CHARS: usize = 10;
const MAX_EMAIL_CHARS: usize = 254;
const MAX_KEY_NAME_CHARS: usize = 255;

/// `bellwether migrate`.
pub(crate) fn migrate(config: &Config) -> Ended {
    open(config)?;
    writeln!(io::stdout(), "{} is up to date", config.database_path.display())?;
    Ok(())
}

/// `bellwether key create`.
pub(crate) async fn create_key(config: &Config, ambient: &Ambient, create: KeyCreate) -> Ended {
    let name = create.name.trim().to_owned();
    if name.is_empty() || name.chars().count() > MAX_KEY_NAME_CHARS {
        return Err(format!("--name: must be 1 to {MAX_KEY_NAME_CHARS} characters").into());
    }
    let store = open(config)?;
    let site_id = match create.site {
        Some(domain) => {
            let sites = store.sites().await?;
            let site = sites.iter().find(|site| *site.domain == *domain);
            Some(site.ok_or_else(|| format!("--site: there is no site {domain}"))?.id)
        }
        None => None,
    };
    let role = match create.role {
        Role::Admin => bellwether_store::Role::Admin,
        Role::Viewer => bellwether_store::Role::Viewer,
    };
    let (text, key) = new_key(ambient, name, site_id, role);
    store.add_key(key).await?;
    writeln!(io::stdout(), "{text}")?;
    Ok(())
}

/// `bellwether user create`.
pub(crate) async fn create_user(config: &Config, ambient: &Ambient, create: UserCreate) -> Ended {
    let email = email(&create.email)?;
    let password = if create.password_stdin { read_password()? } else { ask_password()? };
    check_password(&password, &email)?;
    let password_hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &ambient.bytes::<16>());
    let password_hash = password_hash.map_err(|error| format!("the password cannot be hashed: {error}"))?.to_string();
    let (id, created_at) = (UserId::new(ambient), ambient.now());
    let user = NewUser { id, email: email.clone(), password_hash, owner: create.owner, created_at };
    open(config)?.add_user(user).await.map_err(|error| match error {
        StoreError::Exists => format!("--email: there is an account for {email} already"),
        error => error.to_string(),
    })?;
    writeln!(io::stdout(), "{id}")?;
    Ok(())
}

/// `bellwether check`.
pub(crate) async fn check(config: &Config, ambient: &Ambient) -> Ended {
    if !config.database_path.exists() {
        return Err(format!("{}: there is no database yet; serve or migrate makes it", config.database_path.display()).into());
    }
    let store = Store::open(&config.database_path, Migration::Require).map_err(|error| at(&config.database_path, &error))?;
    let sites = Engine::check(&store, ambient, &settings(config, ambient)?).await?;
    writeln!(io::stdout(), "{}: {sites} sites, nothing is wrong", config.database_path.display())?;
    Ok(())
}

fn open(config: &Config) -> Result<Store, Error> {
    create_data_dir(&config.data_dir)?;
    Store::open(&config.database_path, Migration::Run).map_err(|error| at(&config.database_path, &error).into())
}

/// An e-mail address in lower case, as far as its form tells.
fn email(text: &str) -> Result<String, Error> {
    let email = text.trim().to_lowercase();
    let has_form =
        email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'));
    if !has_form
        || email.chars().count() > MAX_EMAIL_CHARS
        || email.contains(|letter: char| letter.is_whitespace() || letter.is_control())
    {
        return Err(format!("--email: {text:?} is no e-mail address").into());
    }
    Ok(email)
}

fn read_password() -> Result<String, Error> {
    let mut password = String::new();
    let limit = u64::try_from(MAX_PASSWORD_BYTES + 2)?;
    io::stdin().take(limit).read_to_string(&mut password).map_err(|error| format!("--password-stdin: {error}"))?;
    Ok(password.trim_end_matches(['\r', '\n']).to_owned())
}

fn ask_password() -> Result<String, Error> {
    if !io::stdin().is_terminal() {
        return Err("there is no terminal to ask for the password on; --password-stdin reads it from standard input".into());
    }
    Ok(rpassword::prompt_password("Password: ")?)
}

fn check_password(password: &str, email: &str) -> Result<(), Error> {
    if password.chars().count() < MIN_PASSWORD_CHARS || password.len() > MAX_PASSWORD_BYTES {
        return Err(format!("the password must be {MIN_PASSWORD_CHARS} characters to {MAX_PASSWORD_BYTES} bytes long").into());
    }
    let strength = zxcvbn::zxcvbn(password, &[email, "bellwether"]);
    if strength.score() < zxcvbn::Score::Three {
        let advice = strength.feedback().and_then(|feedback| feedback.warning());
        let advice = advice.map_or_else(|| "choose a longer or less usual one".to_owned(), |advice| advice.to_string());
        return Err(format!("the password is easy to guess: {advice}").into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails() {
        assert_eq!(email(" Ada@Example.COM ").expect("an address"), "ada@example.com");
        for bad in ["", "ada", "@example.com", "ada@example", "a b@example.com", "a@b@c.com"] {
            assert!(email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn passwords() {
        assert!(check_password("purple-otters-juggle-7", "ada@example.com").is_ok());
        for bad in ["short", "password12345", "ada@example.com", &"x".repeat(1_025)] {
            assert!(check_password(bad, "ada@example.com").is_err(), "{bad}");
        }
    }
}
