//! What was spent under budgets, kept over restarts and kills exactly as the event log has it.
//!
//! A request that is charged writes a line here and then its events, while it holds its event stream.
//! So of each stream at most the last line can be one whose events a kill prevented, and the journal
//! tells: if the stream ends before the line's number, the line does not count. From time to time the
//! sum of all lines is read while no request is between its line and its events, a new file of lines is
//! begun in the same moment, and the sum is written as totals aside.
//!
//! ```text
//! spend/
//!   instance           name of the gateway that spends here
//!   lock               held by the one gateway that spends here
//!   totals.json        what counted when file `next` was begun
//!   charges-7.log      a line for each request since: checksum, JSON
//! ```
//!
//! | killed | what is left | what counts afterwards |
//! |---|---|---|
//! | between a line and its events | a line behind the end of its stream | not that line |
//! | within a line | an unfinished line, and no events | not that line |
//! | between a new file of lines and its totals | totals, and two files of lines after them | both files |
//! | between new totals and deleting old lines | lines of a file before `next` | the totals alone |

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use weir_eventlog::{
    FileError, Fsync, LockedFile, LockedStream, StreamWriter, last_seq, replace_file,
};
use weir_limits::Spent;
use weir_schemas::StreamId;

use crate::caps::LEDGER_LINES_BYTES_MAX;
use crate::control::policy::Rules;

/// What was spent could not be taken up.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("{action} {path}, where budgets are kept: {source}")]
    File {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "another gateway spends in {path}: give each a --data-dir of its own, or stop the other"
    )]
    InUse { path: PathBuf },
    #[error("{path} is damaged: {reason}; without it, what was spent before would not count")]
    Damaged { path: PathBuf, reason: String },
    #[error("look up the end of a stream: {0}")]
    Journal(#[from] FileError),
}

/// What one request is charged: a line.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChargeLine {
    stream: String,
    /// Number of the first of the request's events.
    seq: u64,
    charges: Vec<Charge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    pub budget: String,
    /// Whose budget it is, where it is counted apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    pub at_ms: u64,
    pub amount: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Totals {
    /// Number of the first file of lines that is not in here.
    next: u64,
    spent: Vec<Total>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Total {
    budget: String,
    subject: String,
    start_ms: u64,
    /// As text: it may be more than JSON's numbers hold.
    amount: String,
}

/// The one gateway's record of what it spent.
#[derive(Debug)]
pub struct Ledger {
    dir: PathBuf,
    /// Name of the gateway that spends here; it never changes.
    instance: String,
    _lock: LockedFile,
    /// Shared by requests between their line and their events; totals are read when there is none.
    rotation: RwLock<()>,
    /// Held for one write.
    lines: Mutex<Lines>,
    /// Held by whoever writes totals.
    keeping: Mutex<()>,
    failing: AtomicBool,
}

#[derive(Debug)]
struct Lines {
    number: u64,
    file: File,
    bytes: u64,
}

impl Ledger {
    /// Brings the budgets to what was spent before. The journal must have been opened first, since
    /// that ends the streams of whoever died.
    pub fn open(
        dir: &Path,
        journal: &Path,
        rules: &Rules,
        now_us: u64,
    ) -> Result<Self, LedgerError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(failed("make", dir))?;
        let lock = take_lock(dir)?;
        let restore = |budget: &str, subject: &str, at_ms, amount| {
            // A budget that is gone needs no memory.
            if let Some(budget) = rules.budgets.get(budget) {
                let purse = budget.counters.named(subject);
                purse.restore(&budget.terms.spec, at_ms, amount, now_us);
            }
        };
        let totals = read_totals(dir)?;
        for total in &totals.spent {
            let amount = total.amount.parse().map_err(|_| LedgerError::Damaged {
                path: totals_path(dir),
                reason: format!("\"{}\" is no amount", total.amount),
            })?;
            restore(&total.budget, &total.subject, total.start_ms, amount);
        }
        let numbers = numbers(dir)?;
        let mut lines = Vec::new();
        for number in numbers.iter().filter(|number| **number >= totals.next) {
            lines.extend(read_lines(&lines_path(dir, *number))?);
        }
        for ShortStream { stream, requests } in short(&lines, journal, HashMap::new())? {
            tracing::error!(%stream, requests, "failed to find the events of requests that were charged: the journal's stream ends before them");
        }
        drop_unwritten(&mut lines, journal)?;
        for charge in lines.iter().flat_map(|line| &line.charges) {
            let amount = charge.amount.into();
            restore(&charge.budget, &charge.subject, charge.at_ms, amount);
        }
        let number = numbers.last().map_or(totals.next, |last| last + 1);
        let ledger = Self {
            lines: Mutex::new(Lines::begin(dir, number)?),
            instance: instance(dir)?,
            dir: dir.to_owned(),
            _lock: lock,
            rotation: RwLock::default(),
            keeping: Mutex::default(),
            failing: AtomicBool::new(false),
        };
        ledger.write_totals(number, &spent_by_now(rules, now_us))?;
        Ok(ledger)
    }

    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Writes a line, then does what goes with it: settling the budgets and appending the events.
    pub fn charge<R>(
        &self,
        stream: &StreamWriter,
        charges: Vec<Charge>,
        then: impl FnOnce(LockedStream<'_>) -> R,
    ) -> R {
        let _until_appended = self.rotation.read();
        let locked = stream.lock();
        let written = self.lines.lock().append(&ChargeLine {
            stream: stream.id().to_string(),
            seq: locked.first_seq(),
            charges,
        });
        // Logged once, and again after it went well.
        match written {
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::error!(%error, "failed to write down what was spent; a restart will not know it");
            }
            Err(_) => {}
            Ok(()) => self.failing.store(false, Ordering::Relaxed),
        }
        then(locked)
    }

    /// Writes totals when there are many lines, and at the end. Requests wait only while the amounts
    /// are read and the next file of lines takes over: the disk is waited for before and after that.
    pub fn keep(&self, rules: &Rules, now_us: u64, at_once: bool) {
        let _one_at_a_time = self.keeping.lock();
        let (number, bytes) = {
            let lines = self.lines.lock();
            (lines.number, lines.bytes)
        };
        if !at_once && bytes < LEDGER_LINES_BYTES_MAX {
            return;
        }
        let kept = Lines::begin(&self.dir, number + 1).and_then(|next| {
            let spent = self.swap(next, rules, now_us);
            self.write_totals(number + 1, &spent)
        });
        if let Err(error) = kept {
            tracing::error!(%error, "failed to write totals of what was spent; the lines are kept");
        }
    }

    /// Begins the next file of lines. Returns what all lines before it add up to.
    fn swap(&self, next: Lines, rules: &Rules, now_us: u64) -> Vec<SpentOf> {
        let _no_request = self.rotation.write();
        *self.lines.lock() = next;
        spent_by_now(rules, now_us)
    }

    fn write_totals(&self, next: u64, spent: &[SpentOf]) -> Result<(), LedgerError> {
        let total = |budget: &str, subject: &str, part: &Spent| Total {
            budget: budget.to_owned(),
            subject: subject.to_owned(),
            start_ms: part.start_ms,
            amount: part.amount.to_string(),
        };
        let spent = spent.iter().flat_map(|(budget, subject, parts)| {
            parts.iter().map(move |part| total(budget, subject, part))
        });
        let totals = Totals {
            next,
            spent: spent.collect(),
        };
        let path = totals_path(&self.dir);
        replace_file(&path, Fsync::FileAndDirectory, |file| {
            Ok(serde_json::to_writer(file, &totals)?)
        })
        .map_err(failed("write", &path))?;
        for number in numbers(&self.dir)?.into_iter().filter(|n| *n < next) {
            let path = lines_path(&self.dir, number);
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        Ok(())
    }
}

/// What was spent of a budget: its id, the subject that it is counted for, and the stretches of time.
type SpentOf = (Arc<str>, Box<str>, Vec<Spent>);

fn spent_by_now(rules: &Rules, now_us: u64) -> Vec<SpentOf> {
    let mut spent = Vec::new();
    for budget in rules.budgets.iter() {
        for (subject, purse) in budget.counters.all() {
            let parts = purse.read(&budget.terms.spec, now_us).spent;
            spent.push((budget.id.clone(), subject, parts));
        }
    }
    spent
}

impl Lines {
    fn begin(dir: &Path, number: u64) -> Result<Self, LedgerError> {
        let path = lines_path(dir, number);
        let file = private()
            .append(true)
            .create(true)
            .open(&path)
            .map_err(failed("begin", &path))?;
        Ok(Self {
            number,
            file,
            bytes: 0,
        })
    }

    fn append(&mut self, line: &ChargeLine) -> io::Result<()> {
        let json = serde_json::to_string(line)?;
        let text = format!("{:08x} {json}\n", crc32c::crc32c(json.as_bytes()));
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            // Half a line must not stand before the next one.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += text.len() as u64;
        Ok(())
    }
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LedgerError {
    let path = path.to_owned();
    move |source| LedgerError::File {
        action,
        path,
        source,
    }
}

fn totals_path(dir: &Path) -> PathBuf {
    dir.join("totals.json")
}

fn lines_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("charges-{number}.log"))
}

fn take_lock(dir: &Path) -> Result<LockedFile, LedgerError> {
    let path = dir.join("lock");
    let lock = private()
        .create(true)
        .open(&path)
        .map_err(failed("open", &path))?;
    match LockedFile::try_new(lock) {
        Ok(lock) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => Err(LedgerError::InUse {
            path: dir.to_owned(),
        }),
        Err(fs::TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}

/// The name that the directory was given when it was first used.
fn instance(dir: &Path) -> Result<String, LedgerError> {
    let path = dir.join("instance");
    match fs::read_to_string(&path) {
        Ok(name) if !name.is_empty() => return Ok(name),
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(failed("read", &path)(error));
        }
        _ => {}
    }
    let name = format!("{:032x}", rand::random::<u128>());
    replace_file(&path, Fsync::FileAndDirectory, |file| {
        file.write_all(name.as_bytes())
    })
    .map_err(failed("write", &path))?;
    Ok(name)
}

fn read_totals(dir: &Path) -> Result<Totals, LedgerError> {
    let path = totals_path(dir);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Totals::default()),
        Err(source) => return Err(failed("read", &path)(source)),
    };
    serde_json::from_str(&text).map_err(|error| LedgerError::Damaged {
        path,
        reason: error.to_string(),
    })
}

/// Numbers of the files of lines, rising.
fn numbers(dir: &Path) -> Result<Vec<u64>, LedgerError> {
    let entries = fs::read_dir(dir).map_err(failed("list", dir))?;
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed("list", dir))?.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("charges-")?.strip_suffix(".log"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The lines of a file, but for one at its end that a kill left unfinished.
fn read_lines(path: &Path) -> Result<Vec<ChargeLine>, LedgerError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(failed("read", path))?;
    let mut lines = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(whole) = line.strip_suffix(b"\n") else {
            break;
        };
        let line = parse(whole).map_err(|reason| LedgerError::Damaged {
            path: path.to_owned(),
            reason: format!("line {}: {reason}", lines.len() + 1),
        })?;
        lines.push(line);
    }
    Ok(lines)
}

fn parse(line: &[u8]) -> Result<ChargeLine, String> {
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let (crc, json) = text.split_once(' ').ok_or("it has no checksum")?;
    if u32::from_str_radix(crc, 16) != Ok(crc32c::crc32c(json.as_bytes())) {
        return Err("its checksum does not match".into());
    }
    serde_json::from_str(json).map_err(|error| error.to_string())
}

/// A stream that ends before requests that were charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortStream {
    pub stream: String,
    pub requests: usize,
}

/// Streams that lack events of requests which the ledger has. A kill leaves one such request at most,
/// which was not answered. `ends`: the last events of streams that the journal may not have any more.
pub fn short_streams(
    dir: &Path,
    journal: &Path,
    ends: HashMap<StreamId, u64>,
) -> Result<Vec<ShortStream>, LedgerError> {
    let totals = read_totals(dir)?;
    let mut lines = Vec::new();
    for number in numbers(dir)?.into_iter().filter(|it| *it >= totals.next) {
        lines.extend(read_lines(&lines_path(dir, number))?);
    }
    short(&lines, journal, ends)
}

fn short(
    lines: &[ChargeLine],
    journal: &Path,
    ends: HashMap<StreamId, u64>,
) -> Result<Vec<ShortStream>, LedgerError> {
    let mut unwritten: BTreeMap<&str, usize> = BTreeMap::new();
    let known = ends.into_iter().map(|(stream, end)| (stream, Some(end)));
    let mut ends: HashMap<_, _> = known.collect();
    for line in lines {
        let Ok(stream) = line.stream.parse::<StreamId>() else {
            continue;
        };
        let end = match ends.get(&stream) {
            Some(end) => *end,
            None => *ends.entry(stream).or_insert(last_seq(journal, stream)?),
        };
        if end.is_some_and(|end| end < line.seq) {
            *unwritten.entry(&line.stream).or_default() += 1;
        }
    }
    let short = unwritten.into_iter().filter(|(_, requests)| *requests > 1);
    let short = short.map(|(stream, requests)| ShortStream {
        stream: stream.to_owned(),
        requests,
    });
    Ok(short.collect())
}

/// Copies what was spent, as far as its events are in a copy of the journal that was made just before.
/// Returns false if totals were written meanwhile: the two copies do not belong together then, and are to
/// be made again.
pub fn copy_with_journal(
    dir: &Path,
    totals_before: &LedgerTotals,
    journal_copy: &Path,
    to: &Path,
) -> Result<bool, LedgerError> {
    let mut lines = Vec::new();
    let numbers = numbers(dir)?;
    for number in &numbers {
        match read_lines(&lines_path(dir, *number)) {
            Ok(found) => lines.push((*number, found)),
            Err(LedgerError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    if LedgerTotals::read(dir)? != *totals_before {
        return Ok(false);
    }
    for (number, lines) in lines {
        let mut copied = Lines::begin(to, number)?;
        for line in lines {
            // No stream of the copy has an end yet that says that its writer died.
            let stream = line.stream.parse::<StreamId>();
            let last = stream.map_or(Ok(Some(0)), |stream| last_seq(journal_copy, stream))?;
            if last.is_none_or(|last| last >= line.seq) {
                let path = lines_path(to, number);
                copied.append(&line).map_err(failed("write", &path))?;
            }
        }
    }
    for (name, content) in [
        ("totals.json", totals_before.0.as_deref()),
        ("instance", Some(instance(dir)?.as_bytes())),
    ] {
        let path = to.join(name);
        if let Some(content) = content {
            let written = replace_file(&path, Fsync::FileAndDirectory, |file| {
                file.write_all(content)
            });
            written.map_err(failed("write", &path))?;
        }
    }
    Ok(true)
}

/// The file of totals as it is; none before the first.
#[derive(Debug, PartialEq, Eq)]
pub struct LedgerTotals(Option<Vec<u8>>);

impl LedgerTotals {
    pub fn read(dir: &Path) -> Result<Self, LedgerError> {
        let path = totals_path(dir);
        match fs::read(&path) {
            Ok(content) => Ok(Self(Some(content))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self(None)),
            Err(source) => Err(failed("read", &path)(source)),
        }
    }
}

/// Leaves out the last line of each stream whose events a kill prevented.
fn drop_unwritten(lines: &mut Vec<ChargeLine>, journal: &Path) -> Result<(), LedgerError> {
    let numbered = lines.iter().enumerate();
    let last_of_stream: HashMap<&str, usize> = numbered
        .map(|(index, line)| (line.stream.as_str(), index))
        .collect();
    let mut unwritten = Vec::new();
    for index in last_of_stream.into_values() {
        if !was_written(journal, &lines[index])? {
            unwritten.push(index);
        }
    }
    unwritten.sort_unstable();
    for index in unwritten.into_iter().rev() {
        lines.remove(index);
    }
    Ok(())
}

/// Whether the events of a line are in the journal. A stream that is gone from there was read to
/// its end, as the rule: then they are.
fn was_written(journal: &Path, line: &ChargeLine) -> Result<bool, LedgerError> {
    let Ok(stream) = line.stream.parse::<StreamId>() else {
        return Ok(false);
    };
    // The stream of a writer that died ends with an event that says so.
    Ok(last_seq(journal, stream)?.is_none_or(|last| last > line.seq))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use weir_eventlog::{Journal, JournalOptions};
    use weir_limits::BudgetAmount;
    use weir_schemas::event::Event;

    use super::*;
    use crate::control::change::{Act, control_event};
    use crate::control::record::{Kind, Record};

    fn rules() -> Rules {
        let json = r#"{"id":"b","tokens":1000,"window":"total","per":["user"]}"#;
        let record = Record::parse(Kind::Budget, json).unwrap();
        let records = BTreeMap::from([((Kind::Budget, "b".to_owned()), Arc::new(record))]);
        Rules::build(&records, &Rules::default())
    }

    fn spent(rules: &Rules, subject: &str) -> BudgetAmount {
        let budget = rules.budgets.get("b").unwrap();
        budget
            .counters
            .named(subject)
            .read(&budget.terms.spec, 0)
            .committed
    }

    fn charge(subject: &str, amount: u64) -> Vec<Charge> {
        vec![Charge {
            budget: "b".into(),
            subject: subject.into(),
            at_ms: 1,
            amount,
        }]
    }

    fn event() -> Event<'static> {
        let act = Act {
            actor: "test",
            action: "test",
            now_ms: 1,
        };
        Event::ControlChanged(control_event(&act, "test", "test", None, None))
    }

    fn append(stream: LockedStream<'_>) {
        let _ = stream.append(&[event()]).unwrap();
    }

    struct Place {
        dir: tempfile::TempDir,
    }

    impl Place {
        fn open(&self) -> (Ledger, Rules, Journal) {
            let journal =
                Journal::open(JournalOptions::new(self.dir.path().join("journal"))).unwrap();
            let rules = rules();
            let ledger =
                Ledger::open(&self.dir.path().join("spend"), journal.dir(), &rules, 0).unwrap();
            (ledger, rules, journal)
        }
    }

    #[test]
    fn what_was_spent_is_known_after_a_restart_once_and_exactly() {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
        };
        for round in 1..=4_u64 {
            let (ledger, before, journal) = place.open();
            assert_eq!(spent(&before, "ana"), BudgetAmount::from((round - 1) * 10));
            let stream = journal.open_stream(0).unwrap();
            for _ in 0..10 {
                ledger.charge(&stream, charge("ana", 1), append);
            }
            // Totals in one round, lines alone in the next.
            if round % 2 == 0 {
                let budget = before.budgets.get("b").unwrap();
                let purse = budget.counters.named("ana");
                purse.restore(&budget.terms.spec, 1, 10, 0);
                ledger.keep(&before, 0, true);
            }
        }
        let (_, rules, _journal) = place.open();
        assert_eq!((spent(&rules, "ana"), spent(&rules, "ben")), (40, 0));
    }

    #[test]
    fn a_line_whose_events_a_kill_prevented_does_not_count() {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
        };
        {
            let (ledger, _, journal) = place.open();
            let stream = journal.open_stream(0).unwrap();
            ledger.charge(&stream, charge("ana", 5), append);
            ledger.charge(&stream, charge("ana", 7), |_| ());
        }
        let (_, rules, _journal) = place.open();
        assert_eq!(spent(&rules, "ana"), 5);
    }

    #[test]
    fn a_kill_between_a_new_file_of_lines_and_its_totals_loses_nothing() {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
        };
        {
            let (ledger, rules, journal) = place.open();
            let stream = journal.open_stream(0).unwrap();
            ledger.charge(&stream, charge("ana", 5), append);
            let number = ledger.lines.lock().number;
            let next = Lines::begin(&ledger.dir, number + 1).unwrap();
            let _never_written = ledger.swap(next, &rules, 0);
            ledger.charge(&stream, charge("ana", 7), append);
        }
        assert_eq!(spent(&place.open().1, "ana"), 12);
    }

    #[test]
    fn of_each_stream_the_last_line_counts_only_with_its_events() {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
        };
        {
            let (ledger, _, journal) = place.open();
            let streams = [0, 1].map(|shard| journal.open_stream(shard).unwrap());
            for stream in &streams {
                ledger.charge(stream, charge("ana", 5), append);
            }
            ledger.charge(&streams[0], charge("ana", 7), |_| ());
            ledger.charge(&streams[1], charge("ana", 11), append);
        }
        let (_, rules, _journal) = place.open();
        assert_eq!(spent(&rules, "ana"), 5 + 5 + 11);
    }

    #[test]
    fn a_line_names_its_event_whoever_appends_to_the_stream_meanwhile() {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
        };
        let (ledger, _, journal) = place.open();
        let stream = journal.open_stream(0).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..100 {
                    let _ = stream.append(&[event()]).unwrap();
                }
            });
            for _ in 0..100 {
                ledger.charge(&stream, charge("ana", 1), |stream| {
                    let first_seq = stream.first_seq();
                    let appended = stream.append(&[event()]).unwrap();
                    assert_eq!(appended.seqs.start, first_seq);
                });
            }
        });
    }

    #[test]
    fn an_unfinished_line_does_not_count_and_damage_before_the_end_is_said() {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
        };
        let path = {
            let (ledger, _, journal) = place.open();
            let stream = journal.open_stream(0).unwrap();
            for amount in [5, 6] {
                ledger.charge(&stream, charge("ana", amount), append);
            }
            lines_path(&ledger.dir, ledger.lines.lock().number)
        };
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert_eq!(spent(&place.open().1, "ana"), 5);
        let mut bad = whole;
        bad[20] ^= 1;
        let dir = place.dir.path().join("spend");
        fs::write(lines_path(&dir, 99), bad).unwrap();
        let error = Ledger::open(&dir, &place.dir.path().join("journal"), &rules(), 0).unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }

    #[test]
    fn two_gateways_do_not_spend_in_one_place() {
        let place = Place {
            dir: tempfile::tempdir().unwrap(),
        };
        let _first = place.open();
        let dir = place.dir.path().join("spend");
        let second = Ledger::open(&dir, place.dir.path(), &rules(), 0);
        assert!(matches!(second, Err(LedgerError::InUse { .. })));
    }
}
