//! One answer, said by a provider in every order and form that is legal or was seen: whoever reads it
//! learns the same, once.
//!
//! [`Part`]s are written as a provider's stream, by chance: interleaved, only at the end, with names
//! that come late, with or without `[DONE]`, with any line ends, cut anywhere. What each client gets is
//! read again, under the rules of its protocol, and compared.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it does not expect"
)]

mod upstreams;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Value, json};
use weir_dialects::{
    ClientApi, ClientRequest, FinishReason, ResponseContext, ResponseFacts, ResponseMachine,
    Target, Transcript, inspect, prepare, vendors,
};

use upstreams::{Chance, Part, UPSTREAMS, write};

const CLIENTS: [ClientApi; 3] = [
    ClientApi::ChatCompletions,
    ClientApi::Messages,
    ClientApi::Responses,
];

/// What a reader learns of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
struct Said {
    text: String,
    reasoning: String,
    refusal: String,
    /// Names, ids and arguments.
    calls: Vec<(String, String, Value)>,
}

impl Said {
    /// What there is to learn. Messages of one answer are paragraphs.
    fn of(parts: &[Part], separator: &str) -> Self {
        let mut said = Self::default();
        let mut texts = Vec::new();
        for part in parts {
            match part {
                Part::Text(text) => texts.push(text.as_str()),
                Part::Reasoning(text) => said.reasoning.push_str(text),
                Part::Refusal(text) => said.refusal.push_str(text),
                Part::Call {
                    name,
                    id,
                    arguments,
                } => {
                    said.calls
                        .push((name.clone(), id.clone(), arguments.clone()));
                }
            }
        }
        said.text = texts.join(separator);
        said
    }

    fn call(&mut self, name: &Value, id: &Value, arguments: &str) {
        let arguments = serde_json::from_str(arguments).unwrap_or_else(|_| panic!("{arguments}"));
        let text = |value: &Value| value.as_str().unwrap_or("none").to_owned();
        self.calls.push((text(name), text(id), arguments));
    }

    /// Only chat and responses have a place for a refusal, and only they take back text that is blank.
    fn in_messages(mut self) -> Self {
        self.text.push_str(&std::mem::take(&mut self.refusal));
        if self.text.trim().is_empty() {
            self.text.clear();
        }
        self
    }
}

fn context(api: ClientApi, vendor: &str, stream: bool) -> ResponseContext {
    let key = match api {
        ClientApi::Responses => "input",
        _ => "messages",
    };
    let body = json!({"model": "m", "max_tokens": 99, "stream": stream, key: [{"role": "user", "content": "x"}]});
    let mut body = body;
    if api == ClientApi::Responses {
        body.as_object_mut().unwrap().remove("max_tokens");
    }
    let body = Bytes::from(body.to_string());
    let request = ClientRequest {
        api,
        headers: &HeaderMap::new(),
        query: None,
        body: &body,
        facts: &inspect(api, &body).unwrap(),
        output_limit: None,
        request_id: "01a2",
        now_s: 1_700_000_000,
    };
    let target = Target::new(vendors::find(vendor).unwrap(), "up");
    prepare(&request, &target).unwrap().context
}

/// What a client gets, what is captured of it, and the facts.
fn run(
    context: &ResponseContext,
    is_stream: bool,
    pieces: &[&[u8]],
    api: ClientApi,
) -> (String, Value, ResponseFacts) {
    let mut machine = ResponseMachine::new(context, is_stream);
    let mut out = Vec::new();
    for piece in pieces {
        let pushed = machine.push(Bytes::copy_from_slice(piece));
        out.extend_from_slice(&pushed.unwrap_or_else(|error| panic!("{error}")));
    }
    let rest = machine.finish().unwrap_or_else(|error| panic!("{error}"));
    out.extend_from_slice(&rest);
    let mut transcript = Transcript::new(api, machine.writes_stream(), 1 << 20);
    transcript.push(&Bytes::from(out.clone()));
    let (json, is_cut) = transcript.finish(true).unwrap();
    assert!(!is_cut);
    let captured = serde_json::from_slice(&json).unwrap();
    (
        String::from_utf8(out).unwrap(),
        captured,
        machine.into_facts(),
    )
}

/// The data of each event, with the name that the stream gives it.
fn events(stream: &str) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    for event in stream.split("\n\n").filter(|event| !event.is_empty()) {
        let mut name = String::new();
        for line in event.lines() {
            if let Some(word) = line.strip_prefix("event: ") {
                name = word.to_owned();
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data = match data {
                    "[DONE]" => Value::Null,
                    data => serde_json::from_str(data).unwrap(),
                };
                events.push((std::mem::take(&mut name), data));
            }
        }
    }
    events
}

/// Reads a chat stream by its rules: a call begins with its id and name, and calls count upwards.
fn read_chat_stream(stream: &str) -> Said {
    let mut said = Said::default();
    let mut calls: Vec<(Value, Value, String)> = Vec::new();
    let mut finish = None;
    let events = events(stream);
    let (last, chunks) = events.split_last().unwrap();
    assert_eq!(last.1, Value::Null, "{stream}");
    for (_, chunk) in chunks {
        for choice in chunk["choices"].as_array().unwrap() {
            assert!(finish.is_none(), "after the end: {chunk}");
            let delta = &choice["delta"];
            said.text += delta["content"].as_str().unwrap_or_default();
            said.reasoning += delta["reasoning_content"].as_str().unwrap_or_default();
            said.refusal += delta["refusal"].as_str().unwrap_or_default();
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                let index = usize::try_from(call["index"].as_u64().unwrap()).unwrap();
                let arguments = call["function"]["arguments"].as_str().unwrap();
                if index == calls.len() {
                    let name = call["function"]["name"].clone();
                    calls.push((name, call["id"].clone(), arguments.to_owned()));
                } else {
                    assert_eq!(index + 1, calls.len(), "one after the other: {stream}");
                    assert!(call.get("id").is_none(), "{call}");
                    calls[index].2 += arguments;
                }
            }
            finish = choice["finish_reason"]
                .as_str()
                .map(str::to_owned)
                .or(finish);
        }
    }
    let expect = if calls.is_empty() {
        "stop"
    } else {
        "tool_calls"
    };
    assert_eq!(finish.as_deref(), Some(expect), "{stream}");
    for (name, id, arguments) in calls {
        said.call(&name, &id, &arguments);
    }
    said
}

/// Reads a messages stream by its rules: blocks one after the other, each with start, deltas, stop.
fn read_messages_stream(stream: &str) -> Said {
    let mut said = Said::default();
    let mut open: Option<(u64, Value, String)> = None;
    let (mut next, mut stop_reason) = (0, None);
    let mut events = events(stream);
    events.retain(|(name, _)| name != "ping");
    assert_eq!(events.first().unwrap().1["type"], "message_start");
    assert_eq!(events.last().unwrap().1["type"], "message_stop");
    for (name, event) in &events {
        assert_eq!(event["type"], *name);
        match name.as_str() {
            "content_block_start" => {
                assert!(open.is_none(), "a block in a block: {stream}");
                assert_eq!(event["index"], next, "{stream}");
                open = Some((next, event["content_block"].clone(), String::new()));
                next += 1;
            }
            "content_block_delta" => {
                let (index, block, arguments) = open.as_mut().unwrap_or_else(|| panic!("{stream}"));
                assert_eq!(event["index"], *index, "{stream}");
                let delta = &event["delta"];
                match (
                    block["type"].as_str().unwrap(),
                    delta["type"].as_str().unwrap(),
                ) {
                    ("text", "text_delta") => said.text += delta["text"].as_str().unwrap(),
                    ("thinking", "thinking_delta") => {
                        said.reasoning += delta["thinking"].as_str().unwrap();
                    }
                    ("thinking", "signature_delta") => {}
                    ("tool_use", "input_json_delta") => {
                        *arguments += delta["partial_json"].as_str().unwrap();
                    }
                    other => panic!("{other:?} in {stream}"),
                }
            }
            "content_block_stop" => {
                let (index, block, arguments) = open.take().unwrap_or_else(|| panic!("{stream}"));
                assert_eq!(event["index"], index, "{stream}");
                if block["type"] == "tool_use" {
                    said.call(&block["name"], &block["id"], &arguments);
                }
            }
            "message_delta" => stop_reason = event["delta"]["stop_reason"].as_str(),
            "message_start" => assert_eq!(next, 0),
            "message_stop" => assert!(open.is_none(), "{stream}"),
            other => panic!("{other}"),
        }
    }
    let has_calls = !said.calls.is_empty();
    assert_eq!(stop_reason == Some("tool_use"), has_calls, "{stream}");
    said
}

/// Reads a responses stream by its rules: numbered events, items with added, deltas and done that say
/// the same, and all of them once more in the finished response.
fn read_responses_stream(stream: &str) -> Said {
    let mut deltas: BTreeMap<u64, String> = BTreeMap::new();
    let mut items: BTreeMap<u64, (Value, Option<Value>)> = BTreeMap::new();
    let events = events(stream);
    for (number, (name, event)) in events.iter().enumerate() {
        assert_eq!(event["type"], *name);
        assert_eq!(event["sequence_number"], number, "{stream}");
        let output = event["output_index"].as_u64();
        let step = name.strip_prefix("response.").unwrap();
        match step {
            "output_item.added" => {
                assert_eq!(output, Some(items.len() as u64), "{stream}");
                let before = items.values().all(|(_, done)| done.is_some());
                assert!(before, "one after the other: {stream}");
                items.insert(output.unwrap(), (event["item"].clone(), None));
            }
            "output_item.done" => {
                let (added, done) = items.get_mut(&output.unwrap()).unwrap();
                assert_eq!(added["id"], event["item"]["id"]);
                assert!(done.replace(event["item"].clone()).is_none(), "{stream}");
            }
            _ => {}
        }
        if let Some(output) = output.filter(|_| !step.starts_with("output_item")) {
            let (added, done) = &items[&output];
            assert!(done.is_none(), "after its end: {stream}");
            assert_eq!(event["item_id"], added["id"]);
            let so_far = deltas.entry(output).or_default();
            if step.ends_with(".delta") {
                *so_far += event["delta"].as_str().unwrap();
            }
            for whole in ["text", "refusal", "arguments", "input"] {
                if let Some(whole) = event[whole].as_str().filter(|_| step.ends_with(".done")) {
                    assert_eq!(whole, *so_far, "{stream}");
                }
            }
        }
    }
    let response = &events.last().unwrap().1["response"];
    assert_eq!(response["status"], "completed");
    let done: Vec<Value> = items.into_values().map(|(_, done)| done.unwrap()).collect();
    assert_eq!(response["output"], Value::Array(done), "{stream}");
    read_response(response)
}

fn read_response(response: &Value) -> Said {
    let mut said = Said::default();
    for item in response["output"].as_array().unwrap() {
        match item["type"].as_str().unwrap() {
            "function_call" => {
                let arguments = item["arguments"].as_str().unwrap();
                said.call(&item["name"], &item["call_id"], arguments);
            }
            "message" => {
                for part in item["content"].as_array().unwrap() {
                    said.text += part["text"].as_str().unwrap_or_default();
                    said.refusal += part["refusal"].as_str().unwrap_or_default();
                }
            }
            "reasoning" => {
                for list in ["summary", "content"] {
                    for part in item[list].as_array().into_iter().flatten() {
                        said.reasoning += part["text"].as_str().unwrap();
                    }
                }
            }
            other => panic!("{other}"),
        }
    }
    said
}

/// Reads a plain answer.
fn read_plain(api: ClientApi, answer: &Value) -> Said {
    let mut said = Said::default();
    match api {
        ClientApi::ChatCompletions => {
            let message = &answer["choices"][0]["message"];
            let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
            said.text = text("content");
            said.refusal = text("refusal");
            said.reasoning = text("reasoning_content");
            for call in message["tool_calls"].as_array().into_iter().flatten() {
                let function = &call["function"];
                said.call(
                    &function["name"],
                    &call["id"],
                    function["arguments"]
                        .as_str()
                        .unwrap_or_else(|| panic!("{answer}")),
                );
            }
            said
        }
        ClientApi::Messages => {
            for block in answer["content"].as_array().unwrap() {
                said.text += block["text"].as_str().unwrap_or_default();
                said.reasoning += block["thinking"].as_str().unwrap_or_default();
                if block["type"] == "tool_use" {
                    said.call(&block["name"], &block["id"], &block["input"].to_string());
                }
            }
            said
        }
        _ => read_response(answer),
    }
}

fn read_stream(api: ClientApi, stream: &str) -> Said {
    match api {
        ClientApi::ChatCompletions => read_chat_stream(stream),
        ClientApi::Messages => read_messages_stream(stream),
        _ => read_responses_stream(stream),
    }
}

/// Cuts bytes into up to four pieces, anywhere.
fn cut<'b>(bytes: &'b [u8], chance: &mut Chance) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for _ in 0..3 {
        let (piece, more) = rest.split_at(chance.below(rest.len() + 1));
        pieces.push(piece);
        rest = more;
    }
    pieces.push(rest);
    pieces
}

fn check(parts: &[Part], seed: u64) {
    let mut chance = Chance(seed);
    for upstream in UPSTREAMS {
        let parts = upstream.what_it_can_say(parts);
        let stream = write(upstream, &parts, &mut chance);
        let expect = Said::of(&parts, upstream.separator());
        for api in CLIENTS {
            // What passes unchanged is as good as the provider sent it, so only the capture is looked at.
            let is_native = upstream.native() == Some(api);
            for wants_stream in [true, false] {
                let context = context(api, upstream.vendor(), wants_stream);
                let pieces = cut(&stream, &mut chance);
                let says_stream = chance.one_in(2);
                let (got, captured, facts) = run(&context, says_stream, &pieces, api);
                let expect = match api {
                    ClientApi::Messages => expect.clone().in_messages(),
                    _ => expect.clone(),
                };
                let whole = format!(
                    "{api:?} from {upstream:?}: {}",
                    String::from_utf8_lossy(&stream)
                );
                if !is_native || !wants_stream {
                    let said = match wants_stream {
                        true => read_stream(api, &got),
                        false => read_plain(api, &serde_json::from_str(&got).unwrap()),
                    };
                    assert_eq!(said, expect, "{whole}");
                }
                {
                    let expect = match is_native && wants_stream {
                        true => Said::of(&parts, ""),
                        false => expect,
                    };
                    assert_eq!(
                        read_plain(api, &captured),
                        expect,
                        "captured: {captured} of {whole}"
                    );
                }
                assert!(
                    facts.terminal_seen && facts.provider_error.is_none(),
                    "{whole}"
                );
                // Of what passes, only text counts, and a call may have none.
                assert!(facts.first_token_seen || is_native, "{whole}");
                let is_call = facts.finish_reason == Some(FinishReason::ToolCalls);
                let has_calls = !expect_calls(&parts).is_empty();
                assert!(is_call == has_calls || is_native, "{whole}");
            }
        }
    }
}

fn expect_calls(parts: &[Part]) -> Vec<&Part> {
    let is_call = |part: &&Part| matches!(part, Part::Call { .. });
    parts.iter().filter(is_call).collect()
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z ]{1,12}",
        "\\PC{1,8}",
        "[ \n\t]{1,3}",
        Just("\"\\\n{}[],:\u{e9}\u{1f600}".to_owned())
    ]
}

fn part() -> impl Strategy<Value = Part> {
    let call = (
        "[a-z_]{2,12}",
        "[a-zA-Z0-9]{4,10}",
        prop::option::of((text(), text())),
    );
    prop_oneof![
        3 => text().prop_map(Part::Text),
        1 => text().prop_map(Part::Reasoning),
        4 => call.prop_map(|(name, id, argument)| {
            let arguments = match argument {
                Some((key, value)) => json!({key: value, "n": [1, {"m": null}]}),
                None => json!({}),
            };
            Part::Call { name, id, arguments }
        }),
    ]
}

/// Parts with ids of their own, in the order in which providers have them: text first, then calls.
fn parts() -> impl Strategy<Value = Vec<Part>> {
    let usual = prop::collection::vec(part(), 1..6).prop_map(|mut parts| {
        let rank = |part: &Part| match part {
            Part::Reasoning(_) => 0,
            Part::Text(_) | Part::Refusal(_) => 1,
            Part::Call { .. } => 2,
        };
        parts.sort_by_key(rank);
        for (number, part) in parts.iter_mut().enumerate() {
            if let Part::Call { id, name, .. } = part {
                id.push_str(&number.to_string());
                name.push_str(&number.to_string());
            }
        }
        parts
    });
    prop_oneof![9 => usual, 1 => text().prop_map(|text| vec![Part::Refusal(text)])]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn an_answer_is_said_once_whatever_the_order(parts in parts(), seed: u64) {
        check(&parts, seed);
    }
}
