//! The passwords of the embedded store: a file for each of its users, in the data directory.
//!
//! They are beside the store's own directory, not in it: that is all that SQL could ever reach.

use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use weir_eventlog::{Fsync, create_file};
use weir_store::{StorePasswords, StoreUser};

/// Where a user's password is.
pub(crate) fn path(data_dir: &Path, user: StoreUser) -> PathBuf {
    data_dir.join("store-users").join(user.name())
}

/// The passwords. What is not there yet is made, once, whichever process comes first.
pub(crate) fn ensure_all(data_dir: &Path) -> anyhow::Result<StorePasswords> {
    let dir = data_dir.join("store-users");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.with_context(|| format!("create {}", dir.display()))?;
    let ensured = |user| {
        let path = path(data_dir, user);
        if !path.exists() {
            let password = format!("{:032x}", rand::random::<u128>());
            let created = create_file(&path, Fsync::FileAndDirectory, |file| {
                writeln!(file, "{password}")
            });
            created.with_context(|| format!("create {}", path.display()))?;
        }
        keep_private(&path)?;
        read(data_dir, user)
    };
    Ok(StorePasswords {
        reader: ensured(StoreUser::Reader)?,
        operator: ensured(StoreUser::Operator)?,
        weir: ensured(StoreUser::Weir)?,
    })
}

/// Takes away what others were given, by a copy or a restore.
fn keep_private(path: &Path) -> anyhow::Result<()> {
    let facts = fs::metadata(path).with_context(|| format!("read {}", path.display()))?;
    if facts.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "other users could read this password of the store: now they cannot; to change it, delete the file and start again");
        let private = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
        private.with_context(|| format!("make {} private", path.display()))?;
    }
    Ok(())
}

/// A user's password.
pub(crate) fn read(data_dir: &Path, user: StoreUser) -> anyhow::Result<String> {
    let path = path(data_dir, user);
    let text = fs::read_to_string(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow!(
            "there is no password for the store yet ({}): `weir up` makes it when it starts the \
             store; is this its data directory (--data-dir)?",
            path.display()
        ),
        ErrorKind::PermissionDenied => anyhow!(
            "this user may not read the store's password {}: run as the user who runs Weir",
            path.display()
        ),
        _ => anyhow!("read {}: {error}", path.display()),
    })?;
    let password = text.trim();
    ensure!(
        !password.is_empty(),
        "{} is empty: delete it, and the next start makes a new password",
        path.display()
    );
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn passwords_are_made_once_and_are_their_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        assert!(read(&data_dir, StoreUser::Reader).is_err());
        let made = ensure_all(&data_dir).unwrap();
        assert_eq!(ensure_all(&data_dir).unwrap(), made);
        for user in StoreUser::ALL {
            let path = path(&data_dir, user);
            assert_eq!(mode(&path), 0o600);
            assert_eq!(read(&data_dir, user).unwrap(), made.of(user));
            assert!(made.of(user).len() >= 32);
        }
        assert_eq!(mode(&data_dir.join("store-users")), 0o700);
        assert_ne!(made.reader, made.weir);
    }

    #[test]
    fn a_password_that_others_may_read_becomes_private() {
        let dir = tempfile::tempdir().unwrap();
        let made = ensure_all(dir.path()).unwrap();
        let path = path(dir.path(), StoreUser::Weir);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(ensure_all(dir.path()).unwrap(), made);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn an_empty_password_is_none() {
        let dir = tempfile::tempdir().unwrap();
        ensure_all(dir.path()).unwrap();
        fs::write(path(dir.path(), StoreUser::Weir), "\n").unwrap();
        let error = ensure_all(dir.path()).unwrap_err();
        assert!(error.to_string().contains("is empty"), "{error}");
    }
}
