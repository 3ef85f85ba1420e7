//! CPU time and memory of other processes, from `/proc`.

use std::io;
use std::time::Duration;

use serde::Serialize;

/// A reading of one process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUsage {
    /// User and system time of all its threads since it began.
    pub cpu: Duration,
    pub resident_bytes: u64,
}

/// What some processes used together over a measured time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct ProcessUse {
    pub cpu_s: f64,
    pub cpu_us_per_request: f64,
    pub resident_bytes_before: u64,
    pub resident_bytes_after: u64,
}

/// Reads a process now. The kernel counts CPU time in ticks of 10 ms, so measure for seconds.
pub fn read(pid: u32) -> io::Result<ProcessUsage> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse(&stat)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/PID/stat"))
}

fn parse(stat: &str) -> Option<ProcessUsage> {
    // The second field is the name in parentheses, which may hold anything; the fields after it are counted from 3.
    let (_, rest) = stat.rsplit_once(')')?;
    let field = |number: usize| {
        rest.split_ascii_whitespace()
            .nth(number - 3)?
            .parse::<u64>()
            .ok()
    };
    let ticks = field(14)? + field(15)?;
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    Some(ProcessUsage {
        cpu: Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / ticks_per_second)),
        resident_bytes: field(24)? * rustix::param::page_size() as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 100 1000000 300 18446744073709551615";
        let reading = parse(stat).unwrap();
        assert_eq!(reading.cpu, Duration::from_secs(3));
        assert_eq!(
            reading.resident_bytes,
            300 * rustix::param::page_size() as u64
        );
    }

    #[test]
    fn our_own_work_is_seen() {
        let before = read(std::process::id()).unwrap();
        let began = Instant::now();
        let mut n = 0u64;
        while read(std::process::id()).unwrap().cpu < before.cpu + Duration::from_millis(50) {
            n = n.wrapping_add(1);
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{n} rounds and no CPU time"
            );
        }
        assert!(before.resident_bytes > 100_000);
    }
}
