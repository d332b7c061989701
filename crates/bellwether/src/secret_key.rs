//! The key that encrypts webhook secrets at rest: given in the settings, or generated in the data directory.
//!
//! A key file that is there is never written to, whatever is in it: what it encrypted would be lost.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_domain::ambient::Random;

use crate::config::Config;

const FILE: &str = "secret.key";

/// A key of 32 bytes. It shows itself nowhere: not in logs, not in debug output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SecretKey([u8; 32]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretKeyError {
    /// Something cannot be done with a file or directory.
    #[error("BELLWETHER_DATA_DIR: cannot {action} {}: {source}", path.display())]
    Io {
        /// What cannot be done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// There is no key file, but there is what was encrypted with it.
    #[error(
        "BELLWETHER_DATA_DIR: there is no {}, which the secrets of webhooks are encrypted with: restore it, or set BELLWETHER_SECRET_KEY",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The key file holds something else.
    #[error(
        "BELLWETHER_DATA_DIR: {} holds no key (the base64 of 32 bytes): restore it, or set BELLWETHER_SECRET_KEY; it is left as it is",
        path.display()
    )]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
}

/// A text is no key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the base64 of 32 bytes, as `openssl rand -base64 32` prints it")]
pub(crate) struct NotASecretKey;

/// The configured key, or the one in the data directory; none where there is none yet.
pub(crate) fn load(config: &Config) -> Result<Option<[u8; 32]>, SecretKeyError> {
    let key = match config.secret_key {
        Some(key) => Some(key),
        None => read(&config.data_dir.join(FILE))?,
    };
    Ok(key.map(|SecretKey(key)| key))
}

/// Generates a key in the data directory. Of several processes that do so at once, one wins, and all answer with its key: it
/// is written beside its place and linked there, which fails where another process was quicker. A reader sees no key or the
/// whole of it.
pub(crate) fn create(config: &Config, random: &dyn Random) -> Result<[u8; 32], SecretKeyError> {
    let (data_dir, path) = (&config.data_dir, config.data_dir.join(FILE));
    create_data_dir(data_dir)?;
    let (mut key, mut suffix) = ([0; 32], [0; 8]);
    random.fill(&mut key);
    random.fill(&mut suffix);
    let draft = data_dir.join(format!("{FILE}.{:016x}", u64::from_le_bytes(suffix)));
    let linked = write_draft(&draft, &key).map_err(failed("write", &draft)).and_then(|()| link(&draft, &path));
    let removed = fs::remove_file(&draft).map_err(failed("remove", &draft));
    linked.and(removed)?;
    File::open(data_dir).and_then(|directory| directory.sync_all()).map_err(failed("sync", data_dir))?;
    let SecretKey(key) = read(&path)?.ok_or_else(|| failed("read", &path)(ErrorKind::NotFound.into()))?;
    Ok(key)
}

/// Makes the data directory, for its owner only, where it does not exist yet.
pub(crate) fn create_data_dir(path: &Path) -> Result<(), SecretKeyError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create the directory", path))
}

impl SecretKeyError {
    /// There is no key, but there is what was encrypted with it.
    pub(crate) fn missing(config: &Config) -> Self {
        Self::Missing { path: config.data_dir.join(FILE) }
    }
}

impl SecretKey {
    /// Reads base64, with white space around it.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, NotASecretKey> {
        let bytes = STANDARD.decode(text.trim_ascii()).map_err(|_| NotASecretKey)?;
        bytes.try_into().map(Self).map_err(|_| NotASecretKey)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

fn read(path: &Path) -> Result<Option<SecretKey>, SecretKeyError> {
    match fs::read(path) {
        Ok(text) => SecretKey::parse(&text).map(Some).map_err(|_| SecretKeyError::NotAKey { path: path.to_owned() }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn write_draft(draft: &Path, key: &[u8; 32]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(format!("{}\n", STANDARD.encode(key)).as_bytes())?;
    file.sync_all()
}

fn link(draft: &Path, path: &Path) -> Result<(), SecretKeyError> {
    match fs::hard_link(draft, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed("link the new key to", path)(error)),
        _ => Ok(()),
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SecretKeyError {
    let path = path.to_owned();
    move |source| SecretKeyError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::*;

    /// Other bytes at each call.
    struct Counting(AtomicU8);

    impl Random for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(self.0.fetch_add(1, Ordering::Relaxed));
        }
    }

    fn random() -> Counting {
        Counting(AtomicU8::new(1))
    }

    fn config(data_dir: PathBuf) -> Config {
        let config = Config::load(None, std::iter::empty(), crate::config::Flags::default());
        Config { data_dir, ..config.expect("the defaults") }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("metadata").permissions().mode() & 0o777
    }

    #[test]
    fn generated_once_and_for_its_owner_only() {
        let parent = tempfile::tempdir().expect("a directory");
        let config = config(parent.path().join("a/b"));
        let random = random();
        assert_eq!(load(&config).expect("no key"), None);
        assert!(!config.data_dir.exists());
        let key = create(&config, &random).expect("a key");
        assert_eq!(key, [1; 32]);
        assert_eq!(load(&config).expect("the same key"), Some(key));
        assert_eq!(mode(&config.data_dir), 0o700);
        assert_eq!(mode(&config.data_dir.join(FILE)), 0o600);
        assert_eq!(fs::read_dir(&config.data_dir).expect("a directory").count(), 1, "no draft is left behind");
    }

    #[test]
    fn processes_that_start_at_once_agree() {
        let parent = tempfile::tempdir().expect("a directory");
        let config = config(parent.path().join("data"));
        let random = random();
        let keys: Vec<_> = std::thread::scope(|scope| {
            let create = || create(&config, &random).expect("a key");
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    }

    /// Another process has written its key after this one has looked for it.
    #[test]
    fn the_quicker_process_wins() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(FILE);
        fs::write(&path, STANDARD.encode([7; 32])).expect("written");
        assert_eq!(create(&config(directory.path().to_owned()), &random()).expect("a key"), [7; 32]);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn a_configured_key_needs_no_directory() {
        let config = Config { secret_key: Some(SecretKey([9; 32])), ..config(PathBuf::from("/dev/null/nowhere")) };
        assert_eq!(load(&config).expect("a key"), Some([9; 32]));
    }

    #[test]
    fn a_file_of_something_else_is_left_alone() {
        let short = STANDARD.encode([1; 31]);
        for text in [&b""[..], b"\n", b"hello", b"\xff\xfe", short.as_bytes()] {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join(FILE);
            fs::write(&path, text).expect("written");
            let error = load(&config(directory.path().to_owned())).expect_err("no key").to_string();
            assert!(error.starts_with(&format!("BELLWETHER_DATA_DIR: {} holds no key", path.display())), "{error}");
            assert_eq!(fs::read(&path).expect("the file"), text);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let data_dir = file.path().join("data");
        let error = create(&config(data_dir.clone()), &random()).expect_err("no key").to_string();
        assert!(error.starts_with("BELLWETHER_DATA_DIR: cannot ") && error.contains(&data_dir.display().to_string()), "{error}");
    }

    #[test]
    fn never_shown() {
        assert_eq!(format!("{:?}", SecretKey([1; 32])), "SecretKey(…)");
        assert_eq!(SecretKey::parse(b" AAAA \n"), Err(NotASecretKey));
        assert_eq!(SecretKey::parse(format!(" {}\n", STANDARD.encode([3; 32])).as_bytes()), Ok(SecretKey([3; 32])));
    }
}
