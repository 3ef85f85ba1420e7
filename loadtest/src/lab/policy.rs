//! Who decides: Weir's routing, or one of the ways that others do it.

use crate::chance;

/// A way to choose a provider for each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabPolicy {
    /// [`weir_routing`], with its retries and fallbacks.
    Weir,
    RoundRobin,
    Random,
    /// Fewest calls in flight.
    LeastInFlight,
    /// Lowest moving average of the time to an answer, whatever the answer says.
    ArgminLatency,
}

impl LabPolicy {
    pub const OTHERS: [Self; 4] = [
        Self::RoundRobin,
        Self::Random,
        Self::LeastInFlight,
        Self::ArgminLatency,
    ];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Weir => "weir",
            Self::RoundRobin => "round robin",
            Self::Random => "random",
            Self::LeastInFlight => "least in-flight",
            Self::ArgminLatency => "argmin latency",
        }
    }
}

/// What the simple policies remember. They never retry.
#[derive(Debug)]
pub(crate) struct Simple {
    seed: u64,
    in_flight: Vec<u32>,
    ewma_us: Vec<f64>,
}

impl Simple {
    pub(crate) fn new(upstreams: usize, seed: u64) -> Self {
        Self {
            seed,
            in_flight: vec![0; upstreams],
            ewma_us: vec![0.0; upstreams],
        }
    }

    pub(crate) fn choose(&self, policy: LabPolicy, number: usize) -> usize {
        let n = self.in_flight.len();
        let number = number as u64;
        let any = || below(chance::mix(self.seed, number), n);
        match policy {
            LabPolicy::RoundRobin => below(number, n),
            LabPolicy::Random | LabPolicy::Weir => any(),
            LabPolicy::LeastInFlight => {
                let least = self.in_flight.iter().min().copied().unwrap_or(0);
                let first = any();
                (0..n)
                    .map(|i| (first + i) % n)
                    .find(|i| self.in_flight[*i] == least)
                    .unwrap_or(first)
            }
            LabPolicy::ArgminLatency => (0..n)
                .min_by(|a, b| self.ewma_us[*a].total_cmp(&self.ewma_us[*b]))
                .unwrap_or_default(),
        }
    }

    pub(crate) fn started(&mut self, upstream: usize) {
        self.in_flight[upstream] += 1;
    }

    pub(crate) fn ended(&mut self, upstream: usize) {
        self.in_flight[upstream] -= 1;
    }

    pub(crate) fn observed(&mut self, upstream: usize, us: u64) {
        let ewma = &mut self.ewma_us[upstream];
        let seen = us as f64;
        *ewma = if *ewma == 0.0 {
            seen
        } else {
            0.9 * *ewma + 0.1 * seen
        };
    }
}

fn below(number: u64, n: usize) -> usize {
    usize::try_from(number % n.max(1) as u64).unwrap_or_default()
}
