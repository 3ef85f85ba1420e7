//! What is answered without a provider: the list of models, health, metrics.

use std::net::IpAddr;

use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use weir_dialects::{ClientApi, Family, ModelEntry, models_list};

use crate::request::pipeline;
use crate::request::refusal::{REQUEST_ID, Refusal, request_id_value};
use crate::request::relay::ResponseBody;
use crate::request::worker::Worker;
use weir_eventlog::PartStatus;
use weir_governance::clock::Moment;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

pub(crate) fn answer(
    worker: &Worker,
    client: IpAddr,
    request: &Request<Incoming>,
) -> Response<ResponseBody> {
    let path = request.uri().path();
    let answered = match (request.method(), path) {
        (&Method::GET | &Method::HEAD, "/v1/models") => models(worker, client, request),
        (&Method::GET | &Method::HEAD, path) if path.starts_with(MODEL) => {
            model(worker, client, request, &path[MODEL.len()..])
        }
        (&Method::GET | &Method::HEAD, "/" | "/livez") => Ok(whole(StatusCode::OK, TEXT, "ok\n")),
        (&Method::GET | &Method::HEAD, "/readyz") => Ok(ready(worker)),
        (&Method::GET | &Method::HEAD, "/metrics") => {
            let page = worker
                .shared
                .telemetry
                .page(&worker.shared.routing, &worker.shared.parts);
            Ok(whole(StatusCode::OK, METRICS, page))
        }
        (method, path) => Err(Refusal::nothing_there(
            method,
            path,
            allowed(path).is_some(),
        )),
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(refusal) => return refuse(request, refusal),
    };
    let id = pipeline::new_request_id(Moment::now());
    response
        .headers_mut()
        .insert(REQUEST_ID, request_id_value(id));
    response
}

/// Refuses what is no model call.
pub(crate) fn refuse(request: &Request<Incoming>, refusal: Refusal) -> Response<ResponseBody> {
    let path = request.uri().path();
    let family = Family::from_headers(request.headers());
    let response = refusal.response(family, pipeline::new_request_id(Moment::now()));
    let mut response = response.map(ResponseBody::from);
    if let (StatusCode::METHOD_NOT_ALLOWED, Some(methods)) = (response.status(), allowed(path)) {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(methods));
    }
    response
}

/// Methods that a path takes; none for a path that does not exist.
fn allowed(path: &str) -> Option<&'static str> {
    match path {
        "/" | "/livez" | "/readyz" | "/v1/models" | "/metrics" => Some("GET, HEAD"),
        path if path.starts_with(MODEL) => Some("GET, HEAD"),
        path => ClientApi::from_path(path).map(|_| "POST"),
    }
}

fn whole(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<bytes::Bytes>,
) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// What stands before the name of one alias.
const MODEL: &str = "/v1/models/";

/// One alias, if the key may use it.
fn model(
    worker: &Worker,
    client: IpAddr,
    request: &Request<Incoming>,
    name: &str,
) -> Result<Response<ResponseBody>, Refusal> {
    let (headers, now) = (request.headers(), Moment::now());
    let identity = pipeline::authenticate(worker, client, headers, now, false)?;
    pipeline::may_call(&worker.shared.config, &identity, client)?;
    let id = percent_decode_str(name).decode_utf8_lossy();
    pipeline::resolve(&worker.shared.routing.load_directory(), &identity, &id)?;
    let body = weir_dialects::model(&entry(&id));
    Ok(whole(StatusCode::OK, JSON, body))
}

const fn entry(id: &str) -> ModelEntry<'_> {
    ModelEntry {
        id,
        owned_by: "weir",
        created_s: 0,
    }
}

/// The aliases that the key may use.
fn models(
    worker: &Worker,
    client: IpAddr,
    request: &Request<Incoming>,
) -> Result<Response<ResponseBody>, Refusal> {
    let (headers, now) = (request.headers(), Moment::now());
    let identity = pipeline::authenticate(worker, client, headers, now, false)?;
    pipeline::may_call(&worker.shared.config, &identity, client)?;
    let directory = worker.shared.routing.load_directory();
    let entries: Vec<ModelEntry<'_>> = directory
        .names()
        .filter(|name| identity.may_use(name).is_ok())
        .map(entry)
        .collect();
    Ok(whole(StatusCode::OK, JSON, models_list(&entries)))
}

/// Whether requests are welcome: not while stopping, not while they could not be recorded, not without a
/// part that serves them. The other parts are told, and change nothing: serving goes on without them.
fn ready(worker: &Worker) -> Response<ResponseBody> {
    let parts = worker.shared.parts.statuses();
    let lost = parts.iter().find(|part| part.is_lost);
    let why_not = if *worker.shared.stopped.borrow() {
        Some("stopping".to_owned())
    } else if let Err(full) = worker.shared.journal.admit() {
        Some(full.to_string())
    } else {
        lost.map(|part| format!("{} ended", part.name))
    };
    let code = match why_not {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let page = ReadyPage {
        status: why_not.unwrap_or_else(|| "ready".to_owned()),
        parts: parts.into_iter().map(PartLine::from).collect(),
    };
    let page = serde_json::to_string(&page).unwrap_or_default() + "\n";
    whole(code, JSON, page)
}

#[derive(Serialize)]
struct ReadyPage {
    status: String,
    parts: Vec<PartLine>,
}

/// How one part fares.
#[derive(Serialize)]
struct PartLine {
    name: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    since: Option<String>,
    restarts: u64,
}

impl From<PartStatus> for PartLine {
    fn from(part: PartStatus) -> Self {
        let since_us = i64::try_from(part.since_us).unwrap_or(i64::MAX);
        let since = Timestamp::from_microsecond(since_us);
        Self {
            name: part.name.to_string(),
            state: part.state.as_str(),
            reason: part.reason,
            since: since.ok().map(|since| since.to_string()),
            restarts: part.restarts,
        }
    }
}
