//! What opens something to whoever has it: keys of the API, cookies, and links. Random and long, shown once, and kept as a hash.

use bellwether_domain::ambient::Ambient;
use sha2::{Digest as _, Sha256};

/// A new one: 32 bytes in hexadecimal digits.
pub(crate) fn new(ambient: &Ambient) -> String {
    ambient.bytes::<32>().map(|byte| format!("{byte:02x}")).concat()
}

/// What is kept of one. It cannot be guessed, so a hash that is fast is enough.
pub(crate) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
