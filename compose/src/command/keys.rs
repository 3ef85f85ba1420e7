//! `weir keys`: virtual keys, written to the control log that gateways follow.

use std::collections::HashMap;
use std::io::Write as _;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use weir_governance::control::key::KeyId;
use weir_governance::control::record::{
    BudgetRecord, Change, Class, KeyRecord, Kind, LimitRecord, Record, Scope,
};
use weir_governance::control::{LastUse, Snapshot};
use weir_schemas::RequestId;

use crate::cli::{Cli, KeyArgs, KeyIdArgs, KeysCommand};
use crate::command::control_editor::ControlEditor;
use crate::config::Config;
use crate::context::{control, settings, unix_ms};
use crate::output::{self, print};

const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

pub(crate) fn run(cli: &Cli, command: &KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::Create(args) => create(cli, args),
        KeysCommand::List(output) => list(cli, output.json),
        KeysCommand::Show(key) => show(cli, key),
        KeysCommand::Rotate { id, grace, json } => rotate(cli, id, *grace, *json),
        KeysCommand::Revoke(key) => revoke(cli, key),
    }
}

fn create(cli: &Cli, args: &KeyArgs) -> anyhow::Result<()> {
    let config = settings(cli)?;
    check_models(&config, "--models", &args.models)?;
    check_models(&config, "--models-denied", &args.models_denied)?;
    let mut editor = ControlEditor::open(cli, &config)?;
    let (key, record) = make(&mut editor, args)?;
    let in_force = editor.close()?;
    show_new(&key, &record, args.json)?;
    in_force.check()
}

/// Checks names against the configured aliases, if there are any. Patterns are not checked.
fn check_models(config: &Config, option: &str, models: &[String]) -> anyhow::Result<()> {
    let known: Vec<&str> = config
        .aliases
        .iter()
        .map(|alias| alias.name.as_str())
        .collect();
    for model in models {
        if !known.is_empty() && !model.ends_with('*') && !known.contains(&model.as_str()) {
            bail!(
                "{option}: there is no alias \"{model}\" (known: {})",
                known.join(", ")
            );
        }
    }
    Ok(())
}

fn show_new(key: &str, record: &KeyRecord, json: bool) -> anyhow::Result<()> {
    if json {
        let mut shown = public(record);
        shown["key"] = Value::String(key.to_owned());
        return print(&shown);
    }
    writeln!(crate::output::stdout(), "{key}")?;
    output::note(format_args!(
        "key {} of team {}: save it now, it is not shown again",
        record.id,
        record.team.as_deref().unwrap_or("-")
    ));
    Ok(())
}

/// Creates a key, with its limit and budget.
pub(crate) fn make(
    editor: &mut ControlEditor,
    args: &KeyArgs,
) -> anyhow::Result<(String, KeyRecord)> {
    let (key, hash) = editor.control.hash_key.new_key()?;
    let created_ms = unix_ms();
    let id = RequestId::new(created_ms, rand::random()).as_uuid();
    let record = KeyRecord {
        organisation: args.organisation.clone(),
        team: Some(args.team.clone()),
        project: args.project.clone(),
        user: args.user.clone(),
        environment: args.environment.clone(),
        tier: args.tier.clone(),
        models: args.models.clone(),
        models_denied: args.models_denied.clone(),
        networks: args.networks.clone(),
        class: if args.batch {
            Class::Batch
        } else {
            Class::Interactive
        },
        expires_ms: args.expires_days.map(|days| created_ms + days * MS_PER_DAY),
        ..KeyRecord::new(KeyId(id.as_u128()), hash, created_ms)
    };
    // Rules first: the key must never work without them.
    for rule in rules_of(args, &record) {
        editor.set(rule)?;
    }
    editor.change("create", Change::set(Record::Key(record.clone())))?;
    Ok((key, record))
}

/// The key's own limit and budget, named after it.
fn rules_of(args: &KeyArgs, record: &KeyRecord) -> Vec<Record> {
    let id = record.id.to_string();
    let scope = Scope {
        key: Some(id.clone()),
        ..Scope::default()
    };
    let limit = args.rpm.map(|requests_per_minute| {
        Record::Limit(LimitRecord {
            id: id.clone(),
            scope: scope.clone(),
            requests_per_minute: Some(requests_per_minute),
            ..LimitRecord::default()
        })
    });
    let budget = args.budget.as_ref().map(|budget| {
        Record::Budget(BudgetRecord {
            id: id.clone(),
            scope: scope.clone(),
            ..budget.clone()
        })
    });
    limit.into_iter().chain(budget).collect()
}

/// A key without its hash.
fn public(record: &KeyRecord) -> Value {
    Record::Key(record.clone()).public()
}

fn list(cli: &Cli, json: bool) -> anyhow::Result<()> {
    let control = control(&settings(cli)?, &cli.data_dir)?;
    let snapshot = control.snapshot()?;
    let used = control
        .last_used()
        .context("read when keys were last used")?;
    let records: Vec<KeyRecord> = snapshot.keys().iter().map(|key| key.record()).collect();
    if json {
        let shown = records.iter().map(|record| seen(record, &used));
        return print(&Value::Array(shown.collect()));
    }
    let mut out = crate::output::stdout();
    let shown = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
    writeln!(
        out,
        "{:<36}  {:<8}  {:<16}  {:<16}  {:<16}  {:<20}  {:<15}  models",
        "id", "state", "team", "project", "user", "last used", "from"
    )?;
    let now_ms = unix_ms();
    for record in &records {
        let state = match (record.revoked_ms, record.expires_ms) {
            (Some(_), _) => "revoked",
            (None, Some(expires_ms)) if expires_ms <= now_ms => "expired",
            _ => "active",
        };
        let last = used.get(&record.id);
        let at = last.map_or_else(|| "never".into(), |last| second(last.at_ms));
        let from = last.map_or_else(|| "-".into(), |last| last.address.to_string());
        let models = if record.models.is_empty() {
            "all".into()
        } else {
            record.models.join(",")
        };
        writeln!(
            out,
            "{:<36}  {state:<8}  {:<16}  {:<16}  {:<16}  {at:<20}  {from:<15}  {models}",
            record.id.to_string(),
            shown(&record.team),
            shown(&record.project),
            shown(&record.user)
        )?;
    }
    Ok(())
}

/// A key with its last use, which the gateway on this machine writes down once a minute.
fn seen(record: &KeyRecord, used: &HashMap<KeyId, LastUse>) -> Value {
    let mut shown = public(record);
    let last = used.get(&record.id);
    shown["last_used_ms"] = last.map(|last| last.at_ms).into();
    shown["last_used_from"] = last.map(|last| last.address.to_string()).into();
    shown
}

/// A moment in UTC, to the second.
fn second(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "-".into(), |at| at.to_string())
}

fn show(cli: &Cli, KeyIdArgs { id, json }: &KeyIdArgs) -> anyhow::Result<()> {
    let control = control(&settings(cli)?, &cli.data_dir)?;
    let snapshot = control.snapshot()?;
    let used = control
        .last_used()
        .context("read when keys were last used")?;
    let shown = seen(&named(&snapshot, id)?, &used);
    if *json {
        return print(&shown);
    }
    let mut out = crate::output::stdout();
    for (name, value) in shown.as_object().into_iter().flatten() {
        let value = match value {
            Value::Null => continue,
            Value::Number(ms) if name.ends_with("_ms") => second(ms.as_u64().unwrap_or(0)),
            Value::String(text) => text.clone(),
            value => value.to_string(),
        };
        writeln!(out, "{:<15} {value}", name.trim_end_matches("_ms"))?;
    }
    Ok(())
}

/// The record of a key.
fn named(snapshot: &Snapshot, id: &str) -> anyhow::Result<KeyRecord> {
    let Some(Record::Key(key)) = snapshot.record(Kind::Key, id) else {
        bail!("there is no key {id}; `weir keys list` shows them");
    };
    Ok(key)
}

fn rotate(cli: &Cli, id: &str, grace_ms: u64, json: bool) -> anyhow::Result<()> {
    let mut editor = ControlEditor::open(cli, &settings(cli)?)?;
    let before = named(&editor.snapshot, id)?;
    if before.revoked_ms.is_some() {
        bail!("key {id} is revoked; create another one with `weir keys create`");
    }
    let (key, hash) = editor.control.hash_key.new_key()?;
    let after = before.rotated(hash, unix_ms(), grace_ms);
    editor.change("rotate", Change::set(Record::Key(after.clone())))?;
    let in_force = editor.close()?;
    show_new(&key, &after, json)?;
    in_force.check()
}

fn revoke(cli: &Cli, KeyIdArgs { id, json }: &KeyIdArgs) -> anyhow::Result<()> {
    let mut editor = ControlEditor::open(cli, &settings(cli)?)?;
    let before = named(&editor.snapshot, id)?;
    if before.revoked_ms.is_none() {
        let after = Record::Key(before.revoked(unix_ms()));
        editor.change("revoke", Change::set(after))?;
    }
    let in_force = editor.close()?;
    if *json {
        print(&json!({ "id": id, "revoked": true }))?;
    } else {
        writeln!(crate::output::stdout(), "revoked {id}")?;
    }
    in_force.check()
}
