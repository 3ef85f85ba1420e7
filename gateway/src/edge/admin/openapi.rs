//! The OpenAPI document of the admin API.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{AdminCall, CALLS, NewKey, NewToken, PREFIX, Rotation};
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
    for (method, path, call, summary) in CALLS {
        let operation = operation(path, call, summary, &mut schemas);
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
            "description": "Keys, teams, limits, budgets, access rules and tokens. Every change is \
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

fn operation(path: &str, call: AdminCall, summary: &str, schemas: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "summary": summary,
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

fn body(call: AdminCall, schemas: &mut SchemaGenerator) -> Option<Value> {
    fn of<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Option<Value> {
        Some(schemas.subschema_for::<T>().to_value())
    }
    match call {
        AdminCall::CreateKey => of::<NewKey>(schemas),
        AdminCall::RotateKey => of::<Rotation>(schemas),
        AdminCall::CreateToken => of::<NewToken>(schemas),
        AdminCall::Set(Kind::Team) => of::<TeamRecord>(schemas),
        AdminCall::Set(Kind::Limit) => of::<LimitRecord>(schemas),
        AdminCall::Set(Kind::Budget) => of::<BudgetRecord>(schemas),
        AdminCall::Set(Kind::Access) => of::<AccessRecord>(schemas),
        AdminCall::Set(Kind::Payload) => of::<PayloadRecord>(schemas),
        _ => None,
    }
}
