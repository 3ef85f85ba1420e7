//! Several answers at once: `n` of a chat request at Google.
//!
//! Each choice must be what its candidate would have been alone, whatever the others are, in whatever
//! order and pieces they come.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops at what it does not expect"
)]

use std::collections::BTreeSet;

use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Value, json};
use weir_dialects::{
    ApiError, ClientApi, ClientRequest, PrepareError, ResponseFacts, ResponseMachine, StreamError,
    Target, Unsupported, UpstreamRequest, inspect, prepare, vendors,
};

fn prepared(
    body: &Value,
    (vendor, model): (&str, &str),
    unsupported: Unsupported,
) -> Result<UpstreamRequest, PrepareError> {
    let body = Bytes::from(body.to_string());
    let facts = inspect(ClientApi::ChatCompletions, &body).unwrap();
    let request = ClientRequest {
        api: ClientApi::ChatCompletions,
        headers: &HeaderMap::new(),
        query: None,
        body: &body,
        facts: &facts,
        output_limit: None,
        request_id: "01a2",
        now_s: 1_700_000_000,
    };
    let target = Target::new(vendors::find(vendor).unwrap(), model);
    let target = Target {
        unsupported,
        ..target
    };
    prepare(&request, &target)
}

fn asking(count: u64, stream: bool) -> Value {
    json!({"model": "m", "n": count, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]})
}

type Row<'r> = ((&'r str, &'r str), bool, u64, Option<&'r str>, Option<u64>);

#[test]
fn google_is_asked_for_as_many_as_its_model_gives() {
    const FLASH: (&str, &str) = ("gemini", "gemini-2.5-flash");
    // Target, stream, `n`, what is refused, what is asked for instead.
    let rows: [Row<'_>; 17] = [
        (FLASH, false, 1, None, None),
        (FLASH, true, 1, None, None),
        (FLASH, false, 2, None, Some(2)),
        (FLASH, false, 8, None, Some(8)),
        (FLASH, false, 9, Some("n (more than 8)"), Some(8)),
        (FLASH, false, 0, Some("n"), None),
        (FLASH, true, 2, Some("n (in a stream)"), None),
        (("gemini", "gemini-2.5-pro"), false, 3, None, Some(3)),
        (("gemini", "gemini-2.0-flash-001"), false, 3, None, Some(3)),
        (
            ("gemini", "gemini-2.5-flash-image"),
            false,
            2,
            Some("n"),
            None,
        ),
        (("gemini", "gemini-3.5-flash"), false, 2, Some("n"), None),
        (("gemini", "gemini-5-neon"), false, 2, Some("n"), None),
        (("vertex", "gemini-3.5-flash"), false, 2, None, Some(2)),
        (
            ("vertex", "gemini-3.1-pro-preview"),
            true,
            2,
            Some("n (in a stream)"),
            None,
        ),
        (("vertex", "gemini-3-pro-image"), false, 2, Some("n"), None),
        (("anthropic", "claude-opus-5"), false, 2, Some("n"), None),
        (("openai-responses", "gpt-5.1"), false, 2, Some("n"), None),
    ];
    for (target, stream, count, refused, sent) in rows {
        let body = asking(count, stream);
        let told = prepared(&body, target, Unsupported::Refuse);
        let told = told
            .err()
            .map(|refusal| refusal.field().unwrap().to_owned());
        assert_eq!(told.as_deref(), refused, "{target:?} {body}");
        let upstream = prepared(&body, target, Unsupported::Drop).unwrap();
        let request: Value = serde_json::from_slice(&upstream.body.to_bytes()).unwrap();
        let asked = request["generationConfig"]["candidateCount"].as_u64();
        assert_eq!(asked, sent, "{target:?} {body}");
        assert_eq!(request["n"], Value::Null, "{target:?} {body}");
        assert_eq!(
            upstream.dropped,
            Vec::from_iter(refused),
            "{target:?} {body}"
        );
    }
}

#[derive(Debug)]
struct Outcome {
    answer: Result<Value, StreamError>,
    facts: ResponseFacts,
}

/// What a client that asked for so many choices gets of an answer.
fn answered<'a>(
    count: u64,
    is_stream: bool,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Outcome {
    let target = ("gemini", "gemini-2.5-flash");
    let upstream = prepared(&asking(count, false), target, Unsupported::Refuse).unwrap();
    let mut machine = ResponseMachine::new(&upstream.context, is_stream);
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(machine.push(Bytes::copy_from_slice(piece)).unwrap());
    }
    let answer = machine.finish().map(|rest| {
        out.extend(rest);
        serde_json::from_slice(&out).unwrap()
    });
    if answer.is_err() {
        let error = ApiError::new(weir_dialects::ApiErrorKind::ProviderError, "it broke");
        assert_eq!(machine.fail(&error), "");
    }
    Outcome {
        answer,
        facts: machine.into_facts(),
    }
}

fn body(candidates: &[Value]) -> Value {
    json!({
        "candidates": candidates,
        "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 40, "thoughtsTokenCount": 5, "totalTokenCount": 52},
        "modelVersion": "gemini-2.5-flash", "responseId": "r1",
    })
}

fn plain(count: u64, candidates: &[Value]) -> Outcome {
    answered(count, false, [body(candidates).to_string().as_bytes()])
}

/// The choices of an answer, without the ids that were made up for calls, which must differ.
fn choices(answer: &Value) -> Vec<Value> {
    let mut choices = answer["choices"].as_array().unwrap().clone();
    let mut ids = BTreeSet::new();
    for choice in &mut choices {
        for call in choice["message"]["tool_calls"]
            .as_array_mut()
            .into_iter()
            .flatten()
        {
            let id = call["id"].take();
            assert!(ids.insert(id.as_str().unwrap().to_owned()), "{answer}");
        }
    }
    choices
}

fn texts(answer: &Value) -> Vec<(u64, &str, &str)> {
    let choices = answer["choices"].as_array().unwrap().iter();
    choices
        .map(|choice| {
            (
                choice["index"].as_u64().unwrap(),
                choice["message"]["content"].as_str().unwrap_or("-"),
                choice["finish_reason"].as_str().unwrap(),
            )
        })
        .collect()
}

fn candidate(text: &str, reason: &str) -> Value {
    json!({"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": reason})
}

#[test]
fn each_candidate_becomes_a_choice_with_its_own_end() {
    let blocked = json!({"finishReason": "SAFETY", "index": 2});
    let mut calling = candidate("Let me look.", "STOP");
    calling["content"]["parts"] = json!([
        {"text": "Hm", "thought": true},
        {"text": "Let me look."},
        {"functionCall": {"name": "look", "args": {"at": 1}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "look", "args": {"at": 2}}}]);
    calling["index"] = json!(1);
    let candidates = [candidate("Hello.", "STOP"), calling, blocked, {
        let mut last = candidate("Hel", "MAX_TOKENS");
        last["index"] = json!(3);
        last
    }];
    let outcome = plain(4, &candidates);
    let answer = outcome.answer.unwrap();
    assert_eq!(
        texts(&answer),
        [
            (0, "Hello.", "stop"),
            (1, "Let me look.", "tool_calls"),
            (2, "-", "content_filter"),
            (3, "Hel", "length"),
        ]
    );
    let message = &answer["choices"][1]["message"];
    assert_eq!(message["reasoning_content"], "Hm");
    let calls = message["tool_calls"].as_array().unwrap();
    let arguments = calls.iter().map(|call| &call["function"]["arguments"]);
    assert_eq!(Vec::from_iter(arguments), [r#"{"at":1}"#, r#"{"at":2}"#]);
    assert_ne!(calls[0]["id"], calls[1]["id"]);
    // Tokens are of all of them.
    assert_eq!(answer["usage"]["completion_tokens"], 45);
    let usage = outcome.facts.usage.unwrap();
    assert_eq!(
        (usage.input_tokens, usage.output_tokens),
        (Some(7), Some(45))
    );
    assert!(answer.get("weir_dropped").is_none());
}

#[test]
fn only_what_was_asked_for_is_answered() {
    let three = ["a", "b", "c"].map(|text| candidate(text, "STOP"));
    for (count, expect) in [(1, 1), (2, 2), (3, 3), (8, 3)] {
        let answer = plain(count, &three).answer.unwrap();
        let expect = &[(0, "a", "stop"), (1, "b", "stop"), (2, "c", "stop")][..expect];
        assert_eq!(texts(&answer), expect, "{count}");
    }
}

#[test]
fn candidates_are_told_apart_however_they_are_numbered() {
    let numbered = |text: &str, index: Value| {
        let mut candidate = candidate(text, "STOP");
        candidate["index"] = index;
        candidate
    };
    for indexes in [
        [json!(0), json!(1), json!(2)],
        [json!(null), json!(1), json!(2)],
        [json!(null), json!(null), json!(null)],
        [json!(0), json!(0), json!(0)],
        [json!("0"), json!(-1), json!(99)],
    ] {
        let [a, b, c] = indexes.clone();
        let candidates = [numbered("a", a), numbered("b", b), numbered("c", c)];
        let answer = plain(3, &candidates).answer.unwrap();
        let expect = [(0, "a", "stop"), (1, "b", "stop"), (2, "c", "stop")];
        assert_eq!(texts(&answer), expect, "{indexes:?}");
    }
    let backwards = [numbered("b", json!(1)), numbered("a", json!(null))];
    let answer = plain(2, &backwards).answer.unwrap();
    assert_eq!(texts(&answer), [(0, "a", "stop"), (1, "b", "stop")]);
}

#[test]
fn an_unusable_candidate_is_left_out_and_listed_unless_there_is_no_other() {
    let bad =
        json!({"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "print(", "index": 0});
    let good = json!({"content": {"parts": [{"text": "b"}]}, "finishReason": "STOP", "index": 1});
    for candidates in [[bad.clone(), good.clone()], [good, bad.clone()]] {
        let answer = plain(2, &candidates).answer.unwrap();
        assert_eq!(texts(&answer), [(1, "b", "stop")]);
        assert_eq!(answer["weir_dropped"], json!(["choices[]"]));
    }
    for candidates in [vec![bad.clone()], vec![bad.clone(), bad]] {
        let outcome = plain(2, &candidates);
        let Err(StreamError::Provider(error)) = outcome.answer else {
            unreachable!("{outcome:?}");
        };
        assert!(
            error.message.contains("MALFORMED_FUNCTION_CALL"),
            "{error:?}"
        );
    }
}

fn part() -> impl Strategy<Value = Value> {
    let text = "[a-z \n\"]{1,6}";
    prop_oneof![
        text.prop_map(|text| json!({ "text": text })),
        text.prop_map(|text| json!({"text": text, "thought": true})),
        (text, any::<bool>()).prop_map(|(text, is_signed)| {
            let mut call = json!({"functionCall": {"name": "f", "args": {"a": text}}});
            if is_signed {
                call["thoughtSignature"] = json!("c2ln");
            }
            call
        }),
    ]
}

fn any_candidate() -> impl Strategy<Value = Value> {
    let reason = prop_oneof![
        4 => Just("STOP"),
        1 => Just("MAX_TOKENS"),
        1 => Just("SAFETY"),
        1 => Just("OTHER"),
        1 => Just("MALFORMED_FUNCTION_CALL"),
    ];
    let parts = prop::collection::vec(part(), 0..5);
    (parts, reason, any::<bool>()).prop_map(|(parts, reason, is_grounded)| {
        let mut candidate = json!({"finishReason": reason});
        if reason != "SAFETY" && reason != "MALFORMED_FUNCTION_CALL" {
            candidate["content"] = json!({"role": "model", "parts": parts});
        }
        if is_grounded {
            candidate["groundingMetadata"] = json!({
                "groundingChunks": [{"web": {"uri": "https://a.example/", "title": "A"}}],
                "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 1, "text": "x"}, "groundingChunkIndices": [0]}],
            });
        }
        candidate
    })
}

/// Candidates as a stream that says a part of one, then of another, in this order.
fn streamed(candidates: &[Value], order: &[prop::sample::Index]) -> String {
    let mut rest: Vec<Vec<Value>> = candidates.iter().map(in_pieces).collect();
    let mut order = order.iter().cycle();
    let mut stream = String::new();
    while rest.iter().any(|pieces| !pieces.is_empty()) {
        let waiting: Vec<&mut Vec<Value>> = rest
            .iter_mut()
            .filter(|pieces| !pieces.is_empty())
            .collect();
        let at = order.next().unwrap().index(waiting.len());
        let piece = waiting.into_iter().nth(at).unwrap().remove(0);
        stream.push_str(&format!("data: {}\n\n", body(&[piece])));
    }
    stream
}

fn in_pieces(candidate: &Value) -> Vec<Value> {
    let parts = candidate["content"]["parts"].as_array();
    let piece = |part: &Value| json!({"content": {"role": "model", "parts": [part]}, "index": candidate["index"]});
    let mut pieces: Vec<Value> = parts.into_iter().flatten().map(piece).collect();
    let mut last = candidate.clone();
    if !pieces.is_empty() {
        last["content"]["parts"] = json!([]);
    }
    pieces.push(last);
    pieces
}

proptest! {
    #[test]
    fn a_choice_is_what_its_candidate_would_be_alone(
        mut candidates in prop::collection::vec(any_candidate(), 2..=8),
        order in prop::collection::vec(any::<prop::sample::Index>(), 1..9),
        swaps in prop::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..8),
    ) {
        let mut expect = Vec::new();
        for (index, candidate) in candidates.iter_mut().enumerate() {
            if let Ok(alone) = plain(1, std::slice::from_ref(candidate)).answer {
                let mut choice = choices(&alone).remove(0);
                choice["index"] = json!(index);
                expect.push(choice);
            }
            candidate["index"] = json!(index);
        }
        for (a, b) in swaps {
            let (a, b) = (a.index(candidates.len()), b.index(candidates.len()));
            candidates.swap(a, b);
        }
        let count = candidates.len() as u64;
        let whole = body(&candidates).to_string();
        let stream = streamed(&candidates, &order);
        for outcome in [
            answered(count, false, [whole.as_bytes()]),
            answered(count, false, whole.as_bytes().chunks(1)),
            answered(count, true, [stream.as_bytes()]),
            answered(count, true, stream.as_bytes().chunks(1)),
        ] {
            if expect.is_empty() {
                prop_assert!(matches!(outcome.answer, Err(StreamError::Provider(_))), "{outcome:?}");
                continue;
            }
            let answer = outcome.answer.unwrap();
            prop_assert_eq!(choices(&answer), expect.clone());
            prop_assert_eq!(&answer["usage"]["completion_tokens"], 45);
            let lost = answer["weir_dropped"].to_string().contains("choices[]");
            prop_assert_eq!(lost, expect.len() < candidates.len());
        }
    }
}
