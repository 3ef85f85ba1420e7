//! When requests are meant to be sent, and when there are no more.

use std::sync::Arc;
use std::time::Duration;

use crate::chance;
use crate::trace::{Trace, TracedCall};

/// How requests arrive.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// Closed loop: each connection sends again as soon as it has its answer. Measures throughput; its latency says little, because
    /// a slow target slows its own load.
    Closed,
    /// Open loop, evenly spaced.
    Constant { per_second: f64 },
    /// Open loop, independent arrivals with exponential gaps.
    Poisson { per_second: f64 },
    /// Open loop, independent arrivals whose rate swings around its mean as a day's does: `swing` 0.5 is from half to one and a half
    /// of it, once in a `period`, beginning at the mean and rising.
    Wave {
        per_second: f64,
        swing: f64,
        period: Duration,
    },
    /// Open loop, the recorded times divided by `speed`; sizes come from the trace too.
    Trace { trace: Arc<Trace>, speed: f64 },
}

impl Arrival {
    pub(super) fn problem(&self) -> Option<String> {
        let above_0 = |rate: f64, max: f64| rate > 0.0 && rate <= max;
        let (good, problem) = match self {
            Self::Closed => return None,
            Self::Constant { per_second } | Self::Poisson { per_second } => (
                above_0(*per_second, 1e7),
                format!("a rate of {per_second}/s is not between 0 and ten million"),
            ),
            Self::Wave {
                per_second,
                swing,
                period,
            } => (
                above_0(*per_second, 1e6) && (0.0..=1.0).contains(swing) && !period.is_zero(),
                format!(
                    "a wave of {per_second}/s with swing {swing} (0 to 1) and period {period:?}"
                ),
            ),
            Self::Trace { speed, .. } => (
                above_0(*speed, f64::MAX),
                format!("a speed of {speed} is not above 0"),
            ),
        };
        (!good).then_some(problem)
    }

    /// For a person to read.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Closed => "closed loop".to_owned(),
            Self::Constant { per_second } => format!("constant {per_second}/s"),
            Self::Poisson { per_second } => format!("Poisson {per_second}/s"),
            Self::Wave {
                per_second,
                swing,
                period,
            } => {
                format!("wave around {per_second}/s, swing {swing}, period {period:?}")
            }
            Self::Trace { trace, speed } => {
                format!(
                    "{} calls {}, {speed}x speed",
                    trace.calls.len(),
                    trace.source
                )
            }
        }
    }
}

/// When a run ends: whichever comes first. A trace ends by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stop {
    /// So long after the warm-up.
    pub after: Option<Duration>,
    /// After so many requests, those of the warm-up not counted.
    pub requests: Option<u64>,
}

impl Stop {
    pub(super) fn problem(&self, arrival: &Arrival) -> Option<String> {
        let ends = self.after.is_some()
            || self.requests.is_some()
            || matches!(arrival, Arrival::Trace { .. });
        (!ends).then(|| "say when to stop: after a time or a number of requests".to_owned())
    }
}

/// A request to be sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Planned {
    /// Its place in the whole schedule.
    pub(crate) number: u64,
    /// When it is meant to leave, counted from the start; `None`: as soon as it can.
    pub(crate) at: Option<Duration>,
    /// Whether the warm-up is over by then.
    pub(crate) counts: bool,
    /// Its recorded sizes.
    pub(crate) call: Option<TracedCall>,
}

/// One thread's share of the schedule: every `threads`th request of it.
#[derive(Debug)]
pub(crate) struct Schedule {
    arrival: Arrival,
    seed: u64,
    warm_up: Duration,
    end: Option<Duration>,
    requests_max: u64,
    thread: u64,
    threads: u64,
    next: u64,
    /// Requests of the whole schedule that count so far.
    counted: u64,
    /// Poisson and wave: the time of the next arrival.
    clock: f64,
    /// Wave: draws made so far, those that were thinned out among them.
    drawn: u64,
}

impl Schedule {
    pub(crate) fn new(
        arrival: Arrival,
        stop: Stop,
        warm_up: Duration,
        seed: u64,
        (thread, threads): (u64, u64),
    ) -> Self {
        Self {
            arrival,
            seed,
            warm_up,
            end: stop.after.map(|after| warm_up + after),
            requests_max: stop.requests.unwrap_or(u64::MAX),
            thread,
            threads,
            next: 0,
            counted: 0,
            clock: 0.0,
            drawn: 0,
        }
    }

    /// All of it for one thread, from the start to its own end.
    pub(crate) fn whole(arrival: Arrival, seed: u64) -> Self {
        Self::new(arrival, Stop::default(), Duration::ZERO, seed, (0, 1))
    }

    /// When sending ends, however much is left.
    pub(crate) fn end(&self) -> Option<Duration> {
        self.end
    }

    /// The next request of this thread; `now` matters to a closed loop only.
    pub(crate) fn next(&mut self, now: Duration) -> Option<Planned> {
        loop {
            let planned = self.next_of_all(now)?;
            if planned.number % self.threads == self.thread {
                return Some(planned);
            }
        }
    }

    fn next_of_all(&mut self, now: Duration) -> Option<Planned> {
        let number = self.next;
        let (at, call) = self.place(number)?;
        let when = at.unwrap_or(now);
        if self.end.is_some_and(|end| when >= end) {
            return None;
        }
        let counts = when >= self.warm_up;
        if counts {
            if self.counted == self.requests_max {
                return None;
            }
            self.counted += 1;
        }
        self.next += 1;
        Some(Planned {
            number,
            at,
            counts,
            call,
        })
    }

    /// Time and size of request `number`; `None` past the end of a trace.
    fn place(&mut self, number: u64) -> Option<(Option<Duration>, Option<TracedCall>)> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a request number is far below 2^53"
        )]
        let at = match &self.arrival {
            Arrival::Closed => return Some((None, None)),
            Arrival::Constant { per_second } => number as f64 / per_second,
            Arrival::Poisson { per_second } => {
                let at = self.clock;
                // 1 - u lies in (0, 1]: the logarithm of zero is never taken.
                self.clock -= (1.0 - chance::unit(self.seed, number)).ln() / per_second;
                at
            }
            Arrival::Wave {
                per_second,
                swing,
                period,
            } => {
                let (mean, swing, period) = (*per_second, *swing, period.as_secs_f64());
                self.next_of_wave(mean, swing, period)
            }
            Arrival::Trace { trace, speed } => {
                let call = *trace.calls.get(usize::try_from(number).ok()?)?;
                let at = self.warm_up + call.at.div_f64(*speed);
                return Some((Some(at), Some(call)));
            }
        };
        Some((Some(Duration::from_secs_f64(at)), None))
    }

    /// Thinning (Lewis and Shedler, 1979): arrivals at the highest rate, each kept with the share that the rate has of it then.
    fn next_of_wave(&mut self, mean: f64, swing: f64, period: f64) -> f64 {
        let highest = mean * (1.0 + swing);
        loop {
            let gap = chance::unit(self.seed, self.drawn);
            let kept = chance::unit(!self.seed, self.drawn);
            self.drawn += 1;
            self.clock -= (1.0 - gap).ln() / highest;
            let phase = std::f64::consts::TAU * self.clock / period;
            if kept * highest <= mean * (1.0 + swing * phase.sin()) {
                return self.clock;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::TraceName;

    fn all(
        arrival: &Arrival,
        stop: Stop,
        warm_up: Duration,
        seed: u64,
        threads: u64,
    ) -> Vec<Planned> {
        let mut all: Vec<Planned> = (0..threads)
            .flat_map(|thread| {
                let mut schedule =
                    Schedule::new(arrival.clone(), stop, warm_up, seed, (thread, threads));
                std::iter::from_fn(move || schedule.next(Duration::ZERO))
            })
            .collect();
        all.sort_by_key(|planned| planned.number);
        all
    }

    const TWO_S: Stop = Stop {
        after: Some(Duration::from_secs(2)),
        requests: None,
    };

    #[test]
    fn constant_arrivals_are_evenly_spaced_and_end() {
        let arrival = Arrival::Constant { per_second: 50.0 };
        let plan = all(&arrival, TWO_S, Duration::from_secs(1), 1, 1);
        assert_eq!(plan.len(), 150);
        assert_eq!(plan[7].at, Some(Duration::from_millis(140)));
        assert_eq!(plan.iter().filter(|planned| planned.counts).count(), 100);
    }

    #[test]
    fn poisson_arrivals_have_their_rate_their_spread_and_their_seed() {
        let arrival = Arrival::Poisson { per_second: 1000.0 };
        let stop = Stop {
            after: Some(Duration::from_secs(30)),
            requests: None,
        };
        let plan = all(&arrival, stop, Duration::ZERO, 4, 1);
        assert!((29_300..30_700).contains(&plan.len()), "{}", plan.len());
        let times: Vec<f64> = plan
            .iter()
            .map(|planned| planned.at.unwrap().as_secs_f64())
            .collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Exponential gaps: the standard deviation is the mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.03);
        assert_eq!(plan, all(&arrival, stop, Duration::ZERO, 4, 1));
        assert_ne!(plan, all(&arrival, stop, Duration::ZERO, 5, 1));
    }

    #[test]
    fn a_wave_swings_around_its_mean() {
        let period = Duration::from_secs(10);
        let arrival = Arrival::Wave {
            per_second: 500.0,
            swing: 0.8,
            period,
        };
        let stop = Stop {
            after: Some(period * 4),
            requests: None,
        };
        let plan = all(&arrival, stop, Duration::ZERO, 2, 1);
        assert!((19_400..20_600).contains(&plan.len()), "{}", plan.len());
        // The first half of each period holds the crest: 1/2 + swing/π of all.
        let in_crest = |planned: &&Planned| planned.at.unwrap().as_secs_f64() % 10.0 < 5.0;
        let crest = plan.iter().filter(in_crest).count() as f64 / plan.len() as f64;
        assert!(
            (crest - (0.5 + 0.8 / std::f64::consts::PI)).abs() < 0.02,
            "{crest}"
        );
        assert_eq!(plan, all(&arrival, stop, Duration::ZERO, 2, 1));
    }

    #[test]
    fn threads_share_one_schedule() {
        for arrival in [
            Arrival::Poisson { per_second: 100.0 },
            Arrival::Trace {
                trace: Arc::new(Trace::generated(TraceName::AzureConv, 40, 1)),
                speed: 10.0,
            },
        ] {
            let one = all(&arrival, TWO_S, Duration::from_millis(500), 9, 1);
            assert_eq!(one, all(&arrival, TWO_S, Duration::from_millis(500), 9, 3));
            assert!(!one.is_empty());
        }
    }

    #[test]
    fn a_number_of_requests_leaves_the_warm_up_out() {
        let stop = Stop {
            after: None,
            requests: Some(10),
        };
        let arrival = Arrival::Constant { per_second: 10.0 };
        let plan = all(&arrival, stop, Duration::from_secs(1), 1, 2);
        assert_eq!(plan.iter().filter(|planned| planned.counts).count(), 10);
        assert_eq!(plan.len(), 20);
    }

    #[test]
    fn a_closed_loop_follows_the_clock() {
        let mut schedule = Schedule::new(Arrival::Closed, TWO_S, Duration::from_secs(1), 1, (0, 1));
        let early = schedule.next(Duration::from_millis(999)).unwrap();
        assert_eq!((early.at, early.counts), (None, false));
        assert!(schedule.next(Duration::from_millis(2_999)).unwrap().counts);
        assert_eq!(schedule.next(Duration::from_secs(3)), None);
    }
}
