//! `weir teams|limits|budgets|access|payloads|tokens` and `weir apply`: the rules for keys.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use serde::Deserialize;
use serde_json::{Value, json};
use weir_governance::control::Snapshot;
use weir_governance::control::key;
use weir_governance::control::record::{
    AccessRecord, BudgetRecord, Change, Kind, LimitRecord, PayloadRecord, Record, TeamRecord,
    TokenRecord,
};

use crate::cli::{ApplyArgs, Cli, RuleCommand, SetRule, TokenArgs, TokensCommand};
use crate::command::budgets;
use crate::command::control_editor::ControlEditor;
use crate::context::{control, settings, unix_ms};
use crate::output::print;

const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

/// One kind of rule: set, list, delete.
pub(crate) fn run<A: SetRule>(cli: &Cli, command: &RuleCommand<A>) -> anyhow::Result<ExitCode> {
    match command {
        RuleCommand::Set { rule, json } => {
            let mut editor = ControlEditor::open(cli, &settings(cli)?)?;
            let record = rule.record();
            let done = editor.set(record.clone())?;
            editor.close()?;
            if *json {
                print(&record.public())?;
            } else {
                writeln!(
                    crate::output::stdout(),
                    "{done}d {} {}",
                    A::KIND,
                    record.id()
                )?;
            }
        }
        RuleCommand::List { json } if A::KIND == Kind::Budget => budgets::list(cli, *json)?,
        RuleCommand::List { json } => list(cli, A::KIND, *json)?,
        RuleCommand::Delete { id, json } => delete(cli, A::KIND, id, *json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(cli: &Cli, kind: Kind, json: bool) -> anyhow::Result<()> {
    let snapshot = control(&settings(cli)?, &cli.data_dir)?.snapshot()?;
    let shown: Vec<Value> = snapshot
        .records(kind)
        .map(|record| record.public())
        .collect();
    if json {
        return print(&Value::Array(shown));
    }
    let mut out = crate::output::stdout();
    for record in &shown {
        writeln!(out, "{}", in_words(record))?;
    }
    Ok(())
}

/// A record on one line: its id, then its fields.
fn in_words(record: &Value) -> String {
    let mut words = vec![record["id"].as_str().unwrap_or_default().to_owned()];
    let fields = record.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| *name != "id") {
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Object(fields) if fields.is_empty() => continue,
            Value::Array(values) if values.is_empty() => continue,
            value => value.to_string().replace('"', ""),
        };
        words.push(format!("{name}={value}"));
    }
    words.join("  ")
}

fn delete(cli: &Cli, kind: Kind, id: &str, json: bool) -> anyhow::Result<()> {
    let mut editor = ControlEditor::open(cli, &settings(cli)?)?;
    editor.delete(kind, id)?;
    editor.close()?;
    if json {
        return print(&json!({ "id": id, "deleted": true }));
    }
    writeln!(crate::output::stdout(), "deleted {kind} {id}")?;
    Ok(())
}

pub(crate) fn tokens(cli: &Cli, command: &TokensCommand) -> anyhow::Result<ExitCode> {
    match command {
        TokensCommand::Create(args) => create_token(cli, args)?,
        TokensCommand::List { json } => list(cli, Kind::Token, *json)?,
        TokensCommand::Revoke { id, json } => delete(cli, Kind::Token, id, *json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn create_token(cli: &Cli, args: &TokenArgs) -> anyhow::Result<()> {
    let mut editor = ControlEditor::open(cli, &settings(cli)?)?;
    if editor.snapshot.record(Kind::Token, &args.id).is_some() {
        bail!("token \"{}\" exists already; revoke it first", args.id);
    }
    let token = key::generate_token()?;
    let created_ms = unix_ms();
    let record = Record::Token(TokenRecord {
        id: args.id.clone(),
        hash: editor
            .control
            .hash_key
            .hash(&token)
            .context("hash the new token")?,
        role: args.role,
        team: args.team.clone(),
        created_ms,
        expires_ms: args.expires_days.map(|days| created_ms + days * MS_PER_DAY),
    });
    editor.change("create", Change::set(record.clone()))?;
    editor.close()?;
    if args.json {
        let mut shown = record.public();
        shown["token"] = Value::String(token);
        return print(&shown);
    }
    writeln!(crate::output::stdout(), "{token}")?;
    eprintln!("token {}: save it now, it is not shown again", args.id);
    Ok(())
}

/// A file of rules.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Governance {
    team: Vec<TeamRecord>,
    limit: Vec<LimitRecord>,
    budget: Vec<BudgetRecord>,
    access: Vec<AccessRecord>,
    payload: Vec<PayloadRecord>,
}

impl Governance {
    fn read(path: &Path) -> anyhow::Result<BTreeMap<(Kind, String), Record>> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let written: Self =
            toml::from_str(&text).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        let records = written.team.into_iter().map(Record::Team);
        let records = records.chain(written.limit.into_iter().map(Record::Limit));
        let records = records.chain(written.budget.into_iter().map(Record::Budget));
        let mut wanted = BTreeMap::new();
        let records = records.chain(written.access.into_iter().map(Record::Access));
        for record in records.chain(written.payload.into_iter().map(Record::Payload)) {
            let (kind, id) = (record.kind(), record.id());
            record
                .check()
                .map_err(|problem| anyhow!("{}: {kind} \"{id}\": {problem}", path.display()))?;
            if wanted.insert((kind, id.clone()), record).is_some() {
                bail!("{}: {kind} \"{id}\" is defined twice", path.display());
            }
        }
        Ok(wanted)
    }
}

/// The changes that bring the rules to what the file says.
fn plan(
    wanted: BTreeMap<(Kind, String), Record>,
    snapshot: &Snapshot,
    prune: bool,
) -> Vec<(&'static str, Change)> {
    let mut plan = Vec::new();
    if prune {
        for kind in [
            Kind::Team,
            Kind::Limit,
            Kind::Budget,
            Kind::Access,
            Kind::Payload,
        ] {
            // Rules of a single key come and go with it.
            let unwanted = snapshot.records(kind).filter(|record| {
                !wanted.contains_key(&(kind, record.id())) && !record.id().starts_with("key_")
            });
            plan.extend(unwanted.map(|record| ("delete", Change::gone(kind, record.id()))));
        }
    }
    for ((kind, id), record) in wanted {
        match snapshot.record(kind, &id) {
            None => plan.push(("create", Change::set(record))),
            Some(before) if before != record => plan.push(("update", Change::set(record))),
            Some(_) => {}
        }
    }
    plan
}

pub(crate) fn apply(cli: &Cli, args: &ApplyArgs) -> anyhow::Result<ExitCode> {
    let wanted = Governance::read(&args.file)?;
    let mut editor = ControlEditor::open(cli, &settings(cli)?)?;
    let plan = plan(wanted, &editor.snapshot, args.prune);
    if args.json {
        let shown: Vec<Value> = plan
            .iter()
            .map(|(action, change)| shown(&editor, action, change))
            .collect();
        print(&json!({ "applied": args.yes, "changes": shown }))?;
    } else {
        show_plan(&editor, &plan, args.yes)?;
    }
    if args.yes {
        for (action, change) in plan {
            editor.change(action, change)?;
        }
    }
    editor.close()?;
    Ok(ExitCode::SUCCESS)
}

fn shown(editor: &ControlEditor, action: &str, change: &Change) -> Value {
    let before = editor.snapshot.record(change.kind, &change.id);
    json!({
        "action": action,
        "kind": change.kind,
        "id": change.id,
        "before": before.map(|record| record.public()),
        "after": change.record.as_ref().map(Record::public),
    })
}

fn show_plan(
    editor: &ControlEditor,
    plan: &[(&'static str, Change)],
    yes: bool,
) -> anyhow::Result<()> {
    let mut out = crate::output::stdout();
    for (action, change) in plan {
        let before = editor.snapshot.record(change.kind, &change.id);
        let words = |record: &Record| in_words(&record.public());
        match (before, &change.record) {
            (Some(before), Some(after)) => {
                writeln!(out, "~ {} {}", change.kind, words(&before))?;
                writeln!(out, "  becomes {}", words(after))?;
            }
            (_, Some(after)) => writeln!(out, "+ {} {}", change.kind, words(after))?,
            (Some(before), None) => writeln!(out, "- {} {}", change.kind, words(&before))?,
            (None, None) => writeln!(out, "{action} {} {}", change.kind, change.id)?,
        }
    }
    match (plan.len(), yes) {
        (0, _) => writeln!(out, "nothing to change")?,
        (count, true) => writeln!(out, "{count} changes made")?,
        (count, false) => {
            writeln!(out, "{count} changes; run again with --yes to make them")?;
        }
    }
    Ok(())
}
