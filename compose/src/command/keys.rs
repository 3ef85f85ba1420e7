//! `weir keys`: virtual keys, written to the control log that gateways follow.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use weir_eventlog::Journal;
use weir_gateway::control::key;
use weir_gateway::control::log::{ControlLog, path_in};
use weir_gateway::control::{KeyRecord, latest};
use weir_schemas::event::{ControlChanged, Event};
use weir_schemas::{RequestId, StreamId};

use crate::cli::{Cli, KeyArgs, KeysCommand};
use crate::command::settings;
use crate::config::Config;
use crate::parts::unix_ms;

const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

pub(crate) fn run(cli: &Cli, command: &KeysCommand) -> anyhow::Result<ExitCode> {
    match command {
        KeysCommand::Create(args) => create(cli, args),
        KeysCommand::List { json } => list(cli, *json),
        KeysCommand::Revoke { id, json } => revoke(cli, id, *json),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn create(cli: &Cli, args: &KeyArgs) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let known: Vec<&str> = config
        .aliases
        .iter()
        .map(|alias| alias.name.as_str())
        .collect();
    for model in &args.models {
        if !known.is_empty() && !known.contains(&model.as_str()) {
            bail!(
                "--models: there is no alias \"{model}\" (known: {})",
                known.join(", ")
            );
        }
    }
    let (key, record) = new_key(args)?;
    write(cli, &config, None, &record)?;
    let mut out = std::io::stdout();
    if args.json {
        let mut shown = public(&record);
        shown["key"] = Value::String(key);
        writeln!(out, "{shown}")?;
    } else {
        writeln!(out, "{key}")?;
        eprintln!(
            "key {} of team {}: keep it now, it is not shown again",
            record.id, args.team
        );
    }
    Ok(())
}

/// Makes a key that nobody knows of yet.
pub(crate) fn new_key(args: &KeyArgs) -> anyhow::Result<(String, KeyRecord)> {
    let key = key::generate()?;
    let created_ms = unix_ms();
    let record = KeyRecord {
        id: format!(
            "key_{}",
            RequestId::new(created_ms, rand::random())
                .as_uuid()
                .simple()
        ),
        hash: key::hash(&key).context("hash the new key")?,
        organisation: args.organisation.clone(),
        team: Some(args.team.clone()),
        project: args.project.clone(),
        user: args.user.clone(),
        environment: args.environment.clone(),
        tier: args.tier.clone(),
        models: args.models.clone(),
        created_ms,
        expires_ms: args.expires_days.map(|days| created_ms + days * MS_PER_DAY),
        revoked_ms: None,
    };
    Ok((key, record))
}

/// Records the change as an event, then makes it. A crash in between leaves an audit row of a
/// change that did not happen, and never a change without its audit row.
pub(crate) fn write(
    cli: &Cli,
    config: &Config,
    before: Option<&KeyRecord>,
    after: &KeyRecord,
) -> anyhow::Result<()> {
    let journal = Journal::open(config.eventlog.journal_options(&cli.data_dir, "cli"))
        .context("open the event journal")?;
    let stream = journal.open_stream(0).context("open an event stream")?;
    let (before_json, after_json) = (
        before.map(|b| public(b).to_string()),
        public(after).to_string(),
    );
    let actor = actor();
    let event = Event::ControlChanged(ControlChanged {
        stream: StreamId::from_bytes([0; 16]),
        seq: 0,
        ts_us: unix_ms() * 1000,
        change_id: RequestId::new(unix_ms(), rand::random()),
        actor: &actor,
        action: match (before, after.revoked_ms) {
            (None, _) => "create",
            (Some(_), Some(_)) => "revoke",
            (Some(_), None) => "update",
        },
        object_kind: "key",
        object_id: &after.id,
        before: before_json.as_deref(),
        after: Some(&after_json),
    });
    // Dropped here: what is written is in the log, and the stream is closed next.
    let _ = stream.append(&mut [event]).context("record the change")?;
    stream.close().context("close the event stream")?;
    ControlLog::new(path_in(&cli.data_dir)).append(after)?;
    Ok(())
}

/// Who is at the keyboard, as far as the system knows.
fn actor() -> String {
    let named = ["SUDO_USER", "USER"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok());
    let user = named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()));
    format!("cli:{user}")
}

/// A key as everybody may see it.
fn public(record: &KeyRecord) -> Value {
    json!({
        "id": record.id,
        "organisation": record.organisation,
        "team": record.team,
        "project": record.project,
        "user": record.user,
        "environment": record.environment,
        "tier": record.tier,
        "models": record.models,
        "created_ms": record.created_ms,
        "expires_ms": record.expires_ms,
        "revoked_ms": record.revoked_ms,
    })
}

fn list(cli: &Cli, json: bool) -> anyhow::Result<()> {
    let records = latest(ControlLog::new(path_in(&cli.data_dir)).records()?);
    let mut out = std::io::stdout();
    if json {
        let shown: Vec<Value> = records.iter().map(public).collect();
        writeln!(out, "{}", Value::Array(shown))?;
        return Ok(());
    }
    let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    writeln!(
        out,
        "{:<36}  {:<8}  {:<16}  {:<16}  {:<16}  models",
        "id", "state", "team", "project", "user"
    )?;
    let now_ms = unix_ms();
    for record in &records {
        let state = match (record.revoked_ms, record.expires_ms) {
            (Some(_), _) => "revoked",
            (None, Some(expires_ms)) if expires_ms <= now_ms => "expired",
            _ => "active",
        };
        let models = if record.models.is_empty() {
            "all".into()
        } else {
            record.models.join(",")
        };
        writeln!(
            out,
            "{:<36}  {state:<8}  {:<16}  {:<16}  {:<16}  {models}",
            record.id,
            shown(&record.team),
            shown(&record.project),
            shown(&record.user)
        )?;
    }
    Ok(())
}

fn revoke(cli: &Cli, id: &str, json: bool) -> anyhow::Result<()> {
    let config = settings(cli)?;
    let records = latest(ControlLog::new(path_in(&cli.data_dir)).records()?);
    let Some(before) = records.iter().find(|record| record.id == id) else {
        bail!("there is no key {id}; `weir keys list` shows them");
    };
    if before.revoked_ms.is_none() {
        let after = KeyRecord {
            revoked_ms: Some(unix_ms()),
            ..before.clone()
        };
        write(cli, &config, Some(before), &after)?;
    }
    let mut out = std::io::stdout();
    if json {
        writeln!(out, "{}", json!({ "id": id, "revoked": true }))?;
    } else {
        writeln!(out, "revoked {id}")?;
    }
    Ok(())
}
