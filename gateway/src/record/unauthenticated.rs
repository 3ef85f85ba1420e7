//! Calls without a valid key. Anybody can make them, so what they leave behind is bounded.
//!
//! The first ones of a minute have rows of their own, as every request has. Further ones are counted by
//! address and reason, and every minute the counts become events. So a kill takes back the counts of the
//! last minute at most, and nothing else does.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use weir_eventlog::StreamWriter;
use weir_governance::clock::Moment;
use weir_governance::control::KeyRefusal;
use weir_schemas::event::{Event, RefusalsCounted};

use crate::caps::ROWS_PER_ADDRESS_MAX;
use crate::setup::config::UnauthenticatedConfig;

/// For how long is counted before the counts become events.
const PERIOD: Duration = Duration::from_secs(60);

/// What was wrong with a call's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyFault {
    Missing,
    Key(KeyRefusal),
    /// A token of the admin API.
    AdminToken,
}

impl KeyFault {
    /// As events and metrics carry it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Key(KeyRefusal::Malformed) => "malformed",
            Self::Key(KeyRefusal::Unknown) => "unknown",
            Self::Key(KeyRefusal::Revoked) => "revoked",
            Self::Key(KeyRefusal::Rotated) => "rotated",
            Self::Key(KeyRefusal::Expired) => "expired",
            Self::AdminToken => "admin_token",
        }
    }
}

/// Where a call without a valid key came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ClientNetwork {
    V4(IpAddr),
    /// A customer of a provider has at least this, so its addresses are one.
    V6Prefix64([u16; 4]),
    /// Beyond the addresses that are counted apart.
    Other,
}

impl From<IpAddr> for ClientNetwork {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6Prefix64([a, b, c, d])
            }
            address @ IpAddr::V4(_) => Self::V4(address),
        }
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => fmt::Display::fmt(address, f),
            Self::V6Prefix64([a, b, c, d]) => {
                write!(f, "{}/64", Ipv6Addr::new(*a, *b, *c, *d, 0, 0, 0, 0))
            }
            Self::Other => f.write_str("other"),
        }
    }
}

/// How a call is answered, and what it leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyVerdict {
    /// It is refused, and has a row of its own.
    Row,
    /// It is refused and counted.
    Counted,
    /// There were too many from its address; counted, too.
    Limited { retry_after: Duration },
}

/// Refusals of one address for one reason.
#[derive(Clone, Copy, Debug, Default)]
struct RefusalTally {
    refused: u64,
    /// How many of them were answered that there were too many.
    limited: u64,
    first_us: u64,
    last_us: u64,
}

impl RefusalTally {
    fn add(&mut self, other: &Self) {
        if self.refused == 0 {
            self.first_us = other.first_us;
        }
        self.refused += other.refused;
        self.limited += other.limited;
        self.first_us = self.first_us.min(other.first_us);
        self.last_us = self.last_us.max(other.last_us);
    }
}

#[derive(Debug, Default)]
struct AddressCounts {
    requests: u32,
    rows: u32,
    tallies: Vec<(&'static str, RefusalTally)>,
}

impl AddressCounts {
    fn count(&mut self, reason: &'static str, tally: &RefusalTally) {
        let known = self.tallies.iter().position(|(known, _)| *known == reason);
        let at = known.unwrap_or(self.tallies.len());
        if known.is_none() {
            self.tallies.push((reason, RefusalTally::default()));
        }
        self.tallies[at].1.add(tally);
    }
}

/// What was counted since the last events.
#[derive(Debug, Default)]
struct CountedPeriod {
    began: Option<Instant>,
    rows: u32,
    addresses: HashMap<ClientNetwork, AddressCounts>,
}

impl CountedPeriod {
    fn is_over(&self, now: Instant) -> bool {
        self.began
            .is_some_and(|began| now.saturating_duration_since(began) >= PERIOD)
    }

    /// The counts of an address, or of all further ones.
    fn of(
        &mut self,
        origin: ClientNetwork,
        addresses_max: usize,
    ) -> (ClientNetwork, &mut AddressCounts) {
        let has_room = self.addresses.len() < addresses_max;
        let origin = match has_room || self.addresses.contains_key(&origin) {
            true => origin,
            false => ClientNetwork::Other,
        };
        (origin, self.addresses.entry(origin).or_default())
    }
}

/// All calls without a valid key, of all workers.
#[derive(Debug)]
pub(crate) struct UnauthenticatedCalls {
    config: UnauthenticatedConfig,
    period: Mutex<CountedPeriod>,
}

impl UnauthenticatedCalls {
    pub(crate) fn new(config: UnauthenticatedConfig) -> Self {
        Self {
            config,
            period: Mutex::default(),
        }
    }

    /// Judges one call. One that `may_have_row` has one if it is among the first.
    pub(crate) fn judge(
        &self,
        client: IpAddr,
        fault: KeyFault,
        now: Moment,
        may_have_row: bool,
    ) -> KeyVerdict {
        let config = &self.config;
        let mut period = self.period.lock();
        let passed = now
            .instant
            .saturating_duration_since(*period.began.get_or_insert(now.instant));
        let rows_left = config.rows_per_minute.saturating_sub(period.rows);
        let (origin, counts) = period.of(client.into(), config.addresses_max);
        let is_known = origin != ClientNetwork::Other;
        counts.requests = counts.requests.saturating_add(1);
        let is_limited = is_known && counts.requests > config.requests_per_minute;
        let is_first = is_known && counts.rows < ROWS_PER_ADDRESS_MAX && rows_left > 0;
        if may_have_row && is_first && !is_limited {
            counts.rows += 1;
            period.rows += 1;
            return KeyVerdict::Row;
        }
        let tally = RefusalTally {
            refused: 1,
            limited: u64::from(is_limited),
            first_us: now.unix_us,
            last_us: now.unix_us,
        };
        counts.count(fault.as_str(), &tally);
        match is_limited {
            true => KeyVerdict::Limited {
                retry_after: PERIOD.saturating_sub(passed).max(Duration::from_secs(1)),
            },
            false => KeyVerdict::Counted,
        }
    }

    /// Writes the events of a period that is over.
    pub(crate) fn write_if_due(&self, stream: &StreamWriter, now: Instant) {
        let mut period = self.period.lock();
        if period.is_over(now) {
            let over = std::mem::take(&mut *period);
            drop(period);
            self.write(stream, over);
        }
    }

    /// Writes the events of what was counted so far: for the end.
    pub(crate) fn write_rest(&self, stream: &StreamWriter) {
        let rest = std::mem::take(&mut *self.period.lock());
        self.write(stream, rest);
    }

    /// What cannot be written now is counted on.
    fn write(&self, stream: &StreamWriter, over: CountedPeriod) {
        let named = over.addresses.iter();
        let named: Vec<(String, &AddressCounts)> = named
            .map(|(origin, counts)| (origin.to_string(), counts))
            .collect();
        let events = named.iter().flat_map(|(address, counts)| {
            let tallies = counts.tallies.iter();
            tallies.map(move |(reason, tally)| event(address, reason, tally))
        });
        let events: Vec<Event<'_>> = events.collect();
        let written = stream.append(&events);
        drop(events);
        drop(named);
        if let Err(error) = written {
            tracing::error!(%error, "failed to write the counts of calls without a valid key, will retry");
            self.count_on(over);
        }
    }

    fn count_on(&self, over: CountedPeriod) {
        let mut period = self.period.lock();
        for (origin, counts) in over.addresses {
            let (_, known) = period.of(origin, self.config.addresses_max);
            for &(reason, ref tally) in &counts.tallies {
                known.count(reason, tally);
            }
        }
        // The next try is a period later.
        period.began = period.began.max(over.began.map(|began| began + PERIOD));
    }
}

fn event<'a>(address: &'a str, reason: &'a str, tally: &RefusalTally) -> Event<'a> {
    Event::RefusalsCounted(RefusalsCounted {
        ts_us: tally.first_us.into(),
        last_us: tally.last_us.into(),
        address,
        reason,
        refused: tally.refused.into(),
        limited: tally.limited.into(),
    })
}

#[cfg(test)]
mod tests {
    use weir_eventlog::{Journal, JournalOptions};

    use super::*;

    const CONFIG: UnauthenticatedConfig = UnauthenticatedConfig {
        requests_per_minute: 60,
        rows_per_minute: 25,
        addresses_max: 100,
    };
    const UNKNOWN: KeyFault = KeyFault::Key(KeyRefusal::Unknown);

    fn address(number: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(0xc000_0200 + number).into()
    }

    /// What is counted: address, reason, refused, limited.
    fn counted(calls: &UnauthenticatedCalls) -> Vec<(String, &'static str, u64, u64)> {
        let period = calls.period.lock();
        let mut counted = Vec::new();
        for (origin, counts) in &period.addresses {
            for (reason, tally) in &counts.tallies {
                counted.push((origin.to_string(), *reason, tally.refused, tally.limited));
            }
        }
        counted.sort_unstable();
        counted
    }

    #[test]
    fn the_first_have_rows_and_then_all_are_counted_and_at_last_limited() {
        let calls = UnauthenticatedCalls::new(CONFIG);
        let now = Moment::now();
        let verdicts: Vec<KeyVerdict> = (0..70)
            .map(|_| calls.judge(address(1), UNKNOWN, now, true))
            .collect();
        assert!(verdicts[..10].iter().all(|it| *it == KeyVerdict::Row));
        assert!(verdicts[10..60].iter().all(|it| *it == KeyVerdict::Counted));
        let retry_after = PERIOD;
        assert!(
            verdicts[60..]
                .iter()
                .all(|it| *it == KeyVerdict::Limited { retry_after })
        );
        calls.judge(address(1), KeyFault::Missing, now, true);
        let line = |reason, refused, limited| ("192.0.2.1".to_owned(), reason, refused, limited);
        assert_eq!(
            counted(&calls),
            [line("missing", 1, 1), line("unknown", 60, 10)]
        );
    }

    #[test]
    fn an_attack_from_everywhere_is_bounded_and_its_sum_exact() {
        let calls = UnauthenticatedCalls::new(CONFIG);
        let now = Moment::now();
        let verdicts = (0..5000).map(|number| calls.judge(address(number), UNKNOWN, now, true));
        let rows = verdicts.filter(|it| *it == KeyVerdict::Row).count() as u64;
        assert_eq!(rows, 25);
        let told = counted(&calls);
        assert!(told.len() <= 101, "{}", told.len());
        let sum: u64 = told.iter().map(|(_, _, refused, _)| refused).sum();
        assert_eq!(sum + rows, 5000);
        let last = told.last().unwrap();
        assert_eq!((last.0.as_str(), last.3), ("other", 0), "{last:?}");
    }

    #[test]
    fn addresses_of_one_subscriber_are_one() {
        let origin = |text: &str| ClientNetwork::from(text.parse::<IpAddr>().unwrap()).to_string();
        assert_eq!(origin("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(origin("2001:db8:1:2:ffff::"), "2001:db8:1:2::/64");
        assert_eq!(origin("::ffff:192.0.2.7"), "192.0.2.7");
    }

    #[test]
    fn what_cannot_be_written_is_written_later() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(JournalOptions::new(dir.path())).unwrap();
        let closed = journal.open_stream(0).unwrap();
        closed.close().unwrap();
        let calls = UnauthenticatedCalls::new(CONFIG);
        let now = Moment::now();
        for number in 0..300 {
            calls.judge(address(number % 150), UNKNOWN, now, false);
        }
        calls.write_if_due(&closed, now.instant);
        calls.write_if_due(&closed, now.instant + PERIOD);
        calls.judge(address(1), UNKNOWN, now, false);
        let sum: u64 = counted(&calls).iter().map(|it| it.2).sum();
        assert_eq!(sum, 301);
        let open = journal.open_stream(1).unwrap();
        calls.write_rest(&open);
        assert!(counted(&calls).is_empty());
        open.close().unwrap();
    }
}
