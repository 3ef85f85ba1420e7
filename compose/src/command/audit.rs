//! `weir audit` and `weir rollups`: the list of calls, and the proof that no event is missing or changed.

pub(crate) mod calls;

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use weir_ingestor::audit::{
    Anchor, AnchorSummary, Anchored, Anchoring, AuditReport, Checkpointer, EXPORT_FILE, GatewayKey,
    Period, SigningKey, check_export, verifier_key, verify,
};
use weir_ingestor::rollups;
use weir_schemas::StreamId;
use weir_store::Store;

use crate::cli::{AuditCommand, Cli, RollupsCommand};
use crate::command::sql::reach;
use crate::context::{audit_dir, runtime, settings, unix_ms};
use crate::journal_faults::journal_faults;
use crate::output::{self, Reported};

pub(crate) fn run(cli: &Cli, command: &AuditCommand) -> anyhow::Result<()> {
    match command {
        AuditCommand::Calls(args) => calls::run(cli, args),
        AuditCommand::Verify {
            since,
            copy,
            signer,
            gateway_key,
            anchor,
            json,
        } => {
            let configured = settings(cli)?.audit;
            let own_key = SigningKey::of_gateway_if_any(&audit_dir(&cli.data_dir))?;
            let gateway_keys = [configured.gateway_keys.as_slice(), gateway_key].concat();
            let named = anchor.iter().map(|url| Anchor::open(url, &BTreeMap::new()));
            let anchors = configured
                .anchors()
                .chain(named)
                .collect::<Result<_, _>>()?;
            let mut copies = copy.clone();
            let own = audit_dir(&cli.data_dir).join(EXPORT_FILE);
            copies.extend(own.exists().then_some(own));
            let period = Period {
                since_us: since_us(cli, since.as_deref())?,
                copies,
                signers: signer.clone(),
                anchors,
                gateway_keys,
                own_gateway_key: own_key.map(|key| key.public()),
            };
            prove(cli, &period, *json)
        }
        AuditCommand::Checkpoint => checkpoint(cli),
        AuditCommand::Key { note, gateway } => {
            let dir = audit_dir(&cli.data_dir);
            let key = if *gateway {
                SigningKey::of_gateway(&dir)?.public()
            } else {
                SigningKey::load_or_create(&dir)?.public()
            };
            let key = if *note {
                verifier_key(&key).context("write the key as a verifier key")?
            } else {
                key
            };
            writeln!(output::stdout(), "{key}")?;
            Ok(())
        }
        AuditCommand::CheckExport { file } => offline(cli, file.as_deref()),
    }
}

pub(crate) fn rollups(cli: &Cli, command: &RollupsCommand) -> anyhow::Result<()> {
    let store = reach(&cli.data_dir, &settings(cli)?)?;
    match command {
        RollupsCommand::Rebuild => {
            runtime()?
                .block_on(rollups::rebuild(&store))
                .context("rebuild the rollups")?;
            output::note("rebuilt the rollups from weir.requests");
        }
    }
    Ok(())
}

/// Start of the period, in microseconds since 1970.
fn since_us(cli: &Cli, since: Option<&str>) -> anyhow::Result<i64> {
    let days = match since {
        Some(since) => days(since)?,
        None => u64::from(settings(cli)?.store.retention_days),
    };
    Ok(match days {
        // Unlimited retention.
        0 => 0,
        days => {
            let before_ms = days.saturating_mul(86_400_000);
            i64::try_from(unix_ms().saturating_sub(before_ms).saturating_mul(1000))?
        }
    })
}

/// Exit code 0 if the period is proven, 1 if not.
fn prove(cli: &Cli, period: &Period, json: bool) -> anyhow::Result<()> {
    let store = reach(&cli.data_dir, &settings(cli)?)?;
    let runtime = runtime()?;
    let mut report = runtime
        .block_on(verify(&store, period))
        .context("verify what is stored")?;
    let ends = runtime.block_on(stream_ends(&store))?;
    let faults = journal_faults(&cli.data_dir, ends).context("look into the journal here")?;
    for fault in faults {
        report.journal(fault);
    }
    if json {
        output::print(&report)?;
    } else {
        write_report(&mut output::stdout(), &report)?;
    }
    ensure!(report.proven, Reported);
    Ok(())
}

/// `90d`, or a number of days.
fn days(since: &str) -> anyhow::Result<u64> {
    let number = since.strip_suffix('d').unwrap_or(since);
    match number.parse() {
        Ok(days) if days > 0 => Ok(days),
        _ => bail!("--since {since}: expected a number of days, like 90d"),
    }
}

/// The last events of the streams that are closed, before their closing.
async fn stream_ends(store: &Store) -> anyhow::Result<HashMap<StreamId, u64>> {
    let sql =
        "SELECT toString(stream), max(seq) FROM streams WHERE event = 'closed' GROUP BY stream";
    let ends: Vec<(String, u64)> = store.fetch(store.query(sql)).await?;
    let ends = ends.into_iter();
    Ok(ends
        .filter_map(|(stream, closing)| Some((stream.parse().ok()?, closing.saturating_sub(1))))
        .collect())
}

fn write_report(out: &mut impl std::io::Write, report: &AuditReport) -> std::io::Result<()> {
    let AuditReport {
        streams,
        events,
        checkpoint_only_events,
        unsigned_events,
        signers,
        gateway_keys,
        anchors,
        rollup_rows,
        payloads,
        payloads_erased,
        findings,
        further_findings,
        ..
    } = report;
    writeln!(out, "streams      {streams}")?;
    write!(
        out,
        "events       {events}, of which {checkpoint_only_events} are sealed by a checkpoint and not by their gateway"
    )?;
    if *unsigned_events > 0 {
        write!(
            out,
            ", and {unsigned_events} by a gateway that does not sign"
        )?;
    }
    writeln!(out)?;
    for line in gateway_key_lines(gateway_keys) {
        writeln!(out, "gateway key  {line}")?;
    }
    for signer in signers {
        writeln!(
            out,
            "checkpoints  {} of signer {}, last hash {}",
            signer.checkpoints, signer.signer, signer.last_hash
        )?;
    }
    for anchor in anchors {
        writeln!(out, "anchor       {}", anchor_line(anchor))?;
    }
    if anchors.is_empty() && report.proven {
        let risk = "a holder of the signing key could have written a new history";
        writeln!(out, "anchor       none was compared: {risk}")?;
    }
    writeln!(out, "rollup rows  {rollup_rows}")?;
    writeln!(
        out,
        "payloads     {payloads}, of which {payloads_erased} are erased"
    )?;
    for finding in findings {
        writeln!(out, "{:<12} {}", finding.kind, finding.message)?;
    }
    if *further_findings > 0 {
        writeln!(out, "and {further_findings} more")?;
    }
    writeln!(out, "{}", verdict(report))
}

fn gateway_key_lines(keys: &[GatewayKey]) -> Vec<String> {
    let any_trusted = keys.iter().any(|key| key.is_trusted);
    let lines = keys.iter().map(|it| {
        let trust = match it.is_trusted {
            true => "trusted",
            false if any_trusted => "not trusted",
            false => "taken from the log on trust",
        };
        format!("{}: {} streams, {trust}", it.key, it.streams)
    });
    lines.collect()
}

fn anchor_line(anchor: &AnchorSummary) -> String {
    let AnchorSummary {
        url,
        notes,
        checkpoint,
        anchored_until_us,
    } = anchor;
    let until = anchored_until_us.and_then(|us| Timestamp::from_microsecond(us).ok());
    match (checkpoint, until) {
        (Some(checkpoint), Some(until)) => {
            format!("{url}: {notes} notes, up to checkpoint {checkpoint} of {until:.0}")
        }
        _ => format!("{url}: no note that agrees"),
    }
}

/// How far it is proven. What is not sealed yet is complete, and could still be changed unseen.
fn verdict(report: &AuditReport) -> String {
    let AuditReport {
        proven,
        unsealed_events,
        unsealed_ends,
        sealed_calls,
        proven_until_us,
        ..
    } = *report;
    let events = unsealed_events.saturating_sub(unsealed_ends);
    let is_young = sealed_calls == 0 && events > 0;
    let newer = if is_young { "" } else { "newer " };
    let events = match events {
        0 => None,
        1 => Some(format!("1 {newer}event")),
        events => Some(format!("{events} {newer}events")),
    };
    let ends = match unsealed_ends {
        0 => None,
        1 => Some("1 end of a stream".to_owned()),
        ends => Some(format!("{ends} ends of streams")),
    };
    let open: Vec<_> = events.into_iter().chain(ends).collect();
    let open = if open.is_empty() {
        String::new()
    } else {
        format!("; {} not yet sealed", open.join(" and "))
    };
    let until = proven_until_us.and_then(|us| Timestamp::from_microsecond(us).ok());
    match (proven, until) {
        (true, Some(_)) if is_young => format!("PROVEN, but no call is sealed yet{open}"),
        (true, Some(until)) => format!("PROVEN up to {until:.0}{open}"),
        (true, None) => "PROVEN: nothing is stored".to_owned(),
        (false, _) => format!("NOT PROVEN{open}"),
    }
}

fn checkpoint(cli: &Cli) -> anyhow::Result<()> {
    let settings = settings(cli)?;
    let anchors = settings.audit.anchors().collect::<Result<Vec<_>, _>>()?;
    let store = reach(&cli.data_dir, &settings)?;
    let dir = audit_dir(&cli.data_dir);
    let mut checkpointer = Checkpointer::open(store.clone(), &dir)?;
    let made = runtime()?.block_on(checkpointer.make(Duration::from_millis(unix_ms())))?;
    match made {
        None => output::note("all stored events are sealed already"),
        Some(made) => output::note(format_args!(
            "checkpoint {}: {} events{}",
            made.number,
            made.events,
            if anchors.is_empty() {
                format!(
                    "; keep a copy of {} outside this machine, so that they cannot be rewritten",
                    dir.join(EXPORT_FILE).display()
                )
            } else {
                String::new()
            }
        )),
    }
    anchor(Anchoring::open(store, &dir, anchors)?)
}

/// Writes the log's head to every place outside.
fn anchor(mut anchoring: Anchoring) -> anyhow::Result<()> {
    let mut failed = false;
    for anchored in runtime()?.block_on(anchoring.write())? {
        let Anchored {
            url,
            checkpoints,
            result,
        } = anchored;
        match result {
            Ok(()) => output::note(format_args!("anchored {checkpoints} checkpoints in {url}")),
            Err(ref error) => output::note(format_args!("{error}")),
        }
        failed |= result.is_err();
    }
    ensure!(!failed, Reported);
    Ok(())
}

/// Checks an exported file without a store.
fn offline(cli: &Cli, file: Option<&Path>) -> anyhow::Result<()> {
    let own = audit_dir(&cli.data_dir).join(EXPORT_FILE);
    let mut out = output::stdout();
    for (signer, number, hash) in check_export(file.unwrap_or(&own))? {
        writeln!(
            out,
            "signer {signer}: {number} checkpoints, last hash {hash}"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use weir_ingestor::audit::AuditReport;

    use super::{days, verdict};

    #[test]
    fn a_verdict_says_how_far() {
        let until = "2026-11-30T14:03:20.25Z".parse::<Timestamp>().unwrap();
        let all = AuditReport {
            proven: true,
            sealed_calls: 7,
            proven_until_us: Some(until.as_microsecond()),
            ..AuditReport::default()
        };
        let proven = "PROVEN up to 2026-11-30T14:03:20Z";
        assert_eq!(verdict(&all), proven);
        let unsealed = |events, ends| AuditReport {
            unsealed_events: events,
            unsealed_ends: ends,
            ..all.clone()
        };
        let said = |rest: &str| format!("{proven}; {rest} not yet sealed");
        assert_eq!(verdict(&unsealed(159, 0)), said("159 newer events"));
        assert_eq!(verdict(&unsealed(1, 1)), said("1 end of a stream"));
        let both = said("1 newer event and 2 ends of streams");
        assert_eq!(verdict(&unsealed(3, 2)), both);
        let young = AuditReport {
            sealed_calls: 0,
            ..unsealed(3, 0)
        };
        assert_eq!(
            verdict(&young),
            "PROVEN, but no call is sealed yet; 3 events not yet sealed"
        );
        let faulty = AuditReport {
            proven: false,
            ..unsealed(1, 0)
        };
        assert_eq!(verdict(&faulty), "NOT PROVEN; 1 newer event not yet sealed");
        let nothing = AuditReport {
            proven: true,
            ..AuditReport::default()
        };
        assert_eq!(verdict(&nothing), "PROVEN: nothing is stored");
    }

    #[test]
    fn a_period_is_a_number_of_days() {
        assert_eq!(days("90d").unwrap(), 90);
        assert_eq!(days("7").unwrap(), 7);
        assert!(days("0d").is_err());
        assert!(days("soon").unwrap_err().to_string().contains("like 90d"));
    }
}
