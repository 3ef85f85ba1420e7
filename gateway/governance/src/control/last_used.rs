//! When each key was last used, and from where, kept over restarts.
//!
//! A gateway notes it in memory and writes it down once a minute and when it stops, so a kill takes
//! the last minute at most. Each gateway of a cluster knows of its own requests; what all of them saw
//! is in the events: `weir audit calls --key`.
//!
//! The file has a line for each key that was ever used: id, milliseconds since 1970, address. A line
//! that cannot be read is left out: nothing depends on it but what people are shown.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use weir_eventlog::{Fsync, replace_file};

use super::key::KeyId;

/// How often a use is noted: threads must not fight over it.
const NOTED_MS: u64 = 1000;

/// One use of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    pub at_ms: u64,
    pub address: IpAddr,
}

/// When a key was last used. Held by the key itself.
#[derive(Debug)]
pub(super) struct Noted {
    /// 0 if never.
    at_ms: AtomicU64,
    /// IPv4 as IPv6 writes it.
    address: Mutex<[u8; 16]>,
}

impl Noted {
    pub(super) fn new(last: Option<LastUse>) -> Self {
        Self {
            at_ms: AtomicU64::new(last.map_or(0, |last| last.at_ms)),
            address: Mutex::new(last.map_or([0; 16], |last| octets(last.address))),
        }
    }

    pub(super) fn note(&self, used: LastUse) {
        let before_ms = self.at_ms.load(Ordering::Relaxed);
        if before_ms + NOTED_MS > used.at_ms {
            return;
        }
        let mut address = self.address.lock();
        *address = octets(used.address);
        self.at_ms.store(used.at_ms, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Option<LastUse> {
        let address = self.address.lock();
        let at_ms = self.at_ms.load(Ordering::Relaxed);
        (at_ms > 0).then(|| LastUse {
            at_ms,
            address: Ipv6Addr::from(*address).to_canonical(),
        })
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The file of a data directory.
#[derive(Clone, Debug)]
pub(super) struct LastUsedFile(PathBuf);

impl LastUsedFile {
    pub(super) fn in_dir(data_dir: &Path) -> Self {
        Self(data_dir.join("control/last-used"))
    }

    pub(super) fn read(&self) -> io::Result<HashMap<KeyId, LastUse>> {
        match fs::read_to_string(&self.0) {
            Ok(text) => Ok(text.lines().filter_map(parse).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(HashMap::new()),
            Err(error) => Err(error),
        }
    }

    /// Writes down when keys were last used. Not synced to the disk: it is not worth a wait.
    pub(super) fn write(&self, uses: impl Iterator<Item = (KeyId, LastUse)>) -> io::Result<()> {
        let mut text = String::new();
        for (id, LastUse { at_ms, address }) in uses {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{id} {at_ms} {address}");
        }
        replace_file(&self.0, Fsync::Nothing, |file| {
            file.write_all(text.as_bytes())
        })?;
        Ok(())
    }
}

fn parse(line: &str) -> Option<(KeyId, LastUse)> {
    let mut words = line.split(' ');
    let id = words.next()?.parse().ok()?;
    let at_ms = words.next()?.parse().ok()?;
    let address = words.next()?.parse().ok()?;
    Some((id, LastUse { at_ms, address }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_read_again_and_damage_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("control")).unwrap();
        let file = LastUsedFile::in_dir(dir.path());
        assert!(file.read().unwrap().is_empty());
        let used = |at_ms, address: &str| LastUse {
            at_ms,
            address: address.parse().unwrap(),
        };
        let noted = |uses: &[LastUse]| {
            let noted = Noted::new(None);
            uses.iter().for_each(|used| noted.note(*used));
            noted
        };
        let keys = [
            noted(&[used(5_000, "10.1.2.3"), used(5_999, "10.9.9.9")]),
            noted(&[used(7_000, "2001:db8::1"), used(8_000, "::ffff:10.0.0.1")]),
            noted(&[]),
        ];
        let uses = (1..).map(KeyId).zip(&keys);
        let uses = uses.filter_map(|(id, noted)| Some((id, noted.get()?)));
        file.write(uses).unwrap();
        let mut text = fs::read_to_string(&file.0).unwrap();
        text.push_str("key_zz 5 10.0.0.1\n\u{0}\nkey_");
        fs::write(&file.0, text).unwrap();
        let expected = HashMap::from([
            (KeyId(1), used(5_000, "10.1.2.3")),
            (KeyId(2), used(8_000, "10.0.0.1")),
        ]);
        assert_eq!(file.read().unwrap(), expected);
    }
}
