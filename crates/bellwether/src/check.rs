//! `bellwether check`: everything that is wrong with the settings and with what they point at, a line for each.
//!
//! Nothing is made or changed. What cannot be told as long as something else is wrong is left out.

use std::io::{self, Write as _};

use bellwether_domain::ambient::Ambient;
use bellwether_engine::Engine;
use bellwether_store::{Migration, Store};

use crate::config::Config;
use crate::secret_key::{self, SecretKeyError, SecretKeys};
use crate::server::{
    at, extra_roots, must_do_everything, must_exist, must_have_key, not_started, open, open_counter, settings_with,
};
use crate::{Ended, Wrong};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Without a key and without anything encrypted, any will do.
const ANY_KEY: SecretKeys = SecretKeys { current: [0; 32], former: Vec::new() };

/// `bellwether check`.
pub(crate) async fn check(config: &Config, ambient: &Ambient) -> Ended {
    let mut wrong = Wrong::default();
    wrong.note(must_do_everything(config));
    let keys = wrong.note(keys(config));
    let roots = wrong.note(extra_roots(config));
    let mut settings = settings_with(config, ANY_KEY, roots.flatten());
    let store = wrong.note(open_whole(config).await);
    let mut sites = 0;
    if let (Some(store), Some(keys)) = (&store, keys) {
        sites = wrong.note(check_database(config, store, keys, ambient).await).unwrap_or_default();
    }
    settings.counter = wrong.note(open_counter(config, Migration::Require).await).flatten();
    let checked = Engine::check_settings(ambient, &settings).await;
    wrong.note(checked.map_err(|error| not_started(config, &config.database, error)));
    if let Some(store) = store {
        store.close().await;
    }
    wrong.or(())?;
    Ok(writeln!(io::stdout(), "{}: {sites} sites, nothing is wrong", config.database)?)
}

/// The keys that encrypt; none where there are none yet.
fn keys(config: &Config) -> Result<Option<SecretKeys>, Error> {
    must_have_key(config)?;
    Ok(secret_key::load(config)?)
}

async fn open_whole(config: &Config) -> Result<Store, Error> {
    must_exist(&config.database)?;
    let store = open(&config.database, Migration::Require).await?;
    store.must_be_whole().await.map_err(|error| at(&config.database, &error))?;
    Ok(store)
}

/// Whether everything in it can be read and it can be written. Returns the number of sites.
async fn check_database(config: &Config, store: &Store, keys: Option<SecretKeys>, ambient: &Ambient) -> Result<usize, Error> {
    let database = &config.database;
    if keys.is_none() && !store.all_webhooks().await.map_err(|error| at(database, &error))?.is_empty() {
        return Err(SecretKeyError::missing(config).into());
    }
    let settings = settings_with(config, keys.unwrap_or(ANY_KEY), None);
    let sites = Engine::check(store, ambient, &settings).await.map_err(|error| not_started(config, database, error))?;
    store.check().await.map_err(|error| at(database, &error))?;
    Ok(sites)
}
