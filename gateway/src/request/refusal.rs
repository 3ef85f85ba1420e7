//! Everything that can end a request before a provider answers it, and what the client is told.
//!
//! This is the one place where causes become responses.

use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, GetAll};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use weir_dialects::{ApiError, ApiErrorKind, BadRequest, ErrorResponse, Family, error_body};
use weir_eventlog::JournalFull;
use weir_limits::Class;
use weir_routing::{FailureKind, GiveUp};
use weir_schemas::RequestId;

use crate::caps::{CONNECTION_BUFFER_BYTES_MAX, REQUEST_HEADERS_MAX};
use crate::record::trail::RequestFailure;
use crate::record::unauthenticated::KeyVerdict;
use crate::setup::config::BudgetStatusCode;
use crate::setup::directory::NoSuchKey;
use weir_governance::control::{Identity, KeyRefusal, ModelDenied};

pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Characters of an unknown content coding that its refusal repeats.
const CODING_SHOWN_CHARS: usize = 64;

/// What a client is told whose request the end of the gateway cuts short.
pub(crate) const STOPPED: &str = "the gateway was stopped before the answer was complete";
const KEY_MISSING: &str = "no API key was sent; send it as \"Authorization: Bearer weir_…\" or \
                           \"x-api-key: weir_…\"";

/// Whom to ask where no contact is configured.
const KEY_ISSUER: &str = "the issuer of the key";

/// A request that is answered with an error.
#[derive(Debug)]
pub(crate) struct Refusal {
    stage: &'static str,
    /// The word that events and metrics carry, if not the one of the client's error.
    kind: Option<&'static str>,
    error: Box<ApiError<'static>>,
    /// The provider's own answer, which takes precedence.
    answer: Option<Box<ErrorResponse>>,
    /// Limit or budget that refused.
    rule: Option<String>,
    /// Headers beside the error.
    headers: Option<Box<HeaderMap>>,
    /// Whether it has no row of its own: see [`unauthenticated`](crate::record::unauthenticated).
    is_only_counted: bool,
}

impl Refusal {
    fn new(stage: &'static str, kind: ApiErrorKind, message: impl Into<String>) -> Self {
        Self::from_error(stage, ApiError::new(kind, message.into()))
    }

    fn from_error(stage: &'static str, error: ApiError<'static>) -> Self {
        Self {
            stage,
            kind: None,
            error: Box::new(error),
            answer: None,
            rule: None,
            headers: None,
            is_only_counted: false,
        }
    }

    /// The word for it in events and metrics, in the place of the client's error's own.
    fn counted_as(self, kind: &'static str) -> Self {
        let kind = Some(kind);
        Self { kind, ..self }
    }

    fn by_rule(self, rule: Option<String>) -> Self {
        Self { rule, ..self }
    }

    pub(crate) fn with_headers(self, headers: HeaderMap) -> Self {
        let headers = Some(Box::new(headers));
        Self { headers, ..self }
    }

    /// For a call without a valid key.
    pub(crate) fn unauthenticated(refusal: Option<KeyRefusal>, verdict: KeyVerdict) -> Self {
        let message = refusal.map_or_else(|| KEY_MISSING.to_owned(), |refusal| refusal.to_string());
        let KeyVerdict::Limited { retry_after } = verdict else {
            return Self {
                is_only_counted: verdict == KeyVerdict::Counted,
                ..Self::new("authenticate", ApiErrorKind::InvalidApiKey, message)
            };
        };
        let message = format!(
            "{message}. Too many such requests came from this address: try again in {} s",
            retry_after.as_secs().max(1)
        );
        let error = ApiError::new(ApiErrorKind::RateLimited, message).with_retry_after(retry_after);
        Self {
            is_only_counted: true,
            ..Self::from_error("authenticate", error).counted_as("unauthenticated")
        }
    }

    pub(crate) fn journal_full(full: JournalFull) -> Self {
        let message = format!("requests are not accepted while they cannot be recorded: {full}");
        Self::new("admit", ApiErrorKind::Overloaded, message).counted_as("journal_full")
    }

    pub(crate) fn body_too_large(bytes_max: usize) -> Self {
        let message =
            format!("the request body is larger than {bytes_max} bytes ([gateway] body_bytes_max)");
        Self::new("receive", ApiErrorKind::BodyTooLarge, message)
    }

    pub(crate) fn body_timeout(timeout_ms: u64) -> Self {
        let message = format!("the request body did not arrive within {timeout_ms} ms");
        Self::new("receive", ApiErrorKind::RequestTimeout, message)
    }

    pub(crate) fn body_broken(error: &hyper::Error) -> Self {
        let message = format!("the request body broke off: {error}");
        Self::new("receive", ApiErrorKind::InvalidRequest, message)
    }

    /// For a body that is compressed in a way that is not unpacked here.
    pub(crate) fn coding_unknown(codings: GetAll<'_, HeaderValue>) -> Self {
        const KNOWN: &str = "gzip, deflate, zstd";
        let codings = codings.iter().map(|coding| coding.to_str().unwrap_or("?"));
        let coding: String = codings.collect::<Vec<_>>().join(", ");
        let coding: String = coding.chars().take(CODING_SHOWN_CHARS).collect();
        let message =
            format!("a request body with content-encoding \"{coding}\" is not read; send {KNOWN}");
        let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(KNOWN))]);
        Self::with_status(415, "unsupported_content_encoding", message).with_headers(headers)
    }

    pub(crate) fn coding_broken(error: &impl Display) -> Self {
        let message = format!("the request body cannot be unpacked: {error}");
        Self::new("receive", ApiErrorKind::InvalidRequest, message)
    }

    pub(crate) fn bad_request(bad: &BadRequest) -> Self {
        Self::from_error("inspect", bad.into())
    }

    pub(crate) fn model_not_found(model: &str, near: &[&str]) -> Self {
        Self::from_error("resolve", ApiError::model_not_found(model, near))
    }

    pub(crate) fn model_not_allowed(
        model: &str,
        identity: &Identity,
        denied: ModelDenied<'_>,
    ) -> Self {
        let key = identity.key_id();
        let why = denied.rule.map_or_else(
            || "not in the key's model list".to_owned(),
            |rule| format!("denied by the access rule \"{rule}\""),
        );
        let ask = denied.contact.unwrap_or(KEY_ISSUER);
        let message =
            format!("key {key} is not allowed to use model \"{model}\" ({why}); ask {ask}");
        let refusal = Self::new("resolve", ApiErrorKind::PermissionDenied, message);
        refusal.by_rule(denied.rule.map(str::to_owned))
    }

    /// For a client whose address is not among the networks of `list`.
    pub(crate) fn address_not_allowed(
        address: IpAddr,
        list: &str,
        rule: Option<&str>,
        contact: Option<&str>,
    ) -> Self {
        let ask = contact.unwrap_or(KEY_ISSUER);
        let message =
            format!("the address {address} is not in the networks of {list}; ask {ask} to add it");
        Self::new("authenticate", ApiErrorKind::PermissionDenied, message)
            .counted_as("address_not_allowed")
            .by_rule(rule.map(str::to_owned))
    }

    pub(crate) fn wrong_environment(identity: &Identity, environment: &str) -> Self {
        let key = identity.key_id();
        let of_key = identity.environment().unwrap_or("none");
        let message = format!(
            "key {key} is for the environment \"{of_key}\", but this gateway serves \"{environment}\""
        );
        Self::new("authenticate", ApiErrorKind::PermissionDenied, message)
            .counted_as("wrong_environment")
    }

    /// For when every provider's limit is used up, as far as this request may use it.
    pub(crate) fn provider_limit(alias: &str, class: Class, wait: Duration) -> Self {
        let whose = match class {
            Class::Interactive => "",
            Class::Batch => " for batch requests",
        };
        let message = format!(
            "the rate limits of all providers of \"{alias}\" are used up{whose}; try again in {:.1} s",
            wait.as_secs_f64()
        );
        let error = ApiError::new(ApiErrorKind::RateLimited, message).with_retry_after(wait);
        Self::from_error("route", error).counted_as("provider_limit")
    }

    /// For a team whose own key is missing. Another key is never used in its place.
    pub(crate) fn provider_key_missing(identity: &Identity, missing: NoSuchKey<'_>) -> Self {
        let NoSuchKey { provider, label } = missing;
        let team = identity.team().unwrap_or_default();
        let ask = identity.policy().contact.as_deref();
        let ask = ask.unwrap_or("the operator of the gateway");
        let message = format!(
            "the team \"{team}\" uses its own key \"{label}\" for \"{provider}\", but the gateway \
             has no key of that name ([[provider]] team_keys); ask {ask}"
        );
        Self::new("route", ApiErrorKind::Overloaded, message).counted_as("provider_key_missing")
    }

    pub(crate) fn rate_limited(rule: String, message: String, wait: Duration) -> Self {
        let error = ApiError::new(ApiErrorKind::RateLimited, message).with_retry_after(wait);
        Self::from_error("admit", error).by_rule(Some(rule))
    }

    pub(crate) fn budget_exhausted(
        rule: String,
        message: String,
        wait: Option<Duration>,
        status: BudgetStatusCode,
    ) -> Self {
        let mut error = ApiError::new(ApiErrorKind::BudgetExceeded, message);
        error.retry_after = wait;
        error.status = Some(status.get());
        let refusal = Self::from_error("admit", error).counted_as("budget_exhausted");
        refusal.by_rule(Some(rule))
    }

    /// For a call without a price under a budget in money.
    pub(crate) fn unpriced(rule: String, message: String) -> Self {
        let refusal = Self::new("admit", ApiErrorKind::PermissionDenied, message);
        refusal.counted_as("unpriced").by_rule(Some(rule))
    }

    /// For a call that nothing bounds under a hard budget.
    pub(crate) fn unbounded(rule: String, message: String) -> Self {
        let refusal = Self::new("admit", ApiErrorKind::PermissionDenied, message);
        refusal.counted_as("unbounded").by_rule(Some(rule))
    }

    /// For when no attempt could be made.
    pub(crate) fn no_deployment(alias: &str, reason: GiveUp) -> Self {
        let message = format!("no deployment of \"{alias}\" can take the request: {reason}");
        Self::new("route", ApiErrorKind::Overloaded, message).counted_as(reason.as_str())
    }

    /// For when the last attempt has failed, as its provider's own `answer` puts it, if there is one.
    pub(crate) fn attempt_failed(
        kind: FailureKind,
        error: ApiError<'static>,
        answer: Option<Box<ErrorResponse>>,
    ) -> Self {
        let refusal = Self::from_error("attempt", error).counted_as(kind.as_str());
        Self { answer, ..refusal }
    }

    /// For when the request was refused and even that could not be recorded. Clients are not told where
    /// the journal is.
    pub(crate) fn not_recorded(error: impl Display) -> Self {
        tracing::error!(%error, "failed to record a refusal");
        let message = "requests are not accepted while they cannot be recorded";
        Self::new("emit", ApiErrorKind::Overloaded, message)
    }

    /// For a connection beyond the limit.
    pub(crate) fn too_many_connections(connections_max: usize) -> Self {
        let message = format!(
            "all {connections_max} connections are in use ([gateway] connections_max, within the limit \
             of file descriptors); try again"
        );
        let error = ApiError {
            status: Some(StatusCode::SERVICE_UNAVAILABLE.as_u16()),
            ..ApiError::new(ApiErrorKind::Overloaded, message)
        };
        Self::from_error("receive", error.with_retry_after(Duration::from_secs(1)))
    }

    /// For a request that is under way when the time to finish is over.
    pub(crate) fn stopped() -> Self {
        Self::new("relay", ApiErrorKind::Overloaded, STOPPED).counted_as("shutdown")
    }

    pub(crate) fn head_timeout(timeout_ms: u64) -> Self {
        let message = format!("the request's headers did not arrive within {timeout_ms} ms");
        Self::new("receive", ApiErrorKind::RequestTimeout, message)
    }

    pub(crate) fn head_too_large() -> Self {
        let message = format!(
            "the request's headers are more than {REQUEST_HEADERS_MAX}, or take more than \
             {CONNECTION_BUFFER_BYTES_MAX} bytes"
        );
        Self::with_status(431, "headers_too_large", message)
    }

    pub(crate) fn uri_too_long() -> Self {
        let message =
            format!("the request line takes more than {CONNECTION_BUFFER_BYTES_MAX} bytes");
        Self::with_status(414, "uri_too_long", message)
    }

    pub(crate) fn no_http() -> Self {
        let message = "the request is not valid HTTP/1.1";
        Self::new("receive", ApiErrorKind::InvalidRequest, message)
    }

    /// For a request that no kind of error has the status of.
    fn with_status(status: u16, code: &'static str, message: String) -> Self {
        let error = ApiError {
            status: Some(status),
            code: Some(code.into()),
            ..ApiError::new(ApiErrorKind::InvalidRequest, message)
        };
        Self::from_error("receive", error)
    }

    pub(crate) fn bad_host(problem: &str) -> Self {
        Self::new("receive", ApiErrorKind::InvalidRequest, problem)
    }

    /// For a path that does not exist, or not with that method.
    pub(crate) fn nothing_there(method: &http::Method, path: &str, path_exists: bool) -> Self {
        if path_exists {
            let message = format!("{method} is not allowed on {path}");
            return Self::new("receive", ApiErrorKind::MethodNotAllowed, message);
        }
        let message = format!("there is no {path}");
        Self::new("receive", ApiErrorKind::UnknownPath, message)
    }

    pub(crate) const fn is_only_counted(&self) -> bool {
        self.is_only_counted
    }

    /// The rule that refused, if one did.
    pub(crate) fn rule(&self) -> Option<&str> {
        self.rule.as_deref()
    }

    pub(crate) fn status(&self, family: Family) -> StatusCode {
        let answer = self.answer.as_ref();
        let status = answer.map_or_else(|| self.error.status(family), |answer| answer.status);
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The failure as events carry it.
    pub(crate) fn failure(&self) -> RequestFailure {
        RequestFailure {
            stage: self.stage,
            kind: self.kind.unwrap_or_else(|| self.error.kind.code()),
            message: self.error.message.clone().into_owned(),
        }
    }

    pub(crate) fn response(self, family: Family, request_id: RequestId) -> Response<Bytes> {
        let status = self.status(family);
        let (headers, body) = match self.answer {
            Some(answer) => (answer.headers, answer.body),
            None => error_body(family, &self.error.with_request_id(&request_id.to_string())),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        if let Some(told) = self.headers {
            response.headers_mut().extend(*told);
        }
        let id = request_id_value(request_id);
        response.headers_mut().insert(REQUEST_ID, id);
        response
    }
}

/// A request's id as a header.
pub(crate) fn request_id_value(request_id: RequestId) -> HeaderValue {
    let mut text = [0; 36];
    let text = request_id.as_uuid().hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
