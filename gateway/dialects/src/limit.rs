//! The limit on an answer's tokens that the gateway sets: it is written into the client's own request,
//! before that is made the provider's.

use bytes::Bytes;

use crate::api::{ClientApi, UpstreamApi};
use crate::bound::OUTPUT_TOKENS_UNKNOWN;
use crate::entries::entries_of;
use crate::inspect::{RequestFacts, inspect};
use crate::json::{self, Object, Path};
use crate::request::ClientRequest;
use crate::splice::{Edit, remove, splice};
use crate::target::Target;

/// A client's request with the one limit that is to be sent.
pub(crate) struct LimitedRequest {
    pub(crate) body: Bytes,
    pub(crate) facts: RequestFacts,
    /// What beside the limit had to change.
    pub(crate) dropped: Option<&'static str>,
}

/// The request with its limit, if that is not the client's own, or if the client has two of them.
pub(crate) fn limited(
    request: &ClientRequest<'_>,
    target: &Target<'_>,
    upstream: UpstreamApi,
) -> Option<LimitedRequest> {
    let facts = request.facts;
    let limits = &facts.spans.token_limits;
    let own = facts.max_output_tokens;
    let is_lower = |limit: &u64| own.is_none_or(|own| own > *limit);
    let set = request.output_limit.filter(is_lower);
    let has_answer = !matches!(request.api, ClientApi::Embeddings | ClientApi::CountTokens);
    if !has_answer || set.is_none() && limits.len() < 2 {
        return None;
    }
    let limit = match set {
        Some(limit) => fitting(limit, own, target, upstream),
        None => own?,
    };
    let field = field(request.api, target, upstream);
    let text = std::str::from_utf8(request.body).ok()?;
    let (body, dropped) = rewritten(text, request, field, limit)?;
    let facts = inspect(request.api, &body).ok()?;
    Some(LimitedRequest {
        body,
        facts,
        dropped,
    })
}

/// A limit as the target takes it.
fn fitting(limit: u64, own: Option<u64>, target: &Target<'_>, upstream: UpstreamApi) -> u64 {
    let most = target.generation.output_tokens_max;
    let most = most.unwrap_or(match own {
        // What the client asks for is known to fit.
        Some(own) => own,
        None => OUTPUT_TOKENS_UNKNOWN,
    });
    limit
        .min(most)
        .max(target.vendor.output_tokens_min(upstream))
}

/// The field that the provider obeys, or one that is translated into it.
fn field(api: ClientApi, target: &Target<'_>, upstream: UpstreamApi) -> &'static str {
    match api {
        ClientApi::Messages => "max_tokens",
        ClientApi::Responses => "max_output_tokens",
        _ if upstream == UpstreamApi::ChatCompletions && target.generation.old_token_limit => {
            target.vendor.chat.max_tokens
        }
        _ => "max_completion_tokens",
    }
}

fn rewritten(
    text: &str,
    request: &ClientRequest<'_>,
    field: &str,
    limit: u64,
) -> Option<(Bytes, Option<&'static str>)> {
    let limits = &request.facts.spans.token_limits;
    let entries = entries_of(text, text);
    let mut edits = Vec::new();
    let is_limit: Vec<bool> = entries
        .iter()
        .map(|entry| limits.contains(&entry.value))
        .collect();
    let mut kept = entries.iter().zip(&is_limit);
    let kept = kept.position(|(entry, is_limit)| *is_limit && entry.key == field);
    if let Some(kept) = kept {
        edits.push(Edit::new(entries[kept].value.clone(), limit.to_string()));
    } else {
        let at = text.find('{')? + 1;
        edits.push(Edit::insert(
            at,
            format!("{}:{limit},", json::quoted(field)),
        ));
    }
    let spans: Vec<_> = entries.iter().map(|entry| entry.all.clone()).collect();
    let goes = is_limit.iter().enumerate();
    let removed: Vec<bool> = goes.map(|(at, is)| *is && Some(at) != kept).collect();
    edits.extend(remove(&spans, &removed));
    let mut dropped = None;
    if request.api == ClientApi::Messages {
        let thinking = entries.iter().find(|entry| entry.key == "thinking");
        let lowered = thinking.and_then(|entry| {
            let with = lowered_thinking(&text[entry.value.clone()], limit)?;
            Some(Edit::new(entry.value.clone(), with))
        });
        dropped = lowered.as_ref().map(|_| "thinking");
        edits.extend(lowered);
    }
    Some((splice(request.body, edits).to_bytes(), dropped))
}

/// Least budget for thinking that Claude takes.
const THINKING_TOKENS_MIN: u64 = 1024;

/// Thinking whose budget is below a limit on the whole answer, as Claude demands; without room for it, none.
fn lowered_thinking(raw: &str, limit: u64) -> Option<String> {
    let mut thinking = Object::read(raw, Path::ROOT).ok()?;
    let budget = thinking.count("budget_tokens").ok()??;
    if budget < limit {
        return None;
    }
    Some(if limit > THINKING_TOKENS_MIN {
        format!(r#"{{"type":"enabled","budget_tokens":{}}}"#, limit - 1)
    } else {
        r#"{"type":"disabled"}"#.to_owned()
    })
}
