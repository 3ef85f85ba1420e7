//! The form of a backup: copied files, and a list of them that is written last.
//!
//! A directory without the list is no backup: its making was cut short. The list has each file's length
//! and SHA-256, so that nothing torn or damaged is restored.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, ensure};
use data_encoding::HEXLOWER;
use ring::digest::{self, SHA256};
use serde::{Deserialize, Serialize};
use weir_eventlog::{Fsync, replace_file};

/// The list.
pub(crate) const LIST: &str = "backup.json";
/// The configuration file's copy, beside the data directory's.
pub(crate) const CONFIG: &str = "weir.toml";
/// The data directory's copy.
pub(crate) const DATA: &str = "data";
const FORM: u32 = 1;
const BUFFER_BYTES: usize = 1 << 20;

/// What a backup has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BackupList {
    form: u32,
    /// Version of the program that made it, and when it began.
    pub(crate) weir: String,
    pub(crate) made_at: String,
    /// Whether it has the store's tables, and the events that are on their way.
    pub(crate) is_whole: bool,
    /// Tables that it does not have.
    pub(crate) left_out: Vec<String>,
    pub(crate) files: Vec<BackedUpFile>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct BackedUpFile {
    path: PathBuf,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// What a symbolic link points to.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<PathBuf>,
}

impl BackupList {
    pub(crate) fn new(made_at: String, is_whole: bool) -> Self {
        Self {
            form: FORM,
            weir: env!("CARGO_PKG_VERSION").to_owned(),
            made_at,
            is_whole,
            left_out: Vec::new(),
            files: Vec::new(),
        }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Lists the files that are there, and so makes a directory a backup.
    pub(crate) fn finish(mut self, dir: &Path) -> anyhow::Result<Self> {
        for path in walk(dir)? {
            let relative = path.strip_prefix(dir)?.to_owned();
            self.files.push(describe(&path, relative)?);
        }
        let text = serde_json::to_string_pretty(&self)?;
        let path = dir.join(LIST);
        replace_file(&path, Fsync::FileAndDirectory, |file| {
            file.write_all(text.as_bytes())
        })
        .with_context(|| format!("write {}", path.display()))?;
        Ok(self)
    }

    /// Reads the list of a backup.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join(LIST);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "{} is no backup, or one that was cut short: read {}",
                dir.display(),
                path.display()
            )
        })?;
        let list: Self =
            serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        ensure!(
            list.form == FORM,
            "{} was made by a newer weir ({})",
            dir.display(),
            list.weir
        );
        for file in &list.files {
            let is_inside = file
                .path
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            ensure!(
                is_inside,
                "{}: {} is no path in it",
                path.display(),
                file.path.display()
            );
        }
        Ok(list)
    }

    /// Compares every file with the list.
    pub(crate) fn check(&self, dir: &Path) -> anyhow::Result<()> {
        for listed in &self.files {
            let path = dir.join(&listed.path);
            let found = describe(&path, listed.path.clone())?;
            ensure!(
                (found.bytes, &found.sha256, &found.link)
                    == (listed.bytes, &listed.sha256, &listed.link),
                "{} is not as it was backed up: the backup is damaged",
                path.display()
            );
        }
        Ok(())
    }

    /// Copies the data directory out of a backup.
    pub(crate) fn restore(&self, dir: &Path, data_dir: &Path) -> anyhow::Result<()> {
        for listed in &self.files {
            if let Ok(inside) = listed.path.strip_prefix(DATA) {
                copy(&dir.join(&listed.path), &data_dir.join(inside))?;
            }
        }
        Ok(())
    }
}

fn describe(path: &Path, relative: PathBuf) -> anyhow::Result<BackedUpFile> {
    let doing = || format!("read {}", path.display());
    let metadata = fs::symlink_metadata(path).with_context(doing)?;
    if metadata.is_symlink() {
        return Ok(BackedUpFile {
            path: relative,
            bytes: 0,
            sha256: None,
            link: Some(fs::read_link(path).with_context(doing)?),
        });
    }
    let mut file = File::open(path).with_context(doing)?;
    let mut context = digest::Context::new(&SHA256);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer).with_context(doing)?;
        if count == 0 {
            break;
        }
        context.update(&buffer[..count]);
        bytes += count as u64;
    }
    Ok(BackedUpFile {
        path: relative,
        bytes,
        sha256: Some(HEXLOWER.encode(context.finish().as_ref())),
        link: None,
    })
}

/// All files and links under a directory, in order.
pub(crate) fn walk(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for path in entries(&dir)? {
            let metadata = fs::symlink_metadata(&path);
            let kind = metadata.with_context(|| format!("look at {}", path.display()))?;
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() || kind.is_symlink() {
                found.push(path);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What is in a directory; nothing if it is not there.
pub(crate) fn entries(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let doing = || format!("list {}", dir.display());
    let listed = match fs::read_dir(dir) {
        Ok(listed) => listed,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(doing),
    };
    let paths = listed.map(|entry| Ok(entry.with_context(doing)?.path()));
    paths.collect()
}

/// Makes a directory that only this user may read, if it is not there.
pub(crate) fn make_dir(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("create {}", path.display()))
}

/// Copies a file with its mode, or a link. The copy ends where the file ended when it was opened, so one
/// that grows is copied up to there. Says whether it was there.
pub(crate) fn copy(from: &Path, to: &Path) -> anyhow::Result<bool> {
    if let Some(parent) = to.parent() {
        make_dir(parent)?;
    }
    match copy_file(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => {
            Err(error).with_context(|| format!("copy {} to {}", from.display(), to.display()))
        }
    }
}

fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    if fs::symlink_metadata(from)?.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    let source = File::open(from)?;
    let metadata = source.metadata()?;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(metadata.permissions().mode())
        .open(to)?;
    io::copy(&mut source.take(metadata.len()), &mut target)?;
    target.sync_data()
}
