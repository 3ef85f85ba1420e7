//! `weir mock-provider`.

use std::io::Write as _;

use anyhow::{Context as _, anyhow};
use weir_eventlog::Parts;
use weir_loadtest::dist::Delay;
use weir_loadtest::{FaultKind, FaultRule, MockOptions, MockProvider};

use crate::cli::MockProviderArgs;
use crate::parts::Signals;

pub(crate) fn run(args: &MockProviderArgs) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let faults = args
        .faults
        .iter()
        .map(|text| fault(text))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let mock = MockProvider::start(MockOptions {
        listen: args.listen,
        name: args.name.clone(),
        workers: args.workers,
        output_tokens_max: args.output_tokens_max,
        ttft: delay("--ttft", &args.ttft)?,
        inter_token: delay("--inter-token", &args.inter_token)?,
        faults,
        strict: args.strict,
        vendor: args.vendor.clone(),
        ..MockOptions::default()
    })
    .context("start the mock provider (--listen)")?;
    writeln!(
        crate::output::stdout(),
        "{} answers at {} (dialects openai, openai-responses, anthropic) and {} (gemini)",
        mock.name(),
        mock.base_url(),
        mock.gemini_base_url()
    )?;
    let ended = signals.wait(&Parts::default(), || {});
    mock.shutdown();
    ended
}

/// `server_error:10`: every tenth call.
fn fault(text: &str) -> anyhow::Result<FaultRule> {
    let (kind, every) = text.split_once(':').unwrap_or((text, "1"));
    let kind: FaultKind = kind
        .parse()
        .map_err(|error| anyhow!("--fault {text}: {error}"))?;
    let every = every
        .parse()
        .map_err(|_| anyhow!("--fault {text}: {every} is not a number"))?;
    Ok(FaultRule::every(kind, every))
}

fn delay(flag: &str, text: &str) -> anyhow::Result<Delay> {
    Delay::try_from(text.to_owned()).map_err(|error| anyhow!("{flag} {text}: {error}"))
}
