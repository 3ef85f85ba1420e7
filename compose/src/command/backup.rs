//! `weir backup` and `weir restore`.
//!
//! A backup of a running installation is one of one moment. What has the later part of a story is copied
//! after what has the earlier one, and what is copied too late is left out again or known by its number:
//!
//! 1. The journal is held: nothing is deleted there. Its cursor is copied, and the exported checkpoints.
//! 2. The tables are frozen. They have all events before the cursor, and more.
//! 3. The journal is copied: it has all events behind the cursor that the tables have, and more. The
//!    ingestor of the copy asks the tables which, as after a kill.
//! 4. The ledger of what was spent is copied as far as the copied journal has the events.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use weir_eventlog::{JournalHold, LockedFile};
use weir_governance::ledger::{LedgerTotals, copy_with_journal};

use crate::backup::{BackupList, CONFIG, DATA, copy, entries, make_dir, walk};
use crate::cli::{BackupArgs, Cli};
use crate::command::sql::reach;
use crate::config::{Config, EventlogKind, StoreKind};
use crate::context::{config_path, runtime, settings, store_dir};
use crate::output;

/// Frozen parts of backups.
const FROZEN_PREFIX: &str = "weir-backup-";
/// How often journal and ledger are copied again because totals were written meanwhile.
const LEDGER_COPIES_MAX: usize = 5;

pub(crate) fn run(cli: &Cli, args: &BackupArgs) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let is_whole = is_on_this_machine(&config);
    ensure!(
        is_whole || args.local_only,
        "events or tables of this installation are on other machines (Kafka, ClickHouse), which `weir backup` \
         cannot copy: back them up there, and pass --local-only to copy the data directory"
    );
    let (data_dir, dir) = (&cli.data_dir, &args.dir);
    ensure!(
        data_dir.is_dir(),
        "there is no data directory {}",
        data_dir.display()
    );
    ensure_empty(dir)?;
    make_dir(dir)?;
    let mut list = BackupList::new(format!("{:.0}", Timestamp::now()), is_whole);
    let to = dir.join(DATA);
    make_dir(&to)?;
    let journal = data_dir.join("journal");
    let hold = if journal.is_dir() {
        Some(JournalHold::take(&journal).context("is another backup under way?")?)
    } else {
        None
    };
    copy(&journal.join("cursor"), &to.join("journal/cursor"))?;
    copy_rest(data_dir, &to)?;
    if config.store.kind == StoreKind::Embedded {
        list.left_out = copy_store(&config, data_dir, &to)?;
    }
    copy_journal_and_ledger(data_dir, &to)?;
    drop(hold);
    if let Some(path) = config_path(cli) {
        copy(&path, &dir.join(CONFIG))?;
    }
    let list = list.finish(dir)?;
    for table in &list.left_out {
        output::note(format_args!(
            "left out: {table}, which is no MergeTree table"
        ));
    }
    output::note(format_args!(
        "backed up {} to {}: {} files, {} bytes",
        data_dir.display(),
        dir.display(),
        list.files.len(),
        list.bytes()
    ));
    Ok(())
}

pub(crate) fn restore(cli: &Cli, dir: &Path) -> anyhow::Result<()> {
    let data_dir = &cli.data_dir;
    ensure_empty(data_dir)?;
    let list = BackupList::read(dir)?;
    list.check(dir)?;
    make_dir(data_dir)?;
    list.restore(dir, data_dir)?;
    output::note(format_args!(
        "restored {}, as it was at {}, to {}; its configuration is {}",
        dir.display(),
        list.made_at,
        data_dir.display(),
        dir.join(CONFIG).display()
    ));
    if !list.is_whole {
        output::note(
            "it is the data directory alone: restore Kafka and ClickHouse from their own backups",
        );
    }
    output::note("start it with `weir up`, then prove it with `weir audit verify`");
    Ok(())
}

fn is_on_this_machine(config: &Config) -> bool {
    config.store.kind == StoreKind::Embedded && config.eventlog.kind == EventlogKind::Local
}

fn ensure_empty(dir: &Path) -> anyhow::Result<()> {
    ensure!(
        entries(dir)?.is_empty(),
        "{} is not empty: choose a directory that is, or that does not exist yet",
        dir.display()
    );
    Ok(())
}

fn name(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str());
    name.unwrap_or_default()
}

/// Everything that is no story of its own: keys and rules, the signing key, exported checkpoints, the
/// store's passwords.
fn copy_rest(data_dir: &Path, to: &Path) -> anyhow::Result<()> {
    let mut paths = entries(data_dir)?;
    // Files before directories: `control.mark` must not be ahead of the control log.
    paths.sort_by_key(|path| path.is_dir());
    for path in paths {
        if ["journal", "spend", "store"].contains(&name(&path)) {
            continue;
        }
        copy_all(&path, &to.join(name(&path)))?;
    }
    Ok(())
}

/// A file, or a directory with all that is in it. Files that vanish meanwhile are left out.
fn copy_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    if !from.is_dir() {
        copy(from, to)?;
        return Ok(());
    }
    make_dir(to)?;
    for path in walk(from)? {
        copy(&path, &to.join(path.strip_prefix(from)?))?;
    }
    Ok(())
}

/// The embedded store. Returns the tables that cannot be copied.
fn copy_store(config: &Config, data_dir: &Path, to: &Path) -> anyhow::Result<Vec<String>> {
    let from = store_dir(data_dir);
    if !from.is_dir() {
        return Ok(Vec::new());
    }
    let to = store_dir(to);
    for path in entries(&from)? {
        let is_made_anew = name(&path) == "lock"
            || name(&path) == "config"
            || name(&path).starts_with("engine.log");
        if !is_made_anew && name(&path) != "data" {
            copy_all(&path, &to.join(name(&path)))?;
        }
    }
    let (from, to) = (from.join("data"), to.join("data"));
    // Whoever has the lock is the engine; nobody else starts one meanwhile.
    if let Some(_stopped) = try_lock(&store_dir(data_dir).join("lock"))? {
        copy_tables(&from, &to, true)?;
        return Ok(Vec::new());
    }
    let store = reach(data_dir, config)?;
    remove_frozen(&from)?;
    let frozen = format!("{FROZEN_PREFIX}{}", std::process::id());
    let copied = (|| {
        let tables = runtime()?.block_on(store.freeze(&frozen));
        let tables = tables.context("freeze the store's tables")?;
        copy_tables(&from, &to, false)?;
        copy_all(&from.join("shadow").join(&frozen), &to)?;
        Ok(tables.left_out)
    })();
    remove_frozen(&from)?;
    copied
}

fn try_lock(path: &Path) -> anyhow::Result<Option<LockedFile>> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path);
    let file: File = file.with_context(|| format!("open {}", path.display()))?;
    match LockedFile::try_new(file) {
        Ok(lock) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

/// What backups have frozen, this one or one that was killed.
fn remove_frozen(data: &Path) -> anyhow::Result<()> {
    for path in entries(&data.join("shadow"))? {
        if name(&path).starts_with(FROZEN_PREFIX) {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// The engine's directory: definitions, and what tables have beside their parts. With their parts, if
/// the engine does not run.
fn copy_tables(from: &Path, to: &Path, with_parts: bool) -> anyhow::Result<()> {
    for path in entries(&from.join("metadata"))? {
        copy(&path, &to.join("metadata").join(name(&path)))?;
    }
    for group in entries(&from.join("store"))? {
        for dir in entries(&group)? {
            let to = to.join("store").join(name(&group)).join(name(&dir));
            make_dir(&to)?;
            for path in entries(&dir)? {
                if with_parts || path.is_file() {
                    copy_all(&path, &to.join(name(&path)))?;
                }
            }
        }
    }
    Ok(())
}

fn copy_journal_and_ledger(data_dir: &Path, to: &Path) -> anyhow::Result<()> {
    let (journal, journal_to) = (data_dir.join("journal"), to.join("journal"));
    let (spend, spend_to) = (data_dir.join("spend"), to.join("spend"));
    for _ in 0..LEDGER_COPIES_MAX {
        let totals = LedgerTotals::read(&spend)?;
        copy_journal(&journal, &journal_to)?;
        if !spend.is_dir() {
            return Ok(());
        }
        make_dir(&spend_to)?;
        if copy_with_journal(&spend, &totals, &journal_to, &spend_to)? {
            return Ok(());
        }
        for dir in entries(&journal_to)?.iter().filter(|path| path.is_dir()) {
            fs::remove_dir_all(dir)?;
        }
        fs::remove_dir_all(&spend_to)?;
    }
    bail!(
        "the totals in {} change all the time: try again",
        spend.display()
    )
}

/// The streams of the journal. The mark that a stream is closed first, because it is made last; and the
/// segments that are there now, of which all but the last one are whole.
fn copy_journal(from: &Path, to: &Path) -> anyhow::Result<()> {
    for stream in entries(from)? {
        if !stream.is_dir() || name(&stream).starts_with('.') {
            continue;
        }
        let to = to.join(name(&stream));
        make_dir(&to)?;
        let mut files = entries(&stream)?;
        files.retain(|path| !name(path).ends_with(".new"));
        files.sort_by_key(|path| (name(path).ends_with(".seg"), path.clone()));
        for path in files {
            copy(&path, &to.join(name(&path)))?;
        }
    }
    Ok(())
}
