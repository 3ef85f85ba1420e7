//! Processes that really die: a writer killed with SIGKILL, and one whose disk is full.
//!
//! The test starts itself again as the writer, so it has a `main` of its own.
#![expect(clippy::print_stderr, reason = "it reports as a test does")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use weir_eventlog::{
    AppendError, BatchLimits, Journal, JournalOptions, JournalReader, SourceBatch, StreamWriter,
};
use weir_schemas::RequestId;
use weir_schemas::codec::decode;
use weir_schemas::event::{ControlChanged, Event};

type Failure = Box<dyn std::error::Error>;

const KILLS: u64 = 20;

/// A shell in which no file may grow over 32 KiB: an append there falls short, then fails.
const SMALL_FILES: &str = "trap '' XFSZ; ulimit -f 64; exec \"$@\"";

/// A disk of 256 KiB, for this process alone; what is written there is kept.
const SMALL_DISK: &str = "d=\"$1/small\"; mkdir \"$d\" && mount -t tmpfs -o size=256k weir \"$d\" \
    && \"$2\" \"$3\" \"$d/journal\" && cp -r \"$d/journal/.\" \"$1\"";

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["writer", dir] => write_for_ever(Path::new(dir)),
        ["writer-until-full", dir] => write_until_full(Path::new(dir)),
        _ => check_all(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn check_all() -> Result<(), Failure> {
    let me = std::env::current_exe()?;
    let seed = match std::env::var("WEIR_SEED") {
        Ok(seed) => seed.parse()?,
        Err(_) => u64::from(std::process::id()),
    };
    eprintln!(
        "test a_killed_writer_loses_nothing_that_it_acknowledged (WEIR_SEED={seed} repeats its kills)"
    );
    a_killed_writer_loses_nothing_that_it_acknowledged(&me, seed)?;

    eprintln!("test files_that_may_not_grow_leave_a_good_segment");
    a_full_disk_leaves_a_good_segment(|dir| {
        let mut command = Command::new("sh");
        command
            .args(["-c", SMALL_FILES, "sh"])
            .arg(&me)
            .arg("writer-until-full")
            .arg(dir);
        command
    })?;
    if may_mount() {
        eprintln!("test a_full_disk_leaves_a_good_segment");
        a_full_disk_leaves_a_good_segment(|dir| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--map-root-user", "sh", "-c", SMALL_DISK, "sh"]);
            command.arg(dir).arg(&me).arg("writer-until-full");
            command
        })?;
    } else {
        eprintln!(
            "left out a_full_disk_leaves_a_good_segment: this machine lets us mount no tmpfs"
        );
    }
    Ok(())
}

fn may_mount() -> bool {
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        "mount -t tmpfs weir /mnt",
    ]);
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// Kills a writer at random moments, over and over on the same journal. Every append that it said
/// was done must be there, each number once, and every stream must have an end.
fn a_killed_writer_loses_nothing_that_it_acknowledged(me: &Path, seed: u64) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let mut acknowledged = BTreeMap::new();
    let mut read = Read::default();
    let mut chance = seed;
    for _ in 0..KILLS {
        let mut child = Command::new(me)
            .arg("writer")
            .arg(dir.path())
            .stdout(Stdio::piped())
            .spawn()?;
        chance = chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let mut told = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        // Some appends, then a moment that has nothing to do with the writer's own rhythm.
        let mut line = String::new();
        for _ in 0..chance >> 56 {
            told.read_line(&mut line)?;
        }
        std::thread::sleep(Duration::from_micros((chance >> 48) & 0xFFF));
        child.kill()?;
        told.read_to_string(&mut line)?;
        child.wait()?;
        note_acknowledged(&line, &mut acknowledged);
        read.drain(dir.path())?;
    }
    read.check(&acknowledged)
}

/// The last whole line tells how far each stream had been acknowledged.
fn note_acknowledged(told: &str, acknowledged: &mut BTreeMap<String, u64>) {
    for line in told
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
    {
        if let Some((stream, seq)) = line.split_once(' ')
            && let Ok(seq) = seq.parse()
        {
            acknowledged.insert(stream.to_owned(), seq);
        }
    }
}

fn a_full_disk_leaves_a_good_segment(writer: impl Fn(&Path) -> Command) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let output = writer(dir.path()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the writer ended with {}", output.status).into());
    }
    let mut acknowledged = BTreeMap::new();
    note_acknowledged(&String::from_utf8(output.stdout)?, &mut acknowledged);
    let mut read = Read::default();
    read.drain(dir.path())?;
    read.check(&acknowledged)?;
    if let Some((stream, seqs)) = read.streams.iter().next()
        && acknowledged.get(stream) != Some(&(seqs - 1))
    {
        return Err(format!("{acknowledged:?} acknowledged, but {seqs} events read").into());
    }
    Ok(())
}

/// What was read: how far each stream came, and whether it ended.
#[derive(Default)]
struct Read {
    streams: BTreeMap<String, u64>,
    ended: BTreeMap<String, bool>,
}

impl Read {
    fn drain(&mut self, dir: &Path) -> Result<(), Failure> {
        drop(Journal::open(options(dir))?);
        let limits = BatchLimits {
            records_max: 10_000,
            bytes_max: 1 << 20,
            wait_max: Duration::ZERO,
        };
        let mut reader = JournalReader::open(dir)?;
        loop {
            let mut batch = SourceBatch::default();
            reader.fill(&mut batch, &limits, Instant::now())?;
            if batch.is_empty() {
                return Ok(());
            }
            if !batch.lost.is_empty() {
                return Err(format!("lost {:?}", batch.lost).into());
            }
            for record in &batch.records {
                let stream = record.stream.to_string();
                let last = self.streams.entry(stream.clone()).or_default();
                if record.seq != *last + 1 {
                    return Err(format!("{stream}: {} came after {last}", record.seq).into());
                }
                *last = record.seq;
                let end = matches!(decode(&record.payload)?.event, Event::StreamClosed(_));
                self.ended.insert(stream, end);
            }
            reader.seal(&batch);
            reader.commit(&batch)?;
        }
    }

    fn check(&self, acknowledged: &BTreeMap<String, u64>) -> Result<(), Failure> {
        for (stream, seq) in acknowledged {
            // The end that the stream was given comes behind everything acknowledged.
            if self.streams.get(stream).is_none_or(|last| last <= seq) {
                return Err(
                    format!("{stream}: {seq} acknowledged, read {:?}", self.streams).into(),
                );
            }
        }
        let unended = self.ended.iter().find(|(_, ended)| !**ended);
        if let Some((stream, _)) = unended {
            return Err(format!("{stream} has no end").into());
        }
        if acknowledged.is_empty() {
            return Err("nothing was ever acknowledged".into());
        }
        Ok(())
    }
}

fn options(dir: &Path) -> JournalOptions {
    JournalOptions {
        segment_bytes: 1 << 20,
        ..JournalOptions::new(dir)
    }
}

fn change(text: &str) -> Event<'_> {
    Event::ControlChanged(ControlChanged {
        ts_us: 1.into(),
        change_id: RequestId::from_bytes([1; 16]),
        actor: "test",
        action: "create",
        object_kind: "key",
        object_id: text,
        before: None,
        after: None,
    })
}

fn append(writer: &StreamWriter, text: &str) -> Result<u64, AppendError> {
    let appended = writer.append(&[change(text), change("second"), change("third")])?;
    Ok(appended.seqs.end - 1)
}

/// Appends and says after each append how far it has come, until it is killed.
fn write_for_ever(dir: &Path) -> Result<(), Failure> {
    let journal = Journal::open(options(dir))?;
    let writer = journal.open_stream(0)?;
    let mut out = std::io::stdout();
    let text = "x".repeat(3000);
    loop {
        let seq = append(&writer, &text)?;
        out.write_all(format!("{} {seq}\n", writer.id()).as_bytes())?;
    }
}

/// Appends until an append fails, then smaller ones until those fail too; says what was done. The
/// stream can't be closed then: it is left to be recovered.
fn write_until_full(dir: &Path) -> Result<(), Failure> {
    let journal = Journal::open(options(dir))?;
    let writer = journal.open_stream(0)?;
    let mut done = 1;
    for bytes in [3000, 300, 0] {
        let text = "x".repeat(bytes);
        let mut refused = 0;
        while refused < 3 {
            match append(&writer, &text) {
                Ok(seq) => done = seq,
                Err(AppendError::File(_)) => refused += 1,
                Err(other) => return Err(other.into()),
            }
        }
    }
    if journal.stats().append_errors != 9 {
        return Err(format!("{:?}", journal.stats()).into());
    }
    std::io::stdout().write_all(format!("{} {done}\n", writer.id()).as_bytes())?;
    Ok(())
}
