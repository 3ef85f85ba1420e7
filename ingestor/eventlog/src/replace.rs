//! Files that are written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What is forced to disk before a write returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Nothing. The file survives a kill; a power failure may leave it empty.
    Nothing,
    /// Its content. A power failure leaves the old file or the new one, whole.
    File,
    /// Its content and its name. A power failure after the write leaves the new file.
    FileAndDirectory,
}

/// Replaces the file at `path`, or creates it, readable by this user only. Readers see the old
/// content or all of the new one. Returns the new file, open for writing.
///
/// The content is first written to `<path>.new`, so two writers of one path must take turns.
pub fn replace_file(
    path: &Path,
    fsync: Fsync,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<File> {
    let unfinished = beside(path, "new");
    let file = write_file(&unfinished, fsync, write)?;
    fs::rename(&unfinished, path)?;
    sync_name(path, fsync)?;
    Ok(file)
}

/// Creates the file at `path`, readable by this user only, unless it exists. Of several processes
/// that do so at once, one creates it; all find the same content afterwards.
pub fn create_file(
    path: &Path,
    fsync: Fsync,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<()> {
    let unfinished = beside(path, &format!("{}.new", std::process::id()));
    write_file(&unfinished, fsync, write)?;
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => sync_name(path, fsync),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn write_file(
    path: &Path,
    fsync: Fsync,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>,
) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut writer = BufWriter::new(options.open(path)?);
    write(&mut writer)?;
    let file = writer.into_inner().map_err(|error| error.into_error())?;
    if fsync != Fsync::Nothing {
        file.sync_all()?;
    }
    Ok(file)
}

fn sync_name(path: &Path, fsync: Fsync) -> io::Result<()> {
    if fsync != Fsync::FileAndDirectory {
        return Ok(());
    }
    let dir = path.parent().filter(|dir| *dir != Path::new(""));
    sync_dir(dir.unwrap_or_else(|| Path::new(".")))
}

/// Makes the names in a directory survive a power failure.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_stays_as_it_is_if_writing_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("totals.json");
        for (fsync, content) in [
            (Fsync::Nothing, "one"),
            (Fsync::File, "two, longer"),
            (Fsync::FileAndDirectory, "three"),
        ] {
            replace_file(&path, fsync, |file| file.write_all(content.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        let failed = replace_file(&path, Fsync::File, |file| {
            file.write_all(b"half")?;
            Err(ErrorKind::StorageFull.into())
        });
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(fs::read_to_string(&path).unwrap(), "three");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_exists_is_not_created_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hash.key");
        for content in ["first", "second"] {
            create_file(&path, Fsync::FileAndDirectory, |file| {
                file.write_all(content.as_bytes())
            })
            .unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
