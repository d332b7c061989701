//! People who sign in: their addresses and their passwords, and what lets somebody make the first account.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

const MAX_EMAIL_CHARS: usize = 254;
const MAX_PASSWORD_BYTES: usize = 1_024;
const MIN_PASSWORD_CHARS: usize = 10;
/// So that nothing else that is ever made of the key is the code.
const SETUP_PURPOSE: &[u8] = b"bellwether: the code of the first account";
/// In 80 bits nobody finds it by trying.
const SETUP_CODE_BYTES: usize = 10;

/// Reads an e-mail address, in lower case, as far as its form tells.
pub fn parse_email(text: &str) -> Result<String, &'static str> {
    let email = text.trim().to_lowercase();
    let has_form =
        email.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.') && !host.contains('@'));
    let bad = |letter: char| letter.is_whitespace() || letter.is_control();
    let is_email = has_form && email.chars().count() <= MAX_EMAIL_CHARS && !email.contains(bad);
    if is_email { Ok(email) } else { Err("is no e-mail address") }
}

/// Whether a password is good enough for the account of `email`. The error is a sentence for whoever chose it.
pub fn check_password(password: &str, email: &str) -> Result<(), String> {
    if password.chars().count() < MIN_PASSWORD_CHARS || password.len() > MAX_PASSWORD_BYTES {
        return Err(format!("must be {MIN_PASSWORD_CHARS} characters to {MAX_PASSWORD_BYTES} bytes long"));
    }
    let strength = zxcvbn::zxcvbn(password, &[email, "bellwether"]);
    if strength.score() < zxcvbn::Score::Three {
        let advice = strength.feedback().and_then(|feedback| feedback.warning());
        let advice = advice.map_or_else(|| "choose a longer or less usual one".to_owned(), |advice| advice.to_string());
        return Err(format!("is easy to guess: {}", advice.trim_end_matches('.')));
    }
    Ok(())
}

/// What lets whoever has it make the first account, in hexadecimal digits. Whoever has the key that encrypts and what the database
/// keeps for it can make it, and nobody with one of the two.
#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
pub fn setup_code(key: &[u8; 32], nonce: &[u8; 16]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key");
    mac.update(SETUP_PURPOSE);
    mac.update(nonce);
    mac.finalize().into_bytes().iter().take(SETUP_CODE_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_of_the_first_account_takes_the_key_and_the_nonce() {
        let code = setup_code(&[1; 32], &[2; 16]);
        assert_eq!((code.len(), &code), (20, &setup_code(&[1; 32], &[2; 16])));
        assert!(code.bytes().all(|byte| byte.is_ascii_hexdigit()));
        for (key, nonce) in [([0; 32], [2; 16]), ([1; 32], [0; 16]), ([2; 32], [1; 16])] {
            assert_ne!(setup_code(&key, &nonce), code);
        }
    }

    #[test]
    fn emails() {
        assert_eq!(parse_email(" Ada@Example.COM ").as_deref(), Ok("ada@example.com"));
        for bad in ["", "ada", "@example.com", "ada@example", "a b@example.com", "a@b@c.com"] {
            assert!(parse_email(bad).is_err(), "{bad}");
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
