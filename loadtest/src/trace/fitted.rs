//! Distributions fitted to the public traces, and traffic drawn from them.
//!
//! **Model.** Input length, output length and the gap to the next call are independent draws, each from an inverse cumulative
//! distribution through 59 quantiles ([`FRACTIONS`]), exponential between one and the next. Independence is measured, not assumed:
//! rank correlation of input and output length is 0.07 (azure-conv), -0.02 (azure-code), 0.07 (mooncake); of neighbouring gaps
//! 0.06, -0.00, -0.11. What the model leaves out: repeated prefixes, and the drift of the rate within the hour (azure-conv runs from 190
//! to 510 calls a minute; azure-code falls silent for minutes).
//!
//! **How well it matches.** Distance of Kolmogorov and Smirnov between the trace and 15 000 draws, and the drawn mean over the trace's; the
//! test prints them and holds the distances below 0.03:
//!
//! | | input tokens | output tokens | gaps |
//! | --- | --- | --- | --- |
//! | azure-conv (19 366 calls) | 0.017, 1.00 | 0.017, 1.00 | 0.004, 0.99 |
//! | azure-code (8 819 calls) | 0.013, 0.99 | 0.008, 0.99 | 0.027, 0.90 (a few gaps of minutes hold most of it) |
//! | mooncake (12 031 calls) | 0.008, 0.99 | 0.009, 1.00 | 0.080, 0.99 (see below) |
//!
//! Gaps are scaled so that the mean rate is the trace's own: by less than 1.1% for azure, by 9% for mooncake, whose clock ticks in
//! 3 s (one gap in ten is 3 s, the others are 0).
//!
//! The tables in `columns.rs` are printed by `cargo run -p weir-loadtest --example fit_traces`.

#[rustfmt::skip]
mod columns;

use std::time::Duration;

use rand::Rng;

use super::{TraceName, TracedCall};
use crate::chance;
use crate::dist::rounded;

/// Number of quantiles.
pub const KNOTS: usize = 59;

/// The fractions whose quantiles are kept: every fiftieth, and more of them at both ends.
pub const FRACTIONS: [f64; KNOTS] = [
    0.0, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12, 0.14, 0.16, 0.18, 0.2, 0.22, 0.24, 0.26,
    0.28, 0.3, 0.32, 0.34, 0.36, 0.38, 0.4, 0.42, 0.44, 0.46, 0.48, 0.5, 0.52, 0.54, 0.56, 0.58,
    0.6, 0.62, 0.64, 0.66, 0.68, 0.7, 0.72, 0.74, 0.76, 0.78, 0.8, 0.82, 0.84, 0.86, 0.88, 0.9,
    0.92, 0.94, 0.96, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1.0,
];

/// A fitted distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// The value at each of [`FRACTIONS`].
    pub quantiles: [f64; KNOTS],
}

impl Fitted {
    /// Takes the quantiles of a sample; `None` for an empty one.
    #[must_use]
    pub fn to(sample: &[f64]) -> Option<Self> {
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let quantiles = FRACTIONS.map(|fraction| {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "an index into a sample in memory, between 0 and its last"
            )]
            let (below, part) = {
                let position = fraction * last as f64;
                (position as usize, position.fract())
            };
            let above = (below + 1).min(last);
            sorted[below] + (sorted[above] - sorted[below]) * part
        });
        Some(Self { quantiles })
    }

    /// The value below which the share `fraction` lies: between two quantiles the logarithm is linear, as in a long tail it is.
    #[must_use]
    pub fn quantile(&self, fraction: f64) -> f64 {
        let upper = FRACTIONS
            .partition_point(|knot| *knot < fraction)
            .clamp(1, KNOTS - 1);
        let (from, to) = (FRACTIONS[upper - 1], FRACTIONS[upper]);
        let (low, high) = (self.quantiles[upper - 1], self.quantiles[upper]);
        let part = ((fraction - from) / (to - from)).clamp(0.0, 1.0);
        // From zero there is no logarithm; between equals there is nothing to interpolate.
        if low > 0.0 && high > low {
            low * (high / low).powf(part)
        } else {
            low + (high - low) * part
        }
    }

    #[must_use]
    pub fn sample(&self, rng: &mut impl Rng) -> f64 {
        self.quantile(rng.random())
    }

    /// The mean of what is drawn.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let part = |knot: usize| {
            let (low, high) = (self.quantiles[knot - 1], self.quantiles[knot]);
            let ratio = high / low;
            // The mean of an exponential curve between its ends; the series near 1 would lose all digits.
            let mean = if low > 0.0 && ratio > 1.0 + 1e-6 {
                (high - low) / ratio.ln()
            } else {
                f64::midpoint(low, high)
            };
            (FRACTIONS[knot] - FRACTIONS[knot - 1]) * mean
        };
        (1..KNOTS).map(part).sum()
    }
}

/// What was fitted to one trace.
#[derive(Debug)]
pub struct FittedShape {
    pub input_tokens: Fitted,
    pub output_tokens: Fitted,
    pub gap_ms: Fitted,
    /// The trace's own mean gap.
    pub gap_ms_mean: f64,
}

#[must_use]
pub fn shape(name: TraceName) -> &'static FittedShape {
    match name {
        TraceName::AzureConv => &columns::AZURE_CONV,
        TraceName::AzureCode => &columns::AZURE_CODE,
        TraceName::Mooncake => &columns::MOONCAKE,
    }
}

/// Calls without end, drawn from a fit.
pub fn calls(name: TraceName, seed: u64) -> impl Iterator<Item = TracedCall> {
    let shape = shape(name);
    let scale = shape.gap_ms_mean / shape.gap_ms.mean();
    let mut at = Duration::ZERO;
    (0..).map(move |number| {
        let mut rng = chance::rng(seed, number);
        let call = TracedCall {
            at,
            input_tokens: rounded(shape.input_tokens.sample(&mut rng)),
            output_tokens: rounded(shape.output_tokens.sample(&mut rng)),
        };
        at += Duration::from_secs_f64(scale * shape.gap_ms.sample(&mut rng) / 1000.0);
        call
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Trace;

    /// The largest distance between two cumulative distributions.
    fn kolmogorov_smirnov(mut a: Vec<f64>, mut b: Vec<f64>) -> f64 {
        a.sort_by(f64::total_cmp);
        b.sort_by(f64::total_cmp);
        let below = |sorted: &[f64], x: f64| {
            sorted.partition_point(|value| *value <= x) as f64 / sorted.len() as f64
        };
        a.iter()
            .chain(&b)
            .map(|x| (below(&a, *x) - below(&b, *x)).abs())
            .fold(0.0, f64::max)
    }

    fn columns(calls: &[TracedCall]) -> [Vec<f64>; 3] {
        let gap = |pair: &[TracedCall]| (pair[1].at - pair[0].at).as_secs_f64() * 1000.0;
        [
            calls
                .iter()
                .map(|call| f64::from(call.input_tokens))
                .collect(),
            calls
                .iter()
                .map(|call| f64::from(call.output_tokens))
                .collect(),
            calls.windows(2).map(gap).collect(),
        ]
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    #[test]
    fn the_fit_matches_the_recorded_traces() {
        for name in TraceName::ALL {
            let generated = columns(&Trace::generated(name, 15_000, 3).calls);
            let shape = shape(name);
            // Holds on every machine: what is drawn has the quantiles that the table says.
            for (drawn, fitted) in generated
                .iter()
                .zip([&shape.input_tokens, &shape.output_tokens])
            {
                for fraction in [0.1, 0.25, 0.5, 0.75, 0.9] {
                    let share = drawn
                        .iter()
                        .filter(|x| **x <= fitted.quantile(fraction).round())
                        .count();
                    let share = share as f64 / drawn.len() as f64;
                    // Ties in the table (many calls of one size) put more below a quantile, never less.
                    assert!(share > fraction - 0.02, "{name} at {fraction}: {share}");
                }
            }
            let Some(path) = name.find() else {
                eprintln!(
                    "{name}: the recorded trace is not here; compared with its fitted quantiles only"
                );
                continue;
            };
            let recorded = columns(&Trace::read(&path).unwrap().calls);
            for (what, (recorded, generated)) in ["input", "output", "gap"]
                .iter()
                .zip(recorded.iter().zip(&generated))
            {
                let (m, n) = (mean(recorded), mean(generated));
                // The long gaps of azure-code are few: their mean wanders from sample to sample.
                let tolerance = if *what == "gap" { 0.25 } else { 0.03 };
                assert!(
                    (n / m - 1.0).abs() < tolerance,
                    "{name} {what}: mean {m} drawn {n}"
                );
                let distance = kolmogorov_smirnov(recorded.clone(), generated.clone());
                eprintln!("{name} {what}: mean {m:.1} drawn {n:.1}, distance {distance:.3}");
                // Mooncake's clock ticks in 3 s: scaled to the rate, its one step moves, and the distance says nothing.
                let stepped = name == TraceName::Mooncake && *what == "gap";
                assert!(
                    distance < 0.03 || stepped,
                    "{name} {what}: distance {distance}"
                );
            }
        }
    }

    #[test]
    fn the_rate_is_the_traces_own() {
        for name in TraceName::ALL {
            let shape = shape(name);
            let calls = Trace::generated(name, 40_000, 5).calls;
            let span_ms = calls.last().unwrap().at.as_secs_f64() * 1000.0;
            let gap = span_ms / calls.len() as f64;
            assert!(
                (gap / shape.gap_ms_mean - 1.0).abs() < 0.15,
                "{name}: mean gap {gap} ms"
            );
        }
    }

    #[test]
    fn a_fit_to_a_sample_has_its_quantiles_and_mean() {
        let sample: Vec<f64> = (0..=1000).map(f64::from).collect();
        let fitted = Fitted::to(&sample).unwrap();
        assert!((fitted.quantile(0.5) / 500.0 - 1.0).abs() < 1e-9);
        let ends = (fitted.quantile(0.0), fitted.quantile(1.0));
        assert!(
            ends.0.abs() < 1e-9 && (ends.1 / 1000.0 - 1.0).abs() < 1e-9,
            "{ends:?}"
        );
        assert!((fitted.quantile(0.777) / 777.0 - 1.0).abs() < 1e-3);
        assert!((fitted.mean() / 500.0 - 1.0).abs() < 1e-3);
        assert_eq!(Fitted::to(&[]), None);
    }

    #[test]
    fn the_same_seed_gives_the_same_calls() {
        let calls = |seed| Trace::generated(TraceName::AzureConv, 50, seed).calls;
        assert_eq!(calls(1), calls(1));
        assert_ne!(calls(1), calls(2));
    }
}
