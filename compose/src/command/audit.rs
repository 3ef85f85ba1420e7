//! `weir audit` and `weir rollups`: the proof that nothing stored is missing or changed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use weir_ingestor::audit::{
    Checkpointer, EXPORT_FILE, Period, Report, SigningKey, check_export, verify,
};
use weir_ingestor::rollups;

use crate::cli::{AuditCommand, Cli, RollupsCommand};
use crate::command::settings;
use crate::parts::{runtime, unix_ms};

/// Where the signing key and the exported checkpoints are.
pub(crate) fn audit_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("audit")
}

pub(crate) fn run(cli: &Cli, command: &AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Verify {
            since,
            copy,
            signer,
            json,
        } => {
            let mut copies = copy.clone();
            let own = audit_dir(&cli.data_dir).join(EXPORT_FILE);
            copies.extend(own.exists().then_some(own));
            let period = Period {
                since_us: since_us(cli, since.as_deref())?,
                copies,
                signers: signer.clone(),
            };
            prove(cli, &period, *json)
        }
        AuditCommand::Checkpoint => checkpoint(cli),
        AuditCommand::Key => {
            let key = SigningKey::load_or_create(&audit_dir(&cli.data_dir))?;
            writeln!(std::io::stdout(), "{}", key.public())?;
            Ok(ExitCode::SUCCESS)
        }
        AuditCommand::CheckExport { file } => offline(cli, file.as_deref()),
    }
}

pub(crate) fn rollups(cli: &Cli, command: &RollupsCommand) -> anyhow::Result<ExitCode> {
    let store = settings(cli)?.store.connect()?;
    match command {
        RollupsCommand::Rebuild => {
            runtime()?
                .block_on(rollups::rebuild(&store))
                .context("rebuild the rollups")?;
            eprintln!("the rollups are made anew from weir.requests");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// When the period begins, in microseconds since 1970.
fn since_us(cli: &Cli, since: Option<&str>) -> anyhow::Result<i64> {
    let days = match since {
        Some(since) => days(since)?,
        None => u64::from(settings(cli)?.store.retention_days),
    };
    Ok(match days {
        // Kept for ever: from the beginning.
        0 => 0,
        days => {
            let before_ms = days.saturating_mul(86_400_000);
            i64::try_from(unix_ms().saturating_sub(before_ms).saturating_mul(1000))?
        }
    })
}

/// Exit code 0 if the period is proven, 1 if not.
fn prove(cli: &Cli, period: &Period, json: bool) -> anyhow::Result<ExitCode> {
    let store = settings(cli)?.store.connect()?;
    let report = runtime()?
        .block_on(verify(&store, period))
        .context("verify what is stored")?;
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{}", serde_json::to_string(&report)?)?;
    } else {
        write_report(&mut out, &report)?;
    }
    Ok(if report.proven {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// `90d`, or a number of days.
fn days(since: &str) -> anyhow::Result<u64> {
    let number = since.strip_suffix('d').unwrap_or(since);
    match number.parse() {
        Ok(days) if days > 0 => Ok(days),
        _ => bail!("--since {since}: write a number of days, like 90d"),
    }
}

fn write_report(out: &mut impl std::io::Write, report: &Report) -> std::io::Result<()> {
    let Report {
        proven,
        streams,
        events,
        unsealed_events,
        signers,
        rollup_rows,
        findings,
        further_findings,
    } = report;
    writeln!(out, "streams      {streams}")?;
    writeln!(
        out,
        "events       {events}, {unsealed_events} of them not sealed yet"
    )?;
    for signer in signers {
        writeln!(
            out,
            "checkpoints  {} of signer {}, the last is {}",
            signer.checkpoints, signer.signer, signer.last_hash
        )?;
    }
    writeln!(out, "rollup rows  {rollup_rows}")?;
    for finding in findings {
        writeln!(out, "{:<12} {}", finding.kind, finding.message)?;
    }
    if *further_findings > 0 {
        writeln!(out, "and {further_findings} more")?;
    }
    let verdict = if *proven { "PROVEN" } else { "NOT PROVEN" };
    writeln!(out, "{verdict}")
}

fn checkpoint(cli: &Cli) -> anyhow::Result<ExitCode> {
    let store = settings(cli)?.store.connect()?;
    let dir = audit_dir(&cli.data_dir);
    let mut checkpointer = Checkpointer::open(store, &dir)?;
    let made = runtime()?.block_on(checkpointer.make(Duration::from_millis(unix_ms())))?;
    match made {
        None => eprintln!("everything that is stored is sealed already"),
        Some(made) => eprintln!(
            "checkpoint {}: {} events; a copy of {} in other hands keeps them from being rewritten",
            made.number,
            made.events,
            dir.join(EXPORT_FILE).display()
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// Checks an exported file without any store.
fn offline(cli: &Cli, file: Option<&Path>) -> anyhow::Result<ExitCode> {
    let own = audit_dir(&cli.data_dir).join(EXPORT_FILE);
    let mut out = std::io::stdout().lock();
    for (signer, number, hash) in check_export(file.unwrap_or(&own))? {
        writeln!(
            out,
            "signer {signer}: {number} checkpoints, the last is {hash}"
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::days;

    #[test]
    fn a_period_is_a_number_of_days() {
        assert_eq!(days("90d").unwrap(), 90);
        assert_eq!(days("7").unwrap(), 7);
        assert!(days("0d").is_err());
        assert!(days("soon").unwrap_err().to_string().contains("like 90d"));
    }
}
