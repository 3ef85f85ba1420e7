//! `weir bench`.

use std::io::Write as _;
use std::time::Duration;

use anyhow::ensure;
use weir_loadtest::bench::{self, Arrival, BenchOptions, Stop, Workload};
use weir_loadtest::dist::TokenCount;

use crate::cli::BenchArgs;
use crate::output::{self, Reported};

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let seconds = Duration::from_secs(args.seconds);
    let report = bench::run(&BenchOptions {
        url: format!(
            "{}/v1",
            args.url.trim_end_matches('/').trim_end_matches("/v1")
        ),
        key: Some(args.key.clone()),
        workload: Workload {
            model: args.model.clone(),
            input_tokens: TokenCount::try_from(args.input_tokens.clone())?,
            output_tokens: TokenCount::try_from(args.output_tokens.clone())?,
            streamed: args.stream,
        },
        arrival: Arrival::Constant {
            per_second: args.rate,
        },
        stop: Stop {
            after: Some(seconds),
            requests: None,
        },
        warm_up: seconds / 10,
        connections: args.connections,
        watch: args.pid.into_iter().collect(),
        ..BenchOptions::default()
    })?;
    if args.json {
        output::print(&report)?;
    } else {
        writeln!(output::stdout(), "{report}")?;
    }
    ensure!(report.failed == 0, Reported);
    Ok(())
}
