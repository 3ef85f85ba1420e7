//! Runs every client against every provider and prints a table: what `tests/clients/run-all.sh` runs
//! once everything is installed. `all-clients WORD` runs the clients whose names hold the word;
//! `--without-llamacpp` before it leaves out that server.
//!
//! The providers are mock providers in four dialects, and two servers that others wrote: LiteLLM's
//! proxy, before a mock provider of its own, and llama.cpp's server with a model made on the spot.

use std::env;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use weir_loadtest::mock::MockHandle;
use weir_tests::clients::{Agent, DIALECTS, Gateway, Provider, Script, Server, mock};

const LITELLM: &str = "litellm";
const LLAMACPP: &str = "llamacpp";

/// What became of one client at each provider; `None` where it is not meant to run.
struct Row {
    client: String,
    cells: Vec<Option<Result<()>>>,
}

fn main() -> Result<ExitCode> {
    let mut words = env::args().skip(1).peekable();
    let has_llamacpp = words.next_if(|word| word == "--without-llamacpp").is_none();
    let wanted = words.next().unwrap_or_default();
    let dir = tempfile::tempdir()?;
    let mocks = (0..=DIALECTS.len())
        .map(|_| mock())
        .collect::<Result<Vec<_>>>()?;
    let behind = mocks.last().context("no mock provider")?;
    let proxy = Server::litellm(dir.path(), behind).context("start LiteLLM's proxy")?;
    let llamacpp = has_llamacpp
        .then(|| Server::llamacpp(dir.path()).context("start llama.cpp's server"))
        .transpose()?;
    let mut providers: Vec<_> = DIALECTS
        .into_iter()
        .zip(&mocks)
        .map(|(dialect, mock)| Provider::mock(dialect, mock))
        .collect();
    let servers = [(LITELLM, Some(&proxy)), (LLAMACPP, llamacpp.as_ref())];
    for (name, server) in servers {
        let Some(server) = server else { continue };
        providers.push(Provider {
            name,
            dialect: "openai-compatible",
            base_url: server.base_url.clone(),
        });
    }
    let gateway = Gateway::start(&providers)?;
    let rows = rows(&gateway, &providers, &mocks, &wanted)?;
    print(&providers, &rows)?;
    gateway.stop()?;
    let failed = rows
        .iter()
        .flat_map(|row| &row.cells)
        .any(|cell| matches!(cell, Some(Err(_))));
    Ok(ExitCode::from(u8::from(failed)))
}

fn rows(
    gateway: &Gateway,
    providers: &[Provider],
    mocks: &[MockHandle],
    wanted: &str,
) -> Result<Vec<Row>> {
    let wanted = wanted.to_lowercase();
    let is_wanted = |client: &str| client.to_lowercase().contains(&wanted);
    let mut rows = Vec::new();
    let scripts = Script::quick().into_iter().chain(Script::slow());
    for script in scripts.filter(|script| is_wanted(&script.client)) {
        rows.push(row(providers, &script.client, |_, provider| {
            is_meant_for(&script.client, provider).then(|| script.check(gateway, &[provider]))
        })?);
    }
    let any_model = Script::any_model();
    if is_wanted(&any_model.client) {
        rows.push(row(providers, &any_model.client, |_, provider| {
            (provider == LLAMACPP).then(|| any_model.check(gateway, &[provider]))
        })?);
    }
    for agent in Agent::all() {
        if is_wanted(&agent.client) {
            rows.push(row(providers, &agent.client, |at, provider| {
                let mock = mocks.get(at)?;
                Some(agent.check(gateway, provider, mock))
            })?);
        }
    }
    ensure!(!rows.is_empty(), "no client's name holds \"{wanted}\"");
    Ok(rows)
}

/// LiteLLM's proxy adds a field of its own to answers. When its SDK brings an answer back, the proxy hands the
/// field on to the provider, which refuses it; without Weir, too.
fn is_meant_for(client: &str, provider: &str) -> bool {
    provider != LLAMACPP && !(provider == LITELLM && client.starts_with(LITELLM))
}

fn row(
    providers: &[Provider],
    client: &str,
    mut check: impl FnMut(usize, &str) -> Option<Result<()>>,
) -> Result<Row> {
    write!(std::io::stderr(), "{client}:")?;
    let mut cells = Vec::new();
    for (at, provider) in providers.iter().enumerate() {
        let cell = check(at, provider.name);
        if cell.is_some() {
            write!(std::io::stderr(), " {} {}", provider.name, said(&cell))?;
        }
        cells.push(cell);
    }
    writeln!(std::io::stderr())?;
    Ok(Row {
        client: client.to_owned(),
        cells,
    })
}

fn said(cell: &Option<Result<()>>) -> &'static str {
    match cell {
        Some(Ok(())) => "passed",
        Some(Err(_)) => "FAILED",
        None => "-",
    }
}

fn print(providers: &[Provider], rows: &[Row]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let width = rows.iter().map(|row| row.client.len()).max().unwrap_or(0);
    write!(out, "\n{:width$}", "client")?;
    for provider in providers {
        write!(out, "  {:9}", provider.name)?;
    }
    writeln!(out)?;
    for row in rows {
        write!(out, "{:width$}", row.client)?;
        for cell in &row.cells {
            write!(out, "  {:9}", said(cell))?;
        }
        writeln!(out)?;
    }
    for row in rows {
        for (provider, cell) in providers.iter().zip(&row.cells) {
            if let Some(Err(error)) = cell {
                writeln!(out, "\n{} at {}: {error:#}", row.client, provider.name)?;
            }
        }
    }
    Ok(())
}
