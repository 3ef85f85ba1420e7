//! `weir sql`: runs a query and prints its result.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use weir_store::{Cells, Neutraliser, RawAnswer, Store, StoreError, StoreUser, message_of};

use crate::cli::{Cli, SqlArgs};
use crate::config::{Config, StoreKind};
use crate::context::{runtime, settings};

/// ClickHouse's error codes for an unknown table and an unknown database.
const UNKNOWN_TABLE: [u32; 2] = [60, 81];
const READONLY: u32 = 164;
const AUTHENTICATION_FAILED: u32 = 516;

pub(crate) fn run(cli: &Cli, args: &SqlArgs) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let statement = statement(&args.statement)?;
    let format = format(args);
    // TSV and JSON are for programs, CSV is for people.
    let cells = Cells::of(format).filter(|cells| *cells == Cells::Csv);
    let user = match args.write {
        true => StoreUser::Weir,
        false => StoreUser::Operator,
    };
    print(cli, &config, user, cells, |store| {
        store.raw_query_of_user(&statement, format)
    })
}

/// Runs a statement and prints the result as it arrives; formulas in these cells are neutralised.
pub(crate) fn print(
    cli: &Cli,
    config: &Config,
    user: StoreUser,
    cells: Option<Cells>,
    ask: impl FnOnce(&Store) -> Result<RawAnswer, StoreError>,
) -> anyhow::Result<()> {
    let store = config.store.connect(&cli.data_dir, user)?;
    let relayed = runtime()?.block_on(async { relay(ask(&store)?, cells).await });
    relayed.map_err(|error| match error.downcast_ref() {
        Some(error) => explain(error, config),
        None => error.context("write the result"),
    })
}

/// Runs a statement and returns all of its result.
pub(crate) fn collect(
    cli: &Cli,
    config: &Config,
    user: StoreUser,
    ask: impl FnOnce(&Store) -> Result<RawAnswer, StoreError>,
) -> anyhow::Result<Vec<u8>> {
    let store = config.store.connect(&cli.data_dir, user)?;
    let collected = runtime()?.block_on(async { ask(&store)?.collect().await });
    let collected = collected.map_err(|error| explain(&error, config))?;
    Ok(collected.into())
}

fn statement(argument: &str) -> anyhow::Result<String> {
    let mut text = argument.to_owned();
    if argument == "-" {
        text.clear();
        io::stdin()
            .read_to_string(&mut text)
            .context("read the statement from stdin")?;
    }
    let statement = text.trim().trim_end_matches(';').trim_end();
    if statement.is_empty() {
        bail!("the statement is empty; for example: weir sql 'SELECT count() FROM weir.requests'");
    }
    Ok(statement.to_owned())
}

fn format(args: &SqlArgs) -> &str {
    match &args.format {
        Some(format) => format,
        None if args.json => "JSONEachRow",
        None if io::stdout().is_terminal() => "PrettyCompactMonoBlock",
        None => "TSV",
    }
}

async fn relay(mut answer: RawAnswer, cells: Option<Cells>) -> anyhow::Result<()> {
    let mut out = crate::output::stdout();
    let mut neutraliser = cells.map(Neutraliser::new);
    while let Some(piece) = answer.next().await? {
        match &mut neutraliser {
            Some(neutraliser) => out.write_all(&neutraliser.push(&piece))?,
            None => out.write_all(&piece)?,
        }
    }
    out.write_all(&neutraliser.map(Neutraliser::finish).unwrap_or_default())?;
    Ok(out.flush()?)
}

/// The store, which must answer: a command that reads it does not begin otherwise.
pub(crate) fn reach(data_dir: &Path, config: &Config) -> anyhow::Result<Store> {
    let store = config.store.connect(data_dir, StoreUser::Weir)?;
    let is_there = runtime()?.block_on(store.ping());
    is_there.map_err(|error| explain(&error, config))?;
    // The connection that the other has open belongs to a runtime that is no more.
    config.store.connect(data_dir, StoreUser::Weir)
}

/// Explains an error, with a fix if there is one.
fn explain(error: &StoreError, config: &Config) -> anyhow::Error {
    let message = message_of(&error.message);
    let url = config.store.url();
    match (error.code, config.store.kind) {
        (Some(READONLY), StoreKind::Embedded) => {
            anyhow!("{message}; `weir sql --write` may change rows, tables and settings")
        }
        (Some(AUTHENTICATION_FAILED), StoreKind::Embedded) => anyhow!(
            "the store at {url} has another password than this data directory (--data-dir) says; \
             the store takes a changed one at its next start"
        ),
        (Some(code), _) if UNKNOWN_TABLE.contains(&code) => anyhow!(
            "{message}; the ingestor creates Weir's tables (weir.requests, weir.attempts, \
             weir.control_changes, weir.streams) when it first reaches the store"
        ),
        (Some(_), _) => anyhow!("{message}"),
        (None, StoreKind::Embedded) => anyhow!(
            "the store does not answer at {url} ([store] listen): {message}; `weir up` starts it, \
             `weir doctor` finds what is wrong"
        ),
        (None, StoreKind::Clickhouse) => {
            anyhow!("the store does not answer at {url} ([store] url): {message}")
        }
    }
}

/// A text as an SQL literal.
pub(crate) fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_quoted_text_stays_a_literal() {
        assert_eq!(quoted(r"o'hara\"), r"'o\'hara\\'");
    }
}
