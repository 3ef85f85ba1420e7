//! The admin API: `/admin/v1` on the gateway's own port.
//!
//! JSON in and out. Whoever calls shows an admin token, which has a role; every change is an event
//! with the token's name as its actor, and in force at this gateway when the call returns. The
//! OpenAPI document at `/admin/v1/openapi.json` is made of the same table that calls are looked up
//! in.

mod openapi;
mod routing;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use weir_dialects::Family;
use weir_limits::{BudgetBalance, BudgetUnit, Class};

use crate::caps::{ADMIN_BODY_BYTES_MAX, STANDINGS_LISTED_MAX};
use crate::record::unauthenticated::{KeyFault, KeyVerdict};
use crate::request::pipeline;
use crate::request::refusal::{REQUEST_ID, request_id_value};
use crate::request::relay::ResponseBody;
use crate::request::request_body;
use crate::request::worker::Worker;
use weir_governance::clock::Moment;
use weir_governance::control::Snapshot;
use weir_governance::control::change::{Act, ChangeError};
use weir_governance::control::key::{HashKey, KeyId, NoRandomness};
use weir_governance::control::network::Network;
use weir_governance::control::policy::shown;
use weir_governance::control::record::{
    AdminRole, Change, KeyRecord, Kind, Record, TokenRecord, Usd,
};
use weir_schemas::table::TableCommand;

pub(crate) const PREFIX: &str = "/admin/v1";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What can be called. `{id}` stands for one segment.
pub(super) const CALLS: [(&str, &str, AdminCall); 35] = [
    ("GET", "/openapi.json", AdminCall::OpenApi),
    ("GET", "/self", AdminCall::Myself),
    ("GET", "/keys", AdminCall::List(Kind::Key)),
    ("POST", "/keys", AdminCall::CreateKey),
    ("GET", "/keys/{id}", AdminCall::Read(Kind::Key)),
    ("POST", "/keys/{id}/rotate", AdminCall::RotateKey),
    ("DELETE", "/keys/{id}", AdminCall::RevokeKey),
    ("GET", "/teams", AdminCall::List(Kind::Team)),
    ("GET", "/teams/{id}", AdminCall::Read(Kind::Team)),
    ("PUT", "/teams/{id}", AdminCall::Set(Kind::Team)),
    ("DELETE", "/teams/{id}", AdminCall::Delete(Kind::Team)),
    ("GET", "/limits", AdminCall::List(Kind::Limit)),
    ("GET", "/limits/{id}", AdminCall::Read(Kind::Limit)),
    ("PUT", "/limits/{id}", AdminCall::Set(Kind::Limit)),
    ("DELETE", "/limits/{id}", AdminCall::Delete(Kind::Limit)),
    ("GET", "/budgets", AdminCall::List(Kind::Budget)),
    ("GET", "/budgets/{id}", AdminCall::Read(Kind::Budget)),
    ("PUT", "/budgets/{id}", AdminCall::Set(Kind::Budget)),
    ("DELETE", "/budgets/{id}", AdminCall::Delete(Kind::Budget)),
    ("GET", "/access", AdminCall::List(Kind::Access)),
    ("GET", "/access/{id}", AdminCall::Read(Kind::Access)),
    ("PUT", "/access/{id}", AdminCall::Set(Kind::Access)),
    ("DELETE", "/access/{id}", AdminCall::Delete(Kind::Access)),
    ("GET", "/payloads", AdminCall::List(Kind::Payload)),
    ("GET", "/payloads/{id}", AdminCall::Read(Kind::Payload)),
    ("PUT", "/payloads/{id}", AdminCall::Set(Kind::Payload)),
    ("DELETE", "/payloads/{id}", AdminCall::Delete(Kind::Payload)),
    ("GET", "/tokens", AdminCall::List(Kind::Token)),
    ("POST", "/tokens", AdminCall::CreateToken),
    ("DELETE", "/tokens/{id}", AdminCall::Delete(Kind::Token)),
    ("GET", "/routing", AdminCall::Routing),
    ("POST", "/routing/freeze", AdminCall::Freeze),
    ("POST", "/routing/resume", AdminCall::Resume),
    ("POST", "/routing/rollback", AdminCall::RollBack),
    ("POST", "/routing/pin", AdminCall::Pin),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminCall {
    OpenApi,
    Myself,
    List(Kind),
    Read(Kind),
    Set(Kind),
    Delete(Kind),
    CreateKey,
    RotateKey,
    RevokeKey,
    CreateToken,
    Routing,
    Freeze,
    Resume,
    RollBack,
    Pin,
}

/// What a new key is to be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    team: String,
    organisation: Option<String>,
    project: Option<String>,
    user: Option<String>,
    environment: Option<String>,
    tier: Option<String>,
    /// Aliases that it may use; all if empty.
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    models_denied: Vec<String>,
    /// Networks that it may be used from; all if empty.
    #[serde(default)]
    networks: Vec<Network>,
    #[serde(default)]
    class: Class,
    expires_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    /// How long the old key still works; a day unless set.
    grace_ms: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewToken {
    /// Name of whoever holds it.
    id: String,
    role: AdminRole,
    /// With the role `team_owner`: which team.
    team: Option<String>,
    expires_ms: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
    /// Version of a routing table that is kept.
    version: u64,
}

/// Why a call is not done.
#[derive(Debug)]
struct Problem {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            retry_after: None,
        }
    }

    /// For a call without a valid token.
    fn unauthenticated(message: &str, verdict: KeyVerdict) -> Self {
        match verdict {
            KeyVerdict::Row | KeyVerdict::Counted => {
                Self::new(StatusCode::UNAUTHORIZED, "invalid_token", message)
            }
            KeyVerdict::Limited { retry_after } => Self {
                retry_after: Some(retry_after),
                ..Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", message)
            },
        }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    fn not_found(kind: Kind, id: &str) -> Self {
        let message = format!("there is no {kind} \"{id}\"");
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    fn forbidden(caller: &AdminCaller, what: &str) -> Self {
        let role = caller.role.as_str();
        let message = format!(
            "the role {role} of token \"{}\" may not {what}",
            caller.name
        );
        Self::new(StatusCode::FORBIDDEN, "permission_denied", message)
    }
}

impl From<NoRandomness> for Problem {
    fn from(error: NoRandomness) -> Self {
        let (status, code) = (StatusCode::INTERNAL_SERVER_ERROR, "internal_error");
        Self::new(status, code, error.to_string())
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Invalid { .. } => Self::invalid(error.to_string()),
            ChangeError::NotInForce => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not_in_force",
                error.to_string(),
            ),
            ChangeError::NotFollowed(_) | ChangeError::Record(_) | ChangeError::Log(_) => {
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "not_changed",
                    format!("nothing was changed: {error}"),
                )
            }
        }
    }
}

/// Who calls, and what they may do.
#[derive(Clone, Debug)]
struct AdminCaller {
    name: String,
    role: AdminRole,
    team: Option<String>,
}

impl AdminCaller {
    /// Whether a record concerns the caller at all.
    fn may_see(&self, record: &Record) -> bool {
        match self.role {
            AdminRole::Admin | AdminRole::Auditor | AdminRole::Finance => true,
            AdminRole::TeamOwner => {
                let of_team = match record {
                    Record::Key(key) => key.team.as_deref(),
                    Record::Team(team) => Some(team.id.as_str()),
                    rule => rule.scope().and_then(|scope| scope.team.as_deref()),
                };
                of_team.is_some() && of_team == self.team.as_deref()
            }
        }
    }

    /// As events name the caller.
    fn actor(&self) -> String {
        format!("token:{}", self.name)
    }

    fn may_change(&self, record: &Record) -> bool {
        match self.role {
            AdminRole::Admin => true,
            AdminRole::Auditor => false,
            AdminRole::Finance => record.kind() == Kind::Budget,
            AdminRole::TeamOwner => record.kind() == Kind::Key && self.may_see(record),
        }
    }
}

/// Answers a call below [`PREFIX`].
pub(crate) async fn answer(
    worker: &Arc<Worker>,
    client: IpAddr,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let request_id = pipeline::new_request_id(Moment::now());
    let path = request.uri().clone();
    let answered = call(worker, client, request).await;
    let (status, body, retry_after) = match answered {
        Ok(body) => (StatusCode::OK, body, None),
        Err(problem) => {
            let error = json!({ "code": problem.code, "message": problem.message });
            let body = json!({ "error": error });
            (problem.status, body, problem.retry_after)
        }
    };
    let mut response = Response::new(ResponseBody::from(bytes::Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(REQUEST_ID, request_id_value(request_id));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let methods = allowed(within(&path)).join(", ");
        headers.extend(HeaderValue::try_from(methods).map(|methods| (ALLOW, methods)));
    }
    if let Some(retry_after) = retry_after {
        headers.insert(RETRY_AFTER, retry_after.as_secs().max(1).into());
    }
    response
}

/// The path below [`PREFIX`].
fn within(uri: &Uri) -> &str {
    uri.path().strip_prefix(PREFIX).unwrap_or_default()
}

async fn call(
    worker: &Arc<Worker>,
    client: IpAddr,
    request: Request<Incoming>,
) -> Result<Value, Problem> {
    let (head, body) = request.into_parts();
    let (call, id) = find(&head.method, within(&head.uri))?;
    if call == AdminCall::OpenApi {
        return Ok(openapi::document());
    }
    let caller = authenticate(worker, &head.headers).map_err(|message| {
        let (fault, now) = (KeyFault::AdminToken, Moment::now());
        let verdict = worker.judge_unauthenticated(client, fault, now, false);
        Problem::unauthenticated(message, verdict)
    })?;
    let body = request_body::collect(body, ADMIN_BODY_BYTES_MAX)
        .await
        .map_err(|refusal| {
            let (status, failure) = (refusal.status(Family::OpenAi), refusal.failure());
            Problem::new(status, failure.kind, failure.message)
        })?;
    let desk = Desk {
        worker: worker.clone(),
        caller,
        now_ms: Moment::now().unix_ms(),
    };
    // A change waits for a disk, or for Kafka: not on the thread that serves requests.
    let done = tokio::task::spawn_blocking(move || desk.run(call, &id, &body)).await;
    done.unwrap_or_else(|_| {
        Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "the gateway failed on this call",
        ))
    })
}

/// The call that a method and path name, with the id in it.
fn find(method: &Method, path: &str) -> Result<(AdminCall, String), Problem> {
    let method = match method {
        // Hyper leaves the body out.
        &Method::HEAD => &Method::GET,
        method => method,
    };
    for (known_method, pattern, call) in CALLS {
        if *method == known_method
            && let Some(id) = matched(pattern, path)
        {
            return Ok((call, id));
        }
    }
    Err(if !allowed(path).is_empty() {
        let message = format!("{PREFIX}{path} does not take {method}");
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            message,
        )
    } else {
        let message = format!("there is nothing at {PREFIX}{path}; see {PREFIX}/openapi.json");
        Problem::new(StatusCode::NOT_FOUND, "unknown_url", message)
    })
}

/// Methods that a path takes.
fn allowed(path: &str) -> Vec<&'static str> {
    let calls = CALLS.iter();
    let takes = calls.filter(|(_, pattern, _)| matched(pattern, path).is_some());
    let methods = takes.map(|(method, ..)| *method);
    methods
        .flat_map(|method| match method {
            "GET" => vec!["GET", "HEAD"],
            method => vec![method],
        })
        .collect()
}

/// The id in a path that a pattern matches; empty for one without.
fn matched(pattern: &str, path: &str) -> Option<String> {
    let mut id = String::new();
    let (mut wanted, mut found) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (None, None) => return Some(id),
            (Some("{id}"), Some(segment)) if !segment.is_empty() => {
                id = percent_decode_str(segment).decode_utf8_lossy().into_owned();
            }
            (Some(wanted), Some(found)) if wanted == found => {}
            _ => return None,
        }
    }
}

fn authenticate(worker: &Worker, headers: &HeaderMap) -> Result<AdminCaller, &'static str> {
    let presented = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .ok_or("send an admin token as \"Authorization: Bearer weir_admin_…\"")?;
    let shared = &worker.shared;
    let hash_key = &shared.control.control().hash_key;
    let built_in = |name: &str, role| AdminCaller {
        name: name.into(),
        role,
        team: None,
    };
    if let Some(configured) = &shared.config.admin_token
        && hash_key.same(presented, configured.expose())
    {
        return Ok(built_in("configured", AdminRole::Admin));
    }
    if hash_key.same(presented, &hash_key.reader_token()) {
        return Ok(built_in("reader", AdminRole::Auditor));
    }
    let control = shared.control.load();
    let token = control
        .token(hash_key, presented, Moment::now().unix_ms())
        .ok_or("the admin token is unknown or has expired")?;
    Ok(AdminCaller {
        name: token.id.clone(),
        role: token.role,
        team: token.team.clone(),
    })
}

/// One call, by somebody who is known.
struct Desk {
    worker: Arc<Worker>,
    caller: AdminCaller,
    now_ms: u64,
}

impl Desk {
    fn run(&self, call: AdminCall, id: &str, body: &[u8]) -> Result<Value, Problem> {
        match call {
            AdminCall::OpenApi => Ok(openapi::document()),
            AdminCall::Myself => Ok(json!({
                "name": self.caller.name,
                "role": self.caller.role.as_str(),
                "team": self.caller.team,
            })),
            AdminCall::List(kind) => Ok(self.list(kind)),
            AdminCall::Read(kind) => {
                let record = self.record(kind, id)?;
                Ok(self.shown(&self.snapshot(), &record, usize::MAX))
            }
            AdminCall::Set(kind) => self.set(kind, id, body),
            AdminCall::Delete(kind) => {
                let before = self.record(kind, id)?;
                self.change("delete", &before, Change::gone(kind, id.to_owned()))?;
                Ok(json!({ "id": id, "deleted": true }))
            }
            AdminCall::CreateKey => self.create_key(parse(body)?),
            AdminCall::RotateKey => self.rotate_key(id, parse(body)?),
            AdminCall::RevokeKey => self.revoke_key(id),
            AdminCall::CreateToken => self.create_token(parse(body)?),
            AdminCall::Routing => self.routing(),
            AdminCall::Freeze => self.command_tables("freeze", TableCommand::Freeze),
            AdminCall::Resume => self.command_tables("resume", TableCommand::Resume),
            AdminCall::RollBack => self.command_tables("roll back", TableCommand::RollBack),
            AdminCall::Pin => {
                let Pin { version } = parse(body)?;
                self.command_tables("pin", TableCommand::Pin { version })
            }
        }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.worker.shared.control.load_full()
    }

    fn list(&self, kind: Kind) -> Value {
        let snapshot = self.snapshot();
        let records: Vec<Record> = match kind {
            Kind::Key => snapshot
                .keys()
                .iter()
                .map(|key| Record::Key(key.record()))
                .collect(),
            kind => snapshot
                .records(kind)
                .map(|record| Record::clone(record))
                .collect(),
        };
        let seen = records.iter().filter(|record| self.caller.may_see(record));
        let shown = seen.map(|record| self.shown(&snapshot, record, STANDINGS_LISTED_MAX));
        json!({ "data": shown.collect::<Vec<_>>() })
    }

    /// A record, with what is known of it beside what it says.
    fn shown(&self, snapshot: &Snapshot, record: &Record, standings_max: usize) -> Value {
        let mut value = record.public();
        match record {
            Record::Key(key) => {
                let known = snapshot.key(key.id);
                let last = known.and_then(|key| key.last_use());
                value["last_used_ms"] = last.map(|last| last.at_ms).into();
                value["last_used_from"] = last.map(|last| last.address.to_string()).into();
            }
            Record::Budget(budget) => {
                value["standings"] = self.standings(snapshot, &budget.id, standings_max);
            }
            _ => {}
        }
        value
    }

    /// What is spent, reserved and left of a budget, by those for whom it is counted apart: the least
    /// left first.
    fn standings(&self, snapshot: &Snapshot, id: &str, max: usize) -> Value {
        let Some(budget) = snapshot.rules().budgets.get(id) else {
            return Value::Null;
        };
        let text = |amount| match budget.terms.spec.unit {
            BudgetUnit::PicoUsd => Usd(amount).to_string(),
            BudgetUnit::Tokens => u128::to_string(&amount),
        };
        let all = budget.counters.all().into_iter();
        let mut all: Vec<(Box<str>, BudgetBalance)> = all
            .map(|(subject, purse)| {
                (
                    subject,
                    purse.standing(&budget.terms.spec, self.now_ms * 1000),
                )
            })
            .collect();
        all.sort_by(|(one, a), (other, b)| b.committed().cmp(&a.committed()).then(one.cmp(other)));
        let shown = all.into_iter().take(max).map(|(subject, standing)| {
            let remaining = budget.terms.spec.limit.saturating_sub(standing.committed());
            json!({
                "subject": shown(&subject),
                "spent": text(standing.spent),
                "reserved": text(standing.reserved),
                "remaining": text(remaining),
                "per_hour": text(standing.per_hour),
                "ends": standing
                    .ends_ms(budget.terms.spec.limit, self.now_ms)
                    .map(weir_limits::rfc3339),
                "resets": standing.resets_ms.map(weir_limits::rfc3339),
            })
        });
        shown.collect()
    }

    /// A record that the caller may know of.
    fn record(&self, kind: Kind, id: &str) -> Result<Record, Problem> {
        let record = self.snapshot().record(kind, id);
        record
            .filter(|record| self.caller.may_see(record))
            .ok_or_else(|| Problem::not_found(kind, id))
    }

    fn key(&self, id: &str) -> Result<KeyRecord, Problem> {
        match self.record(Kind::Key, id)? {
            Record::Key(key) => Ok(key),
            _ => Err(Problem::not_found(Kind::Key, id)),
        }
    }

    fn check_may(&self, action: &str, record: &Record) -> Result<(), Problem> {
        if self.caller.may_change(record) {
            return Ok(());
        }
        let what = format!("{action} the {} \"{}\"", record.kind(), record.id());
        Err(Problem::forbidden(&self.caller, &what))
    }

    /// Makes a change, if the caller may. `record` is what it is about.
    fn change(&self, action: &'static str, record: &Record, change: Change) -> Result<(), Problem> {
        self.check_may(action, record)?;
        let actor = self.caller.actor();
        let act = Act {
            actor: &actor,
            action,
            now_ms: self.now_ms,
        };
        let shared = &self.worker.shared;
        shared.control.change(&self.worker.stream, &act, change)?;
        Ok(())
    }

    fn set(&self, kind: Kind, id: &str, body: &[u8]) -> Result<Value, Problem> {
        let mut value: Value = parse(body)?;
        let named = value.get("id").is_none_or(|named| named == id);
        match value.as_object_mut() {
            Some(fields) if named => fields.insert("id".into(), id.into()),
            Some(_) => {
                return Err(Problem::invalid(
                    "the id in the body is not the one in the path",
                ));
            }
            None => return Err(Problem::invalid("the body must be a JSON object")),
        };
        let record = Record::parse(kind, &value.to_string())
            .map_err(|error| Problem::invalid(error.to_string()))?;
        let before = self.snapshot().record(kind, id);
        // What was there must be theirs to change, too.
        if let Some(before) = &before {
            self.check_may("update", before)?;
        }
        let action = if before.is_some() { "update" } else { "create" };
        self.change(action, &record, Change::set(record.clone()))?;
        Ok(record.public())
    }

    fn create_key(&self, new: NewKey) -> Result<Value, Problem> {
        // They say which limits hold: a team owner could leave those of the team behind by them.
        if self.caller.role == AdminRole::TeamOwner
            && (new.organisation.is_some() || new.tier.is_some())
        {
            let what = "give a key an organisation or a tier: it has those of its team";
            return Err(Problem::forbidden(&self.caller, what));
        }
        let (text, hash) = self.hash_key().new_key()?;
        let id = pipeline::new_request_id(Moment::now()).as_uuid();
        let record = Record::Key(KeyRecord {
            team: Some(new.team),
            organisation: new.organisation,
            project: new.project,
            user: new.user,
            environment: new.environment,
            tier: new.tier,
            models: new.models,
            models_denied: new.models_denied,
            networks: new.networks,
            class: new.class,
            expires_ms: new.expires_ms,
            ..KeyRecord::new(KeyId(id.as_u128()), hash, self.now_ms)
        });
        self.change("create", &record, Change::set(record.clone()))?;
        Ok(with(record.public(), "key", text))
    }

    fn rotate_key(&self, id: &str, rotation: Rotation) -> Result<Value, Problem> {
        let before = self.key(id)?;
        if before.revoked_ms.is_some() {
            return Err(Problem::invalid("the key was revoked; create another one"));
        }
        let (text, hash) = self.hash_key().new_key()?;
        let grace_ms = rotation.grace_ms.unwrap_or(DAY_MS);
        let after = Record::Key(before.rotated(hash, self.now_ms, grace_ms));
        self.change("rotate", &after, Change::set(after.clone()))?;
        Ok(with(after.public(), "key", text))
    }

    fn revoke_key(&self, id: &str) -> Result<Value, Problem> {
        let before = self.key(id)?;
        if before.revoked_ms.is_none() {
            let after = Record::Key(before.revoked(self.now_ms));
            self.change("revoke", &after, Change::set(after.clone()))?;
        }
        Ok(json!({ "id": id, "revoked": true }))
    }

    fn create_token(&self, new: NewToken) -> Result<Value, Problem> {
        if self.snapshot().record(Kind::Token, &new.id).is_some() {
            let message = format!("there is a token \"{}\" already; revoke it first", new.id);
            return Err(Problem::invalid(message));
        }
        let (text, hash) = self.hash_key().new_token()?;
        let record = Record::Token(TokenRecord {
            id: new.id,
            hash,
            role: new.role,
            team: new.team,
            created_ms: self.now_ms,
            expires_ms: new.expires_ms,
        });
        self.change("create", &record, Change::set(record.clone()))?;
        Ok(with(record.public(), "token", text))
    }

    fn hash_key(&self) -> &HashKey {
        &self.worker.shared.control.control().hash_key
    }
}

fn with(mut value: Value, name: &str, text: String) -> Value {
    value[name] = Value::String(text);
    value
}

/// A body; nothing at all stands for an empty object.
fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Problem> {
    let body = if body.trim_ascii().is_empty() {
        b"{}"
    } else {
        body
    };
    serde_json::from_slice(body).map_err(|error| Problem::invalid(format!("the body: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_found_by_method_and_path() {
        let found = |method: Method, path: &str| {
            find(&method, path).map_err(|problem| problem.status.as_u16())
        };
        assert_eq!(
            found(Method::GET, "/keys"),
            Ok((AdminCall::List(Kind::Key), String::new()))
        );
        assert_eq!(
            found(Method::POST, "/keys/a/rotate"),
            Ok((AdminCall::RotateKey, "a".into()))
        );
        assert_eq!(
            found(Method::PUT, "/budgets/a%20b"),
            Ok((AdminCall::Set(Kind::Budget), "a b".into()))
        );
        assert_eq!(found(Method::PUT, "/keys/a"), Err(405));
        assert_eq!(allowed("/keys/a"), ["GET", "HEAD", "DELETE"]);
        assert_eq!(
            found(Method::HEAD, "/keys"),
            Ok((AdminCall::List(Kind::Key), String::new()))
        );
        for path in ["", "/", "/keys/", "/keys/a/b/c", "/secrets", "//keys"] {
            assert_eq!(found(Method::GET, path), Err(404), "{path}");
        }
    }
}
