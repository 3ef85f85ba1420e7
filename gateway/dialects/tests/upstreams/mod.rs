//! Providers that say one answer in many ways.

use serde_json::{Map, Value, json};
use weir_dialects::ClientApi;

/// A part of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    Text(String),
    Reasoning(String),
    Refusal(String),
    Call {
        name: String,
        id: String,
        arguments: Value,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upstream {
    Chat,
    Messages,
    Responses,
    Gemini,
}

pub(crate) const UPSTREAMS: [Upstream; 4] = [
    Upstream::Chat,
    Upstream::Messages,
    Upstream::Responses,
    Upstream::Gemini,
];

impl Upstream {
    pub(crate) const fn vendor(self) -> &'static str {
        match self {
            Self::Chat => "deepseek",
            Self::Messages => "anthropic",
            Self::Responses => "openai-responses",
            Self::Gemini => "gemini",
        }
    }

    pub(crate) const fn native(self) -> Option<ClientApi> {
        match self {
            Self::Chat => Some(ClientApi::ChatCompletions),
            Self::Messages => Some(ClientApi::Messages),
            Self::Responses => Some(ClientApi::Responses),
            Self::Gemini => None,
        }
    }

    /// What stands between two texts of one answer.
    pub(crate) const fn separator(self) -> &'static str {
        match self {
            Self::Responses => "\n\n",
            _ => "",
        }
    }

    /// The parts that this dialect has a place for.
    pub(crate) fn what_it_can_say(self, parts: &[Part]) -> Vec<Part> {
        let said = parts.iter().map(|part| match (self, part) {
            (Self::Messages | Self::Gemini, Part::Refusal(text)) => Part::Text(text.clone()),
            (_, part) => part.clone(),
        });
        said.collect()
    }
}

/// SplitMix64: chance that is the same every time.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Cuts a text into pieces, at characters.
    fn pieces(&mut self, text: &str) -> Vec<String> {
        let mut pieces = vec![String::new()];
        for c in text.chars() {
            if self.one_in(4) {
                pieces.push(String::new());
            }
            pieces.last_mut().unwrap().push(c);
        }
        pieces.retain(|piece| !piece.is_empty());
        pieces
    }

    /// Takes turns between queues, which begin in their order, or empties one after the other.
    fn interleave<T>(&mut self, mut queues: Vec<Vec<T>>, in_turns: bool) -> Vec<T> {
        queues.iter_mut().for_each(|queue| queue.reverse());
        let (mut all, mut begun) = (Vec::new(), 0);
        loop {
            let waiting: Vec<usize> = (0..queues.len().min(begun + 1))
                .filter(|at| !queues[*at].is_empty())
                .collect();
            let turn = if in_turns {
                self.below(waiting.len())
            } else {
                0
            };
            match waiting.get(turn) {
                Some(at) => {
                    all.extend(queues[*at].pop());
                    begun = begun.max(at + 1);
                }
                None if begun < queues.len() => begun += 1,
                None => return all,
            }
        }
    }
}

/// An answer as a stream of the provider's.
pub(crate) fn write(upstream: Upstream, parts: &[Part], chance: &mut Chance) -> Vec<u8> {
    let (events, has_names) = match upstream {
        Upstream::Chat => (chat(parts, chance), false),
        Upstream::Messages => (messages(parts, chance), true),
        Upstream::Responses => (responses(parts, chance), true),
        Upstream::Gemini => (gemini(parts, chance), false),
    };
    let end = ["\n", "\r\n", "\r"][chance.below(3)];
    let names = has_names && !chance.one_in(3);
    // Some servers only name an event where the stream does.
    let only_names = names && chance.one_in(4);
    let mut stream = String::new();
    if chance.one_in(3) {
        stream.push('\u{feff}');
    }
    for event in events {
        if chance.one_in(8) {
            stream.push_str(&format!(": keep-alive{end}{end}"));
        }
        let mut data = event;
        if let (true, Some(name)) = (names, data.get("type").and_then(Value::as_str)) {
            stream.push_str(&format!("event: {name}{end}"));
        }
        if only_names && let Some(fields) = data.as_object_mut() {
            fields.remove("type");
        }
        let text = match data {
            Value::String(word) => word,
            data => data.to_string(),
        };
        let space = if chance.one_in(3) { "" } else { " " };
        stream.push_str(&format!("data:{space}{text}{end}{end}"));
    }
    stream.into_bytes()
}

fn chunk(delta: Value) -> Value {
    json!({"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": delta}]})
}

fn chat(parts: &[Part], chance: &mut Chance) -> Vec<Value> {
    let is_late = chance.one_in(3);
    let names = chance.below(4);
    // 3: a call begins under the number of the first, and goes on under its own.
    let numbers = chance.below(4);
    let says_twice = numbers != 3 && chance.one_in(4);
    // Without numbers only ids tell calls apart; if all are 0, only what begins does.
    let in_turns = numbers == 0 && chance.one_in(2);
    let has_call = |part: &Part| matches!(part, Part::Call { .. });
    let mut events = vec![chunk(json!({"role": "assistant", "content": ""}))];
    if chance.one_in(10) {
        return whole_chat(parts);
    }
    if chance.one_in(4) {
        events.push(Value::Null);
    }
    let mut queues = Vec::new();
    for part in parts.iter().filter(|part| !has_call(part)) {
        let (key, text) = match part {
            Part::Reasoning(text) => ("reasoning_content", text),
            Part::Refusal(text) => ("refusal", text),
            Part::Text(text) => ("content", text),
            Part::Call { .. } => continue,
        };
        for piece in chance.pieces(text) {
            events.push(chunk(json!({key: piece})));
        }
    }
    for (number, part) in parts.iter().filter(|part| has_call(part)).enumerate() {
        let Part::Call {
            name,
            id,
            arguments,
        } = part
        else {
            continue;
        };
        let pieces = chance.pieces(&arguments.to_string());
        let mut deltas = Vec::new();
        let (head, tail) = name.split_at(name.len() / 2);
        match names {
            // As OpenAI does.
            0 => deltas.push(json!({"id": id, "function": {"name": name, "arguments": ""}})),
            // In pieces.
            1 => {
                deltas.push(json!({"id": id, "function": {"name": head, "arguments": ""}}));
                deltas.push(json!({"id": id, "function": {"name": tail}}));
            }
            // Repeated with every piece, which has no argument of its own at the end.
            2 => {}
            // Behind the arguments, or the id behind the name.
            _ if is_late && numbers == 0 => {}
            _ => deltas.push(json!({"id": id, "function": {"name": name}})),
        }
        let is_behind = names == 3 && is_late && numbers == 0;
        for piece in pieces {
            let mut function = json!({"arguments": piece});
            if names == 2 {
                function["name"] = name.clone().into();
            }
            let mut delta = json!({"function": function});
            if names == 2 || numbers == 1 {
                delta["id"] = id.clone().into();
            }
            deltas.push(delta);
        }
        if is_behind {
            deltas.push(json!({"function": {"name": name}}));
            deltas.push(json!({"id": id}));
        }
        if says_twice && !is_behind {
            let function = json!({"name": name, "arguments": arguments.to_string()});
            deltas.push(json!({"id": id, "function": function}));
        }
        for delta in &mut deltas {
            let has_name = delta["function"].get("name").is_some();
            match numbers {
                0 => delta["index"] = number.into(),
                1 => {}
                3 if !has_name => delta["index"] = number.into(),
                _ => delta["index"] = 0.into(),
            }
        }
        queues.push(deltas);
    }
    let deltas = chance.interleave(queues, in_turns);
    events.extend(
        deltas
            .into_iter()
            .map(|delta| chunk(json!({"tool_calls": [delta]}))),
    );
    let reason = if parts.iter().any(has_call) {
        "tool_calls"
    } else {
        "stop"
    };
    let (has_done, word) = match chance.below(4) {
        0 => (true, Value::Null),
        1 => (true, json!("")),
        2 => (false, json!(reason)),
        _ => (true, json!(reason)),
    };
    events.push(json!({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": word}]}));
    if chance.one_in(2) {
        events.push(json!({"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}));
    }
    if has_done {
        events.push("[DONE]".into());
    }
    events
}

/// A server that cannot stream sends the whole answer as one chunk.
fn whole_chat(parts: &[Part]) -> Vec<Value> {
    let mut message = Map::new();
    message.insert("role".into(), "assistant".into());
    let mut calls = Vec::new();
    for part in parts {
        let (key, text) = match part {
            Part::Reasoning(text) => ("reasoning_content", text),
            Part::Refusal(text) => ("refusal", text),
            Part::Text(text) => ("content", text),
            Part::Call {
                name,
                id,
                arguments,
            } => {
                let function = json!({"name": name, "arguments": arguments.to_string()});
                calls.push(json!({"id": id, "type": "function", "function": function}));
                continue;
            }
        };
        let before = message.get(key).and_then(Value::as_str).unwrap_or_default();
        let joined = format!("{before}{text}");
        message.insert(key.into(), joined.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".into(), calls.into());
    }
    let choice = json!({"index": 0, "message": message, "finish_reason": "stop"});
    let answer = json!({"id": "c1", "object": "chat.completion", "choices": [choice]});
    vec![answer, "[DONE]".into()]
}

fn messages(parts: &[Part], chance: &mut Chance) -> Vec<Value> {
    let start = json!({"type": "message_start", "message": {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}});
    let mut events = vec![start.clone()];
    let in_turns = chance.one_in(3);
    let has_stops = !chance.one_in(4);
    let mut queues = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let mut queue = Vec::new();
        let (block, kind, key, text) = match part {
            Part::Text(text) | Part::Refusal(text) => (
                json!({"type": "text", "text": ""}),
                "text_delta",
                "text",
                text.clone(),
            ),
            Part::Reasoning(text) => (
                json!({"type": "thinking", "thinking": ""}),
                "thinking_delta",
                "thinking",
                text.clone(),
            ),
            Part::Call {
                name,
                id,
                arguments,
            } => {
                let is_whole = chance.one_in(3);
                let input = if is_whole {
                    arguments.clone()
                } else {
                    json!({})
                };
                let text = if is_whole && chance.one_in(2) {
                    String::new()
                } else {
                    arguments.to_string()
                };
                (
                    json!({"type": "tool_use", "id": id, "name": name, "input": input}),
                    "input_json_delta",
                    "partial_json",
                    text,
                )
            }
        };
        queue.push(json!({"type": "content_block_start", "index": index, "content_block": block}));
        for piece in chance.pieces(&text) {
            queue.push(json!({"type": "content_block_delta", "index": index, "delta": {"type": kind, key: piece}}));
        }
        if has_stops {
            queue.push(json!({"type": "content_block_stop", "index": index}));
        }
        // Only calls are told apart by their number.
        let is_call = matches!(part, Part::Call { .. });
        if is_call && in_turns {
            queues.push(queue);
        } else {
            events.extend(queue);
        }
    }
    events.extend(chance.interleave(queues, true));
    if chance.one_in(3) {
        let at = 1 + chance.below(events.len());
        events.insert(at, start);
    }
    let has_calls = parts.iter().any(|part| matches!(part, Part::Call { .. }));
    let reason = if has_calls { "tool_use" } else { "end_turn" };
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 7}}));
    if !chance.one_in(4) {
        events.push(json!({"type": "message_stop"}));
    }
    if chance.one_in(3) {
        events.push("[DONE]".into());
    }
    events
}

/// Where a responses stream says a text or arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Deltas,
    /// Some deltas are missing.
    SomeDeltas,
    PartDone,
    ItemDone,
    Response,
}

fn responses(parts: &[Part], chance: &mut Chance) -> Vec<Value> {
    let in_turns = chance.one_in(3);
    let mut output = Vec::new();
    let mut queues = Vec::new();
    let mut events = vec![
        json!({"type": "response.created", "response": {"id": "resp_1", "model": "m", "output": []}}),
    ];
    let mut last_place = Place::Deltas;
    for (index, part) in parts.iter().enumerate() {
        let (item, field) = item(index, part);
        let is_call = matches!(part, Part::Call { .. });
        use Place::{Deltas, ItemDone, PartDone, Response, SomeDeltas};
        let mut place = [Deltas, SomeDeltas, PartDone, ItemDone, Response][chance.below(5)];
        // What is only said at the end comes last, and so does whatever follows it.
        if last_place == Response {
            place = Response;
        }
        last_place = place;
        let queue = steps(index, &item, field, place, chance);
        if is_call && in_turns {
            queues.push(queue);
        } else {
            events.extend(queue);
        }
        output.push(item);
    }
    events.extend(chance.interleave(queues, true));
    if last_place != Place::Response && chance.one_in(3) {
        // Some servers repeat nothing.
        output.clear();
    }
    events.push(json!({"type": "response.completed", "response": {"id": "resp_1", "status": "completed", "output": output, "usage": {"input_tokens": 3, "output_tokens": 2}}}));
    if chance.one_in(2) {
        events.push("[DONE]".into());
    }
    events
}

/// A whole item, and the field of its deltas and done events.
fn item(index: usize, part: &Part) -> (Value, &'static str) {
    let id = format!("i{index}");
    match part {
        Part::Text(text) => (
            json!({"id": id, "type": "message", "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": text, "annotations": []}]}),
            "output_text",
        ),
        Part::Refusal(text) => (
            json!({"id": id, "type": "message", "role": "assistant", "status": "completed", "content": [{"type": "refusal", "refusal": text}]}),
            "refusal",
        ),
        Part::Reasoning(text) => (
            json!({"id": id, "type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}),
            "reasoning_summary_text",
        ),
        Part::Call {
            name,
            id: call,
            arguments,
        } => (
            json!({"id": id, "type": "function_call", "status": "completed", "call_id": call, "name": name, "arguments": arguments.to_string()}),
            "function_call_arguments",
        ),
    }
}

/// The events of an item, with its text in one place or several.
fn steps(index: usize, item: &Value, field: &str, place: Place, chance: &mut Chance) -> Vec<Value> {
    let (list, key) = match field {
        "output_text" => ("content", "text"),
        "refusal" => ("content", "refusal"),
        "reasoning_summary_text" => ("summary", "text"),
        _ => ("", "arguments"),
    };
    let text = match list {
        "" => item["arguments"].as_str().unwrap().to_owned(),
        list => item[list][0][key].as_str().unwrap().to_owned(),
    };
    let number = if list == "summary" {
        "summary_index"
    } else {
        "content_index"
    };
    let event = |kind: &str, key: &str, text: &str| json!({"type": format!("response.{field}.{kind}"), "item_id": item["id"], "output_index": index, number: 0, key: text});
    let mut added = item.clone();
    match list {
        "" => added["arguments"] = "".into(),
        list => added[list] = json!([]),
    }
    if place == Place::Response {
        return Vec::new();
    }
    let mut steps = Vec::new();
    // An item that begins nowhere is known from its end.
    let is_silent = place == Place::ItemDone && chance.one_in(2);
    if !is_silent {
        steps.push(
            json!({"type": "response.output_item.added", "output_index": index, "item": added}),
        );
    }
    let mut pieces = chance.pieces(&text);
    match place {
        Place::Deltas => {}
        Place::SomeDeltas => pieces.truncate(chance.below(pieces.len() + 1)),
        Place::PartDone | Place::ItemDone | Place::Response => pieces.clear(),
    }
    steps.extend(pieces.iter().map(|piece| event("delta", "delta", piece)));
    let mut says_all = place == Place::Deltas;
    if place != Place::ItemDone && (place == Place::PartDone || chance.one_in(2)) {
        steps.push(event("done", key, &text));
        says_all = true;
    }
    if !list.is_empty() && chance.one_in(2) && place != Place::ItemDone {
        let kind = if list == "summary" {
            "reasoning_summary_part"
        } else {
            "content_part"
        };
        steps.push(json!({"type": format!("response.{kind}.done"), "item_id": item["id"], "output_index": index, number: 0, "part": item[list][0]}));
        says_all = true;
    }
    if !says_all || !chance.one_in(4) {
        steps.push(
            json!({"type": "response.output_item.done", "output_index": index, "item": item}),
        );
    }
    steps
}

fn gemini(parts: &[Part], chance: &mut Chance) -> Vec<Value> {
    let mut pieces = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) | Part::Refusal(text) => {
                pieces.extend(
                    chance
                        .pieces(text)
                        .into_iter()
                        .map(|text| json!({"text": text})),
                );
            }
            Part::Reasoning(text) => {
                let texts = chance.pieces(text).into_iter();
                pieces.extend(texts.map(|text| json!({"text": text, "thought": true})));
            }
            Part::Call {
                name,
                id,
                arguments,
            } => {
                pieces.push(json!({"functionCall": {"name": name, "id": id, "args": arguments}}));
            }
        }
    }
    let mut events = Vec::new();
    while !pieces.is_empty() {
        let some = pieces
            .drain(..=chance.below(pieces.len().min(3)))
            .collect::<Vec<_>>();
        events.push(json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": some}}], "modelVersion": "g", "responseId": "r"}));
    }
    let last = json!({"candidates": [{"index": 0, "finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2}});
    events.push(last);
    if chance.one_in(3) {
        events.push("[DONE]".into());
    }
    events
}
