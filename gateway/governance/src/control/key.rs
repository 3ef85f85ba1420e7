//! The text of a virtual key: `weir_`, 43 characters that hold 256 random bits, and 6 that check
//! them, so that a scanner recognises a leaked key and a mistyped one is told from an unknown one.
//! Admin tokens are the same behind `weir_admin_`.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::hmac::{self, HMAC_SHA256};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use weir_eventlog::{Fsync, create_file};

use super::mark::mark_in;

const KEY_PREFIX: &str = "weir_";
const TOKEN_PREFIX: &str = "weir_admin_";
const READER_PREFIX: &str = "weir_reader_";
const SECRET_CHARS: usize = 43;
const CHECK_CHARS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Fewest bytes of a secret that keys are hashed with.
const HASH_SECRET_BYTES_MIN: usize = 32;

/// HMAC-SHA-256 of a key. A key has 256 random bits, so no slower hash would make it harder to
/// guess; the secret keeps whoever reads the control log from telling whether a key is in it.
///
/// Comparing two takes the same time wherever they differ.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        let pairs = self.0.iter().zip(&other.0);
        let unlike = pairs.fold(0, |unlike, (ours, theirs)| unlike | (ours ^ theirs));
        std::hint::black_box(unlike) == 0
    }
}

impl Eq for KeyHash {}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.prefix());
    }
}

impl KeyHash {
    /// A hash for tables: the first of its bits, which are as good as any other's.
    pub(super) fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The secret that keys are hashed with.
pub struct HashKey {
    key: hmac::Key,
    /// The file of the data directory, if it is kept there, and what it holds.
    file: Option<(PathBuf, Vec<u8>)>,
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey")
    }
}

/// The secret that keys are hashed with could not be had.
#[derive(Debug, thiserror::Error)]
pub enum HashKeyError {
    #[error("{action} {path}, the secret that keys are hashed with: {source}")]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{path}, the secret that keys are hashed with, is gone: without it no key is known; restore it \
         from a copy, or remove {mark} to begin with a new one"
    )]
    Gone { path: PathBuf, mark: PathBuf },
    #[error(
        "the secret that keys are hashed with has {bytes} bytes; it needs at least {HASH_SECRET_BYTES_MIN}"
    )]
    Short { bytes: usize },
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl HashKey {
    pub fn new(secret: &[u8]) -> Result<Self, HashKeyError> {
        if secret.len() < HASH_SECRET_BYTES_MIN {
            return Err(HashKeyError::Short {
                bytes: secret.len(),
            });
        }
        let key = hmac::Key::new(HMAC_SHA256, secret);
        Ok(Self { key, file: None })
    }

    /// The secret of a data directory, which is made when it is first asked for: not where keys were
    /// hashed with one that is gone.
    pub fn in_dir(data_dir: &Path) -> Result<Self, HashKeyError> {
        let dir = data_dir.join("control");
        let path = dir.join("hash.key");
        let failed = |action: &'static str| {
            let path = path.clone();
            move |source| HashKeyError::File {
                action,
                path,
                source,
            }
        };
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir);
        made.map_err(failed("make the directory of"))?;
        if !path.exists() {
            let mark = mark_in(data_dir);
            if mark.exists() {
                return Err(HashKeyError::Gone { path, mark });
            }
            let mut secret = [0; HASH_SECRET_BYTES_MIN];
            SystemRandom::new()
                .fill(&mut secret)
                .map_err(|_| NoRandomness)?;
            create_file(&path, Fsync::FileAndDirectory, |file| {
                file.write_all(&secret)
            })
            .map_err(failed("write"))?;
        }
        let secret = std::fs::read(&path).map_err(failed("read"))?;
        let this = Self::new(&secret)?;
        let file = Some((path, secret));
        Ok(Self { file, ..this })
    }

    /// Writes the file of the data directory anew, if it is gone.
    pub(super) fn restore(&self) -> io::Result<()> {
        match &self.file {
            Some((path, secret)) if !path.exists() => {
                create_file(path, Fsync::FileAndDirectory, |file| file.write_all(secret))
            }
            _ => Ok(()),
        }
    }

    /// Makes a new virtual key, and its hash.
    pub fn new_key(&self) -> Result<(String, KeyHash), NoRandomness> {
        self.generate(KEY_PREFIX)
    }

    /// Makes a new admin token, and its hash.
    pub fn new_token(&self) -> Result<(String, KeyHash), NoRandomness> {
        self.generate(TOKEN_PREFIX)
    }

    fn generate(&self, prefix: &str) -> Result<(String, KeyHash), NoRandomness> {
        let chars = prefix.len() + SECRET_CHARS;
        let mut key = String::with_capacity(chars + CHECK_CHARS);
        key.push_str(prefix);
        let random = SystemRandom::new();
        while key.len() < chars {
            let mut bytes = [0; 64];
            random.fill(&mut bytes).map_err(|_| NoRandomness)?;
            // Bytes from 248 up are left out, so that each character is equally likely.
            let even = bytes.iter().filter(|byte| **byte < 248);
            let room = chars - key.len();
            key.extend(
                even.take(room)
                    .map(|byte| char::from(ALPHABET[usize::from(byte % 62)])),
            );
        }
        let check = check(&key[prefix.len()..]);
        key.extend(check.map(char::from));
        let hash = self.sign(key.as_bytes());
        Ok((key, hash))
    }

    /// The hash of a key or token; `None` for a text that cannot be one.
    #[must_use]
    pub fn hash(&self, text: &str) -> Option<KeyHash> {
        let prefix = if text.starts_with(TOKEN_PREFIX) {
            TOKEN_PREFIX
        } else {
            KEY_PREFIX
        };
        let body = text.strip_prefix(prefix)?;
        let is_whole = body.len() == SECRET_CHARS + CHECK_CHARS
            && body.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_whole {
            return None;
        }
        let (secret, checked) = body.split_at(SECRET_CHARS);
        (check(secret) == checked.as_bytes()).then(|| self.sign(text.as_bytes()))
    }

    /// Whether two texts are the same, in a time that does not say where they differ.
    #[must_use]
    pub fn same(&self, one: &str, other: &str) -> bool {
        self.sign(one.as_bytes()) == self.sign(other.as_bytes())
    }

    /// A token that reads the admin API of gateways that have the same secret, for commands beside them.
    /// Whoever can read the secret could as well write a token of their own into the control log; this
    /// one changes nothing.
    #[must_use]
    pub fn reader_token(&self) -> String {
        format!("{READER_PREFIX}{}", self.sign(b"reader of the admin API"))
    }

    /// Tells one secret from another without giving either away.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.sign(b"fingerprint").to_string()[..16].to_owned()
    }

    /// A hash like a key's.
    #[cfg(test)]
    pub(super) fn hash_of_number(&self, number: u64) -> KeyHash {
        self.sign(&number.to_le_bytes())
    }

    fn sign(&self, bytes: &[u8]) -> KeyHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(hmac::sign(&self.key, bytes).as_ref());
        KeyHash(hash)
    }
}

/// Id of a virtual key: `key_` and 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub u128);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KeyIdText::from(*self).as_str())
    }
}

/// A key's id as text. Every request needs it, so it is made without the machinery of formatting.
#[derive(Clone, Copy)]
pub(super) struct KeyIdText([u8; 36]);

impl From<KeyId> for KeyIdText {
    fn from(KeyId(mut rest): KeyId) -> Self {
        let mut text = *b"key_00000000000000000000000000000000";
        for place in text[4..].iter_mut().rev() {
            *place = b"0123456789abcdef"[usize::try_from(rest & 15).unwrap_or(0)];
            rest >>= 4;
        }
        Self(text)
    }
}

impl KeyIdText {
    pub(super) fn as_str(&self) -> &str {
        // It is ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for KeyIdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for KeyId {
    type Err = NotAKeyId;

    fn from_str(text: &str) -> Result<Self, NotAKeyId> {
        let digits = text.strip_prefix("key_").ok_or(NotAKeyId)?;
        let is_hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(digits, 16).map_err(|_| NotAKeyId)?;
        is_hex.then_some(Self(number)).ok_or(NotAKeyId)
    }
}

impl Serialize for KeyId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// A text that is no key's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key's id is key_ and 32 hexadecimal digits, as `weir keys list` shows it")]
pub struct NotAKeyId;

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoRandomness;

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
        write!(f, "{}", HEXLOWER.encode_display(&self.0))
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
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        let bytes = bytes.map_err(|_| not_a_hash())?.try_into();
        let bytes = bytes.map_err(|_| not_a_hash())?;
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That it takes as long wherever they differ is how it is written; that it looks everywhere is
    /// shown here.
    #[test]
    fn hashes_are_compared_to_their_last_bit() {
        let hash = HashKey::new(&[7; 32]).unwrap().sign(b"key");
        assert_eq!(hash, hash);
        for bit in 0..256 {
            let mut other = hash;
            other.0[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(hash, other, "bit {bit}");
        }
    }

    #[test]
    fn an_id_is_written_with_all_its_digits_and_read_again() {
        for id in [0, 1, 0xfedc_ba98, u128::MAX] {
            let text = KeyId(id).to_string();
            assert_eq!(text, format!("key_{id:032x}"));
            assert_eq!(text.parse(), Ok(KeyId(id)));
        }
    }
}
