//! The keys that encrypt webhook secrets at rest: given in the settings, or generated in the data directory.
//!
//! There may be several: the first encrypts, the others still decrypt. A key leaves the file in the data directory only when
//! nothing is encrypted with it any more, since that would be lost. What is there and is no key is left as it is.

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

/// Keys of 32 bytes. They show themselves nowhere: not in logs, not in debug output.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretKeys {
    /// Encrypts, and decrypts.
    pub(crate) current: [u8; 32],
    /// Only decrypt.
    pub(crate) former: Vec<[u8; 32]>,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretKeyError {
    /// Something cannot be done with a file or directory.
    #[error("{setting}: cannot {action} {}: {source}", path.display())]
    Io {
        /// What the user calls the data directory.
        setting: String,
        /// What cannot be done.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// There is no key file, but there is what was encrypted with it.
    #[error(
        "{setting}: there is no {}, which the secrets of webhooks are encrypted with: restore it, or set BELLWETHER_SECRET_KEY",
        path.display()
    )]
    Missing {
        /// What the user calls the data directory.
        setting: String,
        /// The file.
        path: PathBuf,
    },
    /// The key file holds something else.
    #[error(
        "{setting}: {} holds no key (the base64 of 32 bytes, one a line): restore it, or set BELLWETHER_SECRET_KEY; it is left as it is",
        path.display()
    )]
    NotAKey {
        /// What the user calls the data directory.
        setting: String,
        /// The file.
        path: PathBuf,
    },
}

/// A text is no key, nor several.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be the base64 of 32 bytes, as `openssl rand -base64 32` prints it; after a comma, that of a key before it")]
pub(crate) struct NotASecretKey;

/// The configured keys, or those in the data directory; none where there are none yet.
pub(crate) fn load(config: &Config) -> Result<Option<SecretKeys>, SecretKeyError> {
    match &config.secret_key {
        Some(keys) => Ok(Some(keys.clone())),
        None => read(config, &config.data_dir.join(FILE)),
    }
}

/// Puts a new key before those in the data directory, of which there must be some, and returns them all. What an earlier call has
/// added and what is still needed after it is found again.
pub(crate) fn add(config: &Config, random: &dyn Random) -> Result<SecretKeys, SecretKeyError> {
    let path = config.data_dir.join(FILE);
    let keys = read(config, &path)?.ok_or_else(|| SecretKeyError::missing(config))?;
    if !keys.former.is_empty() {
        return Ok(keys);
    }
    let mut current = [0; 32];
    random.fill(&mut current);
    let keys = SecretKeys { current, former: vec![keys.current] };
    replace(config, &keys, random).map(|()| keys)
}

/// Keeps only the current of the keys in the data directory. Nothing may be encrypted with the others any more.
pub(crate) fn drop_former(config: &Config, keys: SecretKeys, random: &dyn Random) -> Result<(), SecretKeyError> {
    replace(config, &SecretKeys { former: Vec::new(), ..keys }, random)
}

/// Generates a key in the data directory. Of several processes that do so at once, one wins, and all answer with its key: it
/// is written beside its place and linked there, which fails where another process was quicker. A reader sees no key or the
/// whole of it.
pub(crate) fn create(config: &Config, random: &dyn Random) -> Result<SecretKeys, SecretKeyError> {
    let (data_dir, path) = (&config.data_dir, config.data_dir.join(FILE));
    create_data_dir(config)?;
    let mut current = [0; 32];
    random.fill(&mut current);
    let draft = draft_path(data_dir, random);
    let keys = SecretKeys { current, former: Vec::new() };
    let linked = write_draft(&draft, &keys).map_err(failed(config, "write", &draft)).and_then(|()| link(config, &draft, &path));
    let removed = fs::remove_file(&draft).map_err(failed(config, "remove", &draft));
    linked.and(removed)?;
    sync(config)?;
    read(config, &path)?.ok_or_else(|| failed(config, "read", &path)(ErrorKind::NotFound.into()))
}

/// Makes the data directory, for its owner only, where it does not exist yet.
pub(crate) fn create_data_dir(config: &Config) -> Result<(), SecretKeyError> {
    let path = &config.data_dir;
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed(config, "create the directory", path))
}

impl SecretKeyError {
    /// There is no key, but there is what was encrypted with it.
    pub(crate) fn missing(config: &Config) -> Self {
        Self::Missing { setting: config.name("data_dir"), path: config.data_dir.join(FILE) }
    }
}

impl SecretKeys {
    /// Reads base64, with commas or white space between several.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, NotASecretKey> {
        // Nothing between commas is no key: a variable was empty.
        let words: Vec<_> = match text.contains(&b',') {
            true => text.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).collect(),
            false => text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).collect(),
        };
        let key = |word| STANDARD.decode(word).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(NotASecretKey);
        let mut keys = words.into_iter().map(key);
        let current = keys.next().ok_or(NotASecretKey)??;
        Ok(Self { current, former: keys.collect::<Result<_, _>>()? })
    }

    fn to_text(&self) -> String {
        let keys = std::iter::once(&self.current).chain(&self.former);
        keys.map(|key| format!("{}\n", STANDARD.encode(key))).collect()
    }
}

impl fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKeys(…)")
    }
}

fn read(config: &Config, path: &Path) -> Result<Option<SecretKeys>, SecretKeyError> {
    match fs::read(path) {
        Ok(text) => SecretKeys::parse(&text).map(Some).map_err(|_| {
            let (setting, path) = (config.name("data_dir"), path.to_owned());
            SecretKeyError::NotAKey { setting, path }
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(config, "read", path)(error)),
    }
}

/// Replaces the key file: whoever reads it, whenever, finds the old one or the new one whole.
fn replace(config: &Config, keys: &SecretKeys, random: &dyn Random) -> Result<(), SecretKeyError> {
    let (draft, path) = (draft_path(&config.data_dir, random), config.data_dir.join(FILE));
    write_draft(&draft, keys).map_err(failed(config, "write", &draft))?;
    fs::rename(&draft, &path).map_err(failed(config, "replace", &path))?;
    sync(config)
}

fn draft_path(data_dir: &Path, random: &dyn Random) -> PathBuf {
    let mut suffix = [0; 8];
    random.fill(&mut suffix);
    data_dir.join(format!("{FILE}.{:016x}", u64::from_le_bytes(suffix)))
}

fn write_draft(draft: &Path, keys: &SecretKeys) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(keys.to_text().as_bytes())?;
    file.sync_all()
}

fn sync(config: &Config) -> Result<(), SecretKeyError> {
    let data_dir = &config.data_dir;
    File::open(data_dir).and_then(|directory| directory.sync_all()).map_err(failed(config, "sync", data_dir))
}

fn link(config: &Config, draft: &Path, path: &Path) -> Result<(), SecretKeyError> {
    match fs::hard_link(draft, path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(config, "link the new key to", path)(error)),
        _ => Ok(()),
    }
}

fn failed(config: &Config, action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SecretKeyError {
    let (setting, path) = (config.name("data_dir"), path.to_owned());
    move |source| SecretKeyError::Io { setting, action, path, source }
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

    fn one(key: [u8; 32]) -> SecretKeys {
        SecretKeys { current: key, former: Vec::new() }
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
        assert_eq!(key, one([1; 32]));
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
        assert_eq!(create(&config(directory.path().to_owned()), &random()).expect("a key"), one([7; 32]));
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 1);
    }

    #[test]
    fn a_configured_key_needs_no_directory() {
        let config = Config { secret_key: Some(one([9; 32])), ..config(PathBuf::from("/dev/null/nowhere")) };
        assert_eq!(load(&config).expect("a key"), Some(one([9; 32])));
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
        assert_eq!(format!("{:?}", one([1; 32])), "SecretKeys(…)");
        assert_eq!(SecretKeys::parse(b" AAAA \n"), Err(NotASecretKey));
        assert_eq!(SecretKeys::parse(format!(" {}\n", STANDARD.encode([3; 32])).as_bytes()), Ok(one([3; 32])));
    }

    #[test]
    fn several_keys_the_first_of_which_encrypts() {
        let text = [[3; 32], [4; 32], [5; 32]].map(|key| STANDARD.encode(key));
        let keys = SecretKeys { current: [3; 32], former: vec![[4; 32], [5; 32]] };
        for separator in [",", ", ", "\n"] {
            assert_eq!(SecretKeys::parse(text.join(separator).as_bytes()), Ok(keys.clone()), "{separator:?}");
        }
        assert_eq!(SecretKeys::parse(keys.to_text().as_bytes()), Ok(keys));
        for bad in [format!("{},AAAA", text[0]), format!("{},", text[0]), format!(",{}", text[0])] {
            assert_eq!(SecretKeys::parse(bad.as_bytes()), Err(NotASecretKey), "{bad}");
        }
    }

    #[test]
    fn a_key_is_added_and_the_one_before_dropped_when_it_is_not_needed_any_more() {
        let parent = tempfile::tempdir().expect("a directory");
        let (config, random) = (config(parent.path().join("data")), random());
        assert!(matches!(add(&config, &random), Err(SecretKeyError::Missing { .. })));
        let first = create(&config, &random).expect("a key");
        let both = add(&config, &random).expect("another key");
        assert_eq!(both.former, [first.current]);
        assert_ne!(both.current, first.current);
        assert_eq!(load(&config).expect("keys"), Some(both.clone()));
        // As after a rotation that broke off: it goes on with the same key.
        assert_eq!(add(&config, &random).expect("the same keys"), both);
        drop_former(&config, both.clone(), &random).expect("dropped");
        assert_eq!(load(&config).expect("a key"), Some(one(both.current)));
        assert_eq!(mode(&config.data_dir.join(FILE)), 0o600);
        assert_eq!(fs::read_dir(&config.data_dir).expect("a directory").count(), 1, "no draft is left behind");
    }
}
