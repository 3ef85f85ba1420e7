//! `weir teams|limits|budgets|access|payloads|tokens` and `weir apply`: the rules for keys.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use weir_governance::control::Snapshot;
use weir_governance::control::record::{
    AccessRecord, BudgetRecord, Change, Kind, LimitRecord, PayloadRecord, Record, TeamRecord,
    TokenRecord,
};

use crate::cli::{ApplyArgs, Cli, IdArgs, RuleCommand, TokenArgs, TokensCommand};
use crate::command::budgets;
use crate::command::control_editor::ControlEditor;
use crate::context::{control, settings, unix_ms};
use crate::output::{self, print};

const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;

/// One kind of rule: set, list, delete.
pub(crate) fn run<A: Args + Serialize>(
    cli: &Cli,
    kind: Kind,
    command: &RuleCommand<A>,
) -> anyhow::Result<()> {
    match command {
        RuleCommand::Set { rule, json } => {
            let record = Record::parse(kind, &serde_json::to_string(rule)?)?;
            let mut editor = ControlEditor::open(cli, &settings(cli)?)?;
            let done = editor.set(record.clone())?;
            let in_force = editor.close()?;
            if *json {
                print(&record.public())?;
            } else {
                writeln!(crate::output::stdout(), "{done}d {kind} {}", record.id())?;
            }
            in_force.check()?;
        }
        RuleCommand::List(output) if kind == Kind::Budget => budgets::list(cli, output.json)?,
        RuleCommand::List(output) => list(cli, kind, output.json)?,
        RuleCommand::Delete(rule) => delete(cli, kind, rule)?,
    }
    Ok(())
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

fn delete(cli: &Cli, kind: Kind, IdArgs { id, json }: &IdArgs) -> anyhow::Result<()> {
    let mut editor = ControlEditor::open(cli, &settings(cli)?)?;
    editor.delete(kind, id)?;
    let in_force = editor.close()?;
    if *json {
        print(&json!({ "id": id, "deleted": true }))?;
    } else {
        writeln!(crate::output::stdout(), "deleted {kind} {id}")?;
    }
    in_force.check()
}

pub(crate) fn tokens(cli: &Cli, command: &TokensCommand) -> anyhow::Result<()> {
    match command {
        TokensCommand::Create(args) => create_token(cli, args)?,
        TokensCommand::List(output) => list(cli, Kind::Token, output.json)?,
        TokensCommand::Revoke(token) => delete(cli, Kind::Token, token)?,
    }
    Ok(())
}

fn create_token(cli: &Cli, args: &TokenArgs) -> anyhow::Result<()> {
    let mut editor = ControlEditor::open(cli, &settings(cli)?)?;
    if editor.snapshot.record(Kind::Token, &args.id).is_some() {
        bail!("token \"{}\" exists already; revoke it first", args.id);
    }
    let (token, hash) = editor.control.hash_key.new_token()?;
    let created_ms = unix_ms();
    let record = Record::Token(TokenRecord {
        id: args.id.clone(),
        hash,
        role: args.role,
        team: args.team.clone(),
        created_ms,
        expires_ms: args.expires_days.map(|days| created_ms + days * MS_PER_DAY),
    });
    editor.change("create", Change::set(record.clone()))?;
    let in_force = editor.close()?;
    if args.json {
        let mut shown = record.public();
        shown["token"] = Value::String(token);
        print(&shown)?;
    } else {
        writeln!(crate::output::stdout(), "{token}")?;
        output::note(format_args!(
            "token {}: save it now, it is not shown again",
            args.id
        ));
    }
    in_force.check()
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

pub(crate) fn apply(cli: &Cli, args: &ApplyArgs) -> anyhow::Result<()> {
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
    editor.close()?.check()
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Command;

    /// The record of `weir … set`, as JSON.
    fn set(arguments: &str) -> Value {
        fn json<A: Args + Serialize>(kind: Kind, command: RuleCommand<A>) -> Value {
            let RuleCommand::Set { rule, .. } = command else {
                panic!("set is expected");
            };
            let json = serde_json::to_string(&rule).unwrap();
            Record::parse(kind, &json).unwrap().public()
        }
        let words = ["weir"].into_iter().chain(arguments.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            Command::Teams(command) => json(Kind::Team, command),
            Command::Limits(command) => json(Kind::Limit, command),
            Command::Budgets(command) => json(Kind::Budget, command),
            Command::Access(command) => json(Kind::Access, command),
            Command::Payloads(command) => json(Kind::Payload, command),
            _ => panic!("a rule is expected"),
        }
    }

    #[test]
    fn every_option_of_a_rule_is_a_field_of_its_record() {
        let of_key = "--organisation o --team t --project p --user u --key k --env e --tier r";
        let scope = json!({
            "organisation": "o", "team": "t", "project": "p", "user": "u", "key": "k",
            "environment": "e", "tier": "r",
        });
        let mut of_request = scope.clone();
        (of_request["model"], of_request["customer"]) = ("m".into(), "c".into());
        assert_eq!(
            set("teams set x --organisation o --tier r --contact c --provider-key openai=main"),
            json!({
                "id": "x", "organisation": "o", "tier": "r", "contact": "c",
                "provider_keys": { "openai": "main" },
            })
        );
        assert_eq!(
            set(&format!(
                "limits set x {of_key} --model m --customer c --per user,model --rpm 5 --tpm 6 \
                 --concurrency 7 --overrides a,b"
            )),
            json!({
                "id": "x", "scope": of_request, "per": ["user", "model"], "requests_per_minute": 5,
                "tokens_per_minute": 6, "concurrency": 7, "overrides": ["a", "b"],
            })
        );
        assert_eq!(
            set(&format!(
                "budgets set x {of_key} --model m --customer c --per team --usd 12.5 --window day \
                 --zone Europe/Berlin --soft --thresholds 10,90 --allow-unpriced --allow-unbounded --overrides a"
            )),
            json!({
                "id": "x", "scope": of_request, "per": ["team"], "usd": "12.50", "window": "day",
                "zone": "Europe/Berlin", "soft": true, "thresholds_percent": [10, 90],
                "unpriced": "allow", "unbounded": "allow", "overrides": ["a"],
            })
        );
        assert_eq!(
            set("budgets set x --tokens 5"),
            json!({
                "id": "x", "scope": {}, "tokens": 5, "window": "month",
                "thresholds_percent": [50, 80, 100],
            })
        );
        assert_eq!(
            set(&format!(
                "access set x {of_key} --models a,b* --models-denied c --networks 10.0.0.0/8 \
                 --contact me"
            )),
            json!({
                "id": "x", "scope": scope, "models_allowed": ["a", "b*"], "models_denied": ["c"],
                "networks": ["10.0.0.0/8"], "contact": "me",
            })
        );
        assert_eq!(
            set(&format!(
                "payloads set x {of_key} --capture sampled --share 0.25"
            )),
            json!({ "id": "x", "scope": scope, "capture": "sampled", "share": 0.25 })
        );
    }
}
