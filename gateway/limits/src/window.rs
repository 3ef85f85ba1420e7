//! When a budget resets.

use jiff::civil::Weekday;
use jiff::fmt::temporal::DateTimePrinter;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _, Unit, Zoned, ZonedRound};

use crate::caps::{ROLLING_HOURS_MAX, ROLLING_SLOTS};

const MS_PER_HOUR: u64 = 3_600_000;

/// How long a budget lasts before it resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowKind {
    Hour,
    Day,
    /// Begins on Monday.
    Week,
    Month,
    /// The last `ms` milliseconds at any moment.
    Rolling {
        ms: u64,
    },
    /// Never resets.
    Total,
}

/// A time zone, by its name in the IANA database, which is built in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A window or time zone that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadWindow(pub String);

impl Zone {
    #[must_use]
    pub const fn utc() -> Self {
        Self(TimeZone::UTC)
    }

    pub fn named(name: &str) -> Result<Self, BadWindow> {
        TimeZone::get(name)
            .map(Self)
            .map_err(|_| BadWindow(format!("there is no time zone \"{name}\"")))
    }
}

/// A kind of window in a time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    pub kind: WindowKind,
    pub zone: Zone,
}

/// A stretch of time: from `start_ms` until before `end_ms`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start_ms: u64,
    pub end_ms: u64,
}

impl Span {
    /// The stretch that holds a moment, of those that begin at the multiples of a length.
    const fn multiple(at_ms: u64, length_ms: u64) -> Self {
        let start_ms = at_ms / length_ms * length_ms;
        Self {
            start_ms,
            end_ms: start_ms + length_ms,
        }
    }

    #[must_use]
    pub const fn holds(&self, at_ms: u64) -> bool {
        self.start_ms <= at_ms && at_ms < self.end_ms
    }
}

impl Window {
    #[must_use]
    pub const fn utc(kind: WindowKind) -> Self {
        Self {
            kind,
            zone: Zone::utc(),
        }
    }

    /// `hour`, `day`, `week`, `month`, `total`, or a number of hours or days that roll: `12h`,
    /// `30d`.
    pub fn parse(kind: &str, zone: Zone) -> Result<Self, BadWindow> {
        let kind = match kind {
            "hour" | "hourly" => WindowKind::Hour,
            "day" | "daily" => WindowKind::Day,
            "week" | "weekly" => WindowKind::Week,
            "month" | "monthly" => WindowKind::Month,
            "total" => WindowKind::Total,
            rolling => WindowKind::Rolling {
                ms: rolling_ms(rolling).ok_or_else(|| {
                    BadWindow(format!(
                        "\"{rolling}\" is not a window (hour, day, week, month, total, or rolling \
                         as 12h or 30d)"
                    ))
                })?,
            },
        };
        Ok(Self { kind, zone })
    }

    /// The window that holds a moment. A day that has 23 hours in its zone has 23 hours.
    #[must_use]
    pub fn span(&self, at_ms: u64) -> Span {
        match self.kind {
            WindowKind::Total => Span {
                start_ms: 0,
                end_ms: u64::MAX,
            },
            // One slot of the ring: see `BudgetCounter`.
            WindowKind::Rolling { ms } => Span::multiple(at_ms, rolling_slot_ms(ms)),
            WindowKind::Hour => self
                .calendar(at_ms)
                .unwrap_or_else(|| Span::multiple(at_ms, MS_PER_HOUR)),
            WindowKind::Day | WindowKind::Week | WindowKind::Month => self
                .calendar(at_ms)
                .unwrap_or_else(|| Span::multiple(at_ms, 24 * MS_PER_HOUR)),
        }
    }

    /// `None` for a moment that no calendar has.
    fn calendar(&self, at_ms: u64) -> Option<Span> {
        let at = Timestamp::from_millisecond(i64::try_from(at_ms).ok()?).ok()?;
        let at = at.to_zoned(self.zone.0.clone());
        let (start, step) = match self.kind {
            WindowKind::Hour => {
                let floor = ZonedRound::new()
                    .smallest(Unit::Hour)
                    .mode(jiff::RoundMode::Floor);
                (at.round(floor).ok()?, 1.hour())
            }
            WindowKind::Day => (at.start_of_day().ok()?, 1.day()),
            WindowKind::Week => {
                let since_monday = at.weekday().since(Weekday::Monday);
                let monday = at.checked_sub(i64::from(since_monday).days()).ok()?;
                (monday.start_of_day().ok()?, 1.week())
            }
            _ => (at.first_of_month().ok()?.start_of_day().ok()?, 1.month()),
        };
        let end = match self.kind {
            WindowKind::Hour => start.checked_add(step).ok()?,
            _ => start.checked_add(step).ok()?.start_of_day().ok()?,
        };
        Some(Span {
            start_ms: ms(&start)?,
            end_ms: ms(&end)?,
        })
    }
}

/// A moment as RFC 3339 writes it, in UTC and to the second. Empty for one that no calendar has.
#[must_use]
pub fn rfc3339(at_ms: u64) -> String {
    const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(0));
    let seconds = i64::try_from(at_ms / 1000).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .map_or_else(|_| String::new(), |at| PRINTER.timestamp_to_string(&at))
}

pub(crate) fn rolling_slot_ms(ms: u64) -> u64 {
    ms.div_ceil(ROLLING_SLOTS).max(1)
}

fn ms(at: &Zoned) -> Option<u64> {
    u64::try_from(at.timestamp().as_millisecond()).ok()
}

fn rolling_ms(text: &str) -> Option<u64> {
    let (number, hours) = match text.strip_suffix('h') {
        Some(number) => (number, 1),
        None => (text.strip_suffix('d')?, 24),
    };
    let hours = number.parse::<u64>().ok()?.checked_mul(hours)?;
    (1..=ROLLING_HOURS_MAX)
        .contains(&hours)
        .then(|| hours * MS_PER_HOUR)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        let timestamp: Timestamp = text.parse().unwrap();
        u64::try_from(timestamp.as_millisecond()).unwrap()
    }

    #[track_caller]
    fn check(kind: &str, zone: &str, now: &str, start: &str, end: &str) {
        let window = Window::parse(kind, Zone::named(zone).unwrap()).unwrap();
        let expected = Span {
            start_ms: at(start),
            end_ms: at(end),
        };
        assert_eq!(window.span(at(now)), expected, "{kind} in {zone} at {now}");
        assert!(expected.holds(at(now)));
    }

    #[test]
    fn windows_follow_the_calendar_of_their_zone() {
        let berlin = "Europe/Berlin";
        check(
            "day",
            "UTC",
            "2026-03-29T12:00:00Z",
            "2026-03-29T00:00:00Z",
            "2026-03-30T00:00:00Z",
        );
        // The day on which clocks go forward has 23 hours.
        check(
            "day",
            berlin,
            "2026-03-29T12:00:00Z",
            "2026-03-28T23:00:00Z",
            "2026-03-29T22:00:00Z",
        );
        check(
            "week",
            berlin,
            "2026-11-22T12:00:00Z",
            "2026-11-15T23:00:00Z",
            "2026-11-22T23:00:00Z",
        );
        check(
            "month",
            berlin,
            "2026-02-28T23:30:00Z",
            "2026-02-28T23:00:00Z",
            "2026-03-31T22:00:00Z",
        );
        check(
            "hour",
            "Asia/Kolkata",
            "2026-01-01T00:45:00Z",
            "2026-01-01T00:30:00Z",
            "2026-01-01T01:30:00Z",
        );
        check(
            "month",
            "UTC",
            "2024-02-29T23:59:59Z",
            "2024-02-01T00:00:00Z",
            "2024-03-01T00:00:00Z",
        );
    }

    #[test]
    fn windows_touch_and_never_overlap() {
        for kind in ["hour", "day", "week", "month", "12h"] {
            let window = Window::parse(kind, Zone::named("America/New_York").unwrap()).unwrap();
            let mut now = at("2025-12-30T05:00:00Z");
            for _ in 0..500 {
                let span = window.span(now);
                assert!(span.holds(now) && span.holds(span.end_ms - 1));
                assert_eq!(window.span(span.end_ms).start_ms, span.end_ms, "{kind}");
                now = span.end_ms;
            }
        }
    }

    #[test]
    fn a_text_that_is_not_a_window_is_refused() {
        for bad in [
            "",
            "fortnight",
            "0h",
            "-3d",
            "99999999999999999999h",
            "9999999999999999999d",
            "h",
            "9999d",
        ] {
            assert!(Window::parse(bad, Zone::utc()).is_err(), "{bad}");
        }
        assert!(Zone::named("Europe/Atlantis").is_err());
    }
}
