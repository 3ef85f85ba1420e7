//! The text of a virtual key: `weir_`, 43 characters that hold 256 random bits, and 6 that check
//! them, so that a scanner recognises a leaked key and a mistyped one is told from an unknown one.

use std::fmt;

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const PREFIX: &str = "weir_";
const SECRET_CHARS: usize = 43;
const CHECK_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// SHA-256 of a key. A key has 256 random bits, so no slower hash would make it harder to guess.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoRandomness;

/// Makes a new key.
pub fn generate() -> Result<String, NoRandomness> {
    let mut key = String::with_capacity(PREFIX.len() + SECRET_CHARS + CHECK_CHARS);
    key.push_str(PREFIX);
    let random = SystemRandom::new();
    while key.len() < PREFIX.len() + SECRET_CHARS {
        let mut bytes = [0; 64];
        random.fill(&mut bytes).map_err(|_| NoRandomness)?;
        // Bytes from 248 up are left out, so that each character is equally likely.
        let even = bytes.iter().filter(|byte| **byte < 248);
        let room = PREFIX.len() + SECRET_CHARS - key.len();
        key.extend(
            even.take(room)
                .map(|byte| char::from(ALPHABET[usize::from(byte % 62)])),
        );
    }
    let check = check(&key[PREFIX.len()..]);
    key.extend(check.map(char::from));
    Ok(key)
}

/// The hash of a key; `None` for a text that cannot be one.
#[must_use]
pub fn hash(key: &str) -> Option<KeyHash> {
    let body = key.strip_prefix(PREFIX)?;
    if body.len() != SECRET_CHARS + CHECK_CHARS || !body.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        return None;
    }
    let (secret, checked) = body.split_at(SECRET_CHARS);
    if check(secret) != checked.as_bytes() {
        return None;
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    Some(KeyHash(bytes))
}

/// CRC-32C of the secret, in six characters.
fn check(secret: &str) -> [u8; CHECK_CHARS] {
    let mut rest = crc32c::crc32c(secret.as_bytes()) as usize;
    std::array::from_fn(|_| {
        let character = ALPHABET[rest % 62];
        rest /= 62;
        character
    })
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let not_a_hash = || de::Error::custom("a key's hash is 64 hexadecimal digits");
        if text.len() != 64 || !text.is_ascii() {
            return Err(not_a_hash());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16)
                .map_err(|_| not_a_hash())?;
        }
        Ok(Self(bytes))
    }
}
