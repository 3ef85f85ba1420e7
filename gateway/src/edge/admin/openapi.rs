//! The OpenAPI document of the admin API.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{AdminCall, CALLS, NewKey, NewToken, PREFIX, Pin, Rotation};
use weir_governance::control::record::{
    AccessRecord, BudgetRecord, Kind, LimitRecord, PayloadRecord, TeamRecord,
};

pub(super) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut schemas = settings.into_generator();
    let mut paths = Map::new();
    for (method, path, call) in CALLS {
        let operation = operation(path, call, &mut schemas);
        let entry = paths
            .entry(format!("{PREFIX}{path}"))
            .or_insert_with(|| json!({}));
        entry[method.to_ascii_lowercase()] = operation;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weir admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Keys, teams, limits, budgets, access rules, tokens and routing tables. Every change is \
                            an event, and in force on every gateway within a second.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas.definitions(),
        },
    })
}

fn operation(path: &str, call: AdminCall, schemas: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "summary": summary(call),
        "responses": {
            "200": { "description": "Done" },
            "default": { "description": "An error: {\"error\": {\"code\", \"message\"}}" },
        },
    });
    if path.contains("{id}") {
        operation["parameters"] = json!([
            { "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }
        ]);
    }
    if call == AdminCall::OpenApi {
        operation["security"] = json!([]);
    }
    if let Some(schema) = body(call, schemas) {
        operation["requestBody"] =
            json!({ "content": { "application/json": { "schema": schema } } });
    }
    operation
}

fn summary(call: AdminCall) -> String {
    match call {
        AdminCall::OpenApi => "This document".into(),
        AdminCall::Myself => "Whose token this is: its name, role and team".into(),
        AdminCall::List(kind) => format!("All {}", names(kind).0),
        AdminCall::Read(kind @ Kind::Budget) => format!(
            "One {}, with what is spent, reserved and left of it by all for whom it is counted apart",
            names(kind).2
        ),
        AdminCall::Read(kind) => format!("One {}", names(kind).2),
        AdminCall::Set(kind) => format!("Create or replace {} {}", names(kind).1, names(kind).2),
        AdminCall::Delete(Kind::Token) => "Revoke an admin token at once".into(),
        AdminCall::Delete(kind) => format!("Delete {} {}", names(kind).1, names(kind).2),
        AdminCall::CreateKey => "Create a virtual key; it is shown once".into(),
        AdminCall::RotateKey => "Replace a key; the old one works for a time of grace".into(),
        AdminCall::RevokeKey => "Revoke a key at once".into(),
        AdminCall::CreateToken => "Create an admin token; it is shown once".into(),
        AdminCall::Routing => {
            "The routing table in force, what its weights rest on, and the tables before it".into()
        }
        AdminCall::Freeze => "Keep the routing table in force, whatever is measured".into(),
        AdminCall::Resume => "End a freeze or pin: measurements decide again".into(),
        AdminCall::RollBack => "Pin the routing table before the one in force".into(),
        AdminCall::Pin => "Keep an earlier routing table, whatever is measured".into(),
    }
}

/// What all records of a kind are called, and one of them with its article.
const fn names(kind: Kind) -> (&'static str, &'static str, &'static str) {
    match kind {
        Kind::Key => ("virtual keys", "a", "virtual key"),
        Kind::Team => ("teams", "a", "team"),
        Kind::Limit => ("limits", "a", "limit"),
        Kind::Budget => (
            "budgets, with what is spent, reserved and left of them; of those that are counted \
             apart, the hundred that have least left",
            "a",
            "budget",
        ),
        Kind::Access => ("access rules", "an", "access rule"),
        Kind::Payload => (
            "rules on what is kept of prompts and answers",
            "a",
            "rule on payloads",
        ),
        Kind::Token => ("admin tokens", "an", "admin token"),
        Kind::Setting => ("settings", "a", "setting"),
    }
}

fn body(call: AdminCall, schemas: &mut SchemaGenerator) -> Option<Value> {
    fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Option<Value> {
        Some(schemas.subschema_for::<T>().to_value())
    }
    match call {
        AdminCall::CreateKey => of::<NewKey>(schemas),
        AdminCall::RotateKey => of::<Rotation>(schemas),
        AdminCall::CreateToken => of::<NewToken>(schemas),
        AdminCall::Pin => of::<Pin>(schemas),
        AdminCall::Set(Kind::Team) => of::<TeamRecord>(schemas),
        AdminCall::Set(Kind::Limit) => of::<LimitRecord>(schemas),
        AdminCall::Set(Kind::Budget) => of::<BudgetRecord>(schemas),
        AdminCall::Set(Kind::Access) => of::<AccessRecord>(schemas),
        AdminCall::Set(Kind::Payload) => of::<PayloadRecord>(schemas),
        _ => None,
    }
}
