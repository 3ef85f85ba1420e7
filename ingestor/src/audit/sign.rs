//! The keys that checkpoints and the gateways' seals are signed with.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use weir_eventlog::{Fsync, SealSigner, create_file};

/// The file of the key of checkpoints in the audit directory: PKCS#8, readable by its owner alone.
pub const KEY_FILE: &str = "checkpoint.key";

/// The file of the key of a gateway's seals, beside it.
pub const GATEWAY_KEY_FILE: &str = "gateway.key";

/// The key cannot be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{doing} {}: {source}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{} holds no Ed25519 key: put the right one back, or move it away for a new one", path.display())]
    NoKey { path: PathBuf },
    #[error("the system gives no random numbers to make a key from")]
    NoRandom,
}

#[derive(Debug)]
pub struct SigningKey {
    pair: Ed25519KeyPair,
}

impl SigningKey {
    /// Reads the key of checkpoints of an installation, or makes it.
    pub fn load_or_create(dir: &Path) -> Result<Self, KeyError> {
        Self::at(dir, KEY_FILE)
    }

    /// Reads the key of a gateway's seals, or makes it.
    pub fn of_gateway(dir: &Path) -> Result<Self, KeyError> {
        Self::at(dir, GATEWAY_KEY_FILE)
    }

    /// The same, if there is one.
    pub fn of_gateway_if_any(dir: &Path) -> Result<Option<Self>, KeyError> {
        Self::read(&dir.join(GATEWAY_KEY_FILE))
    }

    fn at(dir: &Path, file: &str) -> Result<Self, KeyError> {
        let path = dir.join(file);
        if let Some(key) = Self::read(&path)? {
            return Ok(key);
        }
        let made =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::NoRandom)?;
        fs::create_dir_all(dir).map_err(failed("create the directory of", &path))?;
        create_file(&path, Fsync::File, |file| file.write_all(made.as_ref()))
            .map_err(failed("write", &path))?;
        // Another process may have been first.
        let key = Self::read(&path)?;
        key.ok_or_else(|| failed("read", &path)(io::ErrorKind::NotFound.into()))
    }

    fn read(path: &Path) -> Result<Option<Self>, KeyError> {
        let document = match fs::read(path) {
            Ok(document) => document,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", path)(error)),
        };
        let pair = Ed25519KeyPair::from_pkcs8(&document);
        let pair = pair.map_err(|_| KeyError::NoKey { path: path.into() })?;
        Ok(Some(Self { pair }))
    }

    /// What others check signatures with, in hex.
    #[must_use]
    pub fn public(&self) -> String {
        HEXLOWER.encode(self.pair.public_key().as_ref())
    }

    pub(crate) fn public_bytes(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// In hex.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        HEXLOWER.encode(&self.sign_bytes(message))
    }

    pub(crate) fn sign_bytes(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl SealSigner for SigningKey {
    fn public_key(&self) -> String {
        self.public()
    }

    fn sign(&self, message: &[u8]) -> String {
        self.sign(message)
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyError {
    let path = path.to_owned();
    move |source| KeyError::File {
        doing,
        path,
        source,
    }
}

/// By a public key in hex, with a signature in hex.
pub(crate) fn is_signed(signer: &str, message: &[u8], signature: &str) -> bool {
    let bytes = |hex: &str| HEXLOWER_PERMISSIVE.decode(hex.as_bytes());
    let (Ok(key), Ok(signature)) = (bytes(signer), bytes(signature)) else {
        return false;
    };
    is_signed_bytes(&key, message, &signature)
}

pub(crate) fn is_signed_bytes(key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = UnparsedPublicKey::new(&ED25519, key);
    key.verify(message, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_its_signatures_hold() {
        let dir = tempfile::tempdir().unwrap();
        let key = SigningKey::load_or_create(dir.path()).unwrap();
        let again = SigningKey::load_or_create(dir.path()).unwrap();
        assert_eq!(key.public(), again.public());
        let signature = key.sign(&[7; 32]);
        assert!(is_signed(&key.public(), &[7; 32], &signature));
        assert!(!is_signed(&key.public(), &[8; 32], &signature));
        let other = tempfile::tempdir().unwrap();
        let other = SigningKey::load_or_create(other.path()).unwrap();
        assert!(!is_signed(&other.public(), &[7; 32], &signature));
    }

    #[test]
    fn a_file_that_is_no_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY_FILE), "hello").unwrap();
        let error = SigningKey::load_or_create(dir.path()).unwrap_err();
        assert!(error.to_string().contains(KEY_FILE), "{error}");
    }
}
