//! Prints the tables of `trace/fitted/columns.rs` from the recorded traces.
//!
//! Run it where the traces are found (see `weir_loadtest::trace`):
//! `cargo run -p weir-loadtest --example fit_traces > loadtest/src/trace/fitted/columns.rs`

use std::io::Write as _;

use weir_loadtest::trace::fitted::Fitted;
use weir_loadtest::trace::{Trace, TraceName};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "//! Quantiles of the public traces. Printed by `examples/fit_traces.rs`; not written by hand.\n"
    )?;
    writeln!(out, "use super::{{Fitted, Shape}};")?;
    for name in TraceName::ALL {
        let path = name
            .find()
            .ok_or_else(|| format!("the recorded trace {name} is not here"))?;
        let calls = Trace::read(&path)?.calls;
        let constant = name.to_string().replace('-', "_").to_uppercase();
        writeln!(
            out,
            "\npub(super) static {constant}: FittedShape = FittedShape {{"
        )?;
        let gaps: Vec<f64> = calls
            .windows(2)
            .map(|pair| (pair[1].at - pair[0].at).as_secs_f64() * 1000.0)
            .collect();
        let input: Vec<f64> = calls
            .iter()
            .map(|call| f64::from(call.input_tokens))
            .collect();
        let output: Vec<f64> = calls
            .iter()
            .map(|call| f64::from(call.output_tokens))
            .collect();
        for (field, values) in [
            ("input_tokens", &input),
            ("output_tokens", &output),
            ("gap_ms", &gaps),
        ] {
            let fitted = Fitted::to(values).ok_or("a trace without calls")?;
            // Three digits after the point are microseconds of a gap.
            let numbers: Vec<String> = fitted
                .quantiles
                .iter()
                .map(|value| format!("{:?}", (value * 1000.0).round() / 1000.0))
                .collect();
            writeln!(out, "    {field}: Fitted {{ quantiles: [")?;
            for line in numbers.chunks(12) {
                writeln!(out, "        {},", line.join(", "))?;
            }
            writeln!(out, "    ] }},")?;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of calls")]
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        writeln!(
            out,
            "    gap_ms_mean: {:?},\n}};",
            (mean * 1000.0).round() / 1000.0
        )?;
    }
    Ok(())
}
