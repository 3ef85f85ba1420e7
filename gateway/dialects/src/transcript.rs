//! An answer as its client got it, reassembled for payload capture.
//!
//! A plain answer is the bytes that the client got. A stream becomes the client's plain answer: each
//! text is joined from its pieces, so that a secret that was split over two of them is found. This
//! works on JSON values and not on the neutral model, because fields that Weir does not know are
//! captured too. Fields of a chunk that are not known to belong to the answer are left out, because
//! they may be incomplete.
//!
//! Memory is bounded. The rest of a larger answer is dropped, together with the word that was cut.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::{Map, Value, json};

use crate::api::{AnswerFormat, ClientApi};
use crate::caps;
use crate::sse::{SseItem, SseReader, Verdict};

/// Fields whose text is never split. Any other text comes in pieces.
#[rustfmt::skip]
const WHOLE: &[&str] = &[
    "call_id", "code", "created", "finish_reason", "id", "index", "model", "name", "object", "phase", "reason",
    "role", "service_tier", "status", "stop_reason", "stop_sequence", "system_fingerprint", "type",
];

/// Fields of a stream's chunk, or of a response, that are part of the answer.
#[rustfmt::skip]
const OF_ANSWER: &[&str] = &[
    "created", "created_at", "error", "id", "incomplete_details", "model", "object", "role", "service_tier",
    "status", "stop_reason", "stop_sequence", "system_fingerprint", "type", "usage",
];

/// Why an answer has no transcript.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTranscript {
    /// A part of it is malformed.
    Unreadable,
    TooLarge,
}

/// Collects an answer while the client gets it.
#[derive(Debug)]
pub struct Transcript(TranscriptSource);

#[derive(Debug)]
enum TranscriptSource {
    Plain { pieces: Vec<Bytes>, left: usize },
    Stream(Box<StreamTranscript>),
    Failed(NoTranscript),
}

#[derive(Debug)]
struct StreamTranscript {
    events: SseReader,
    answer: Assembly,
    is_readable: bool,
}

impl Transcript {
    /// `is_stream` tells the form that the client gets.
    #[must_use]
    pub fn new(api: ClientApi, is_stream: bool, bytes_max: usize) -> Self {
        let is_conversation = !matches!(api, ClientApi::Embeddings | ClientApi::CountTokens);
        Self(match (is_stream, is_conversation) {
            (false, _) => TranscriptSource::Plain {
                pieces: Vec::new(),
                left: bytes_max,
            },
            (true, true) => TranscriptSource::Stream(Box::new(StreamTranscript {
                events: SseReader::default(),
                answer: Assembly::new(api.answer_format(), bytes_max),
                is_readable: true,
            })),
            (true, false) => TranscriptSource::Failed(NoTranscript::Unreadable),
        })
    }

    /// Takes what the client gets next.
    pub fn push(&mut self, piece: &Bytes) {
        match &mut self.0 {
            TranscriptSource::Plain { pieces, left } => match left.checked_sub(piece.len()) {
                Some(rest) => {
                    *left = rest;
                    pieces.push(piece.clone());
                }
                None => self.0 = TranscriptSource::Failed(NoTranscript::TooLarge),
            },
            TranscriptSource::Stream(stream) => stream.push(Some(piece)),
            TranscriptSource::Failed(_) => {}
        }
    }

    /// The answer as JSON, and whether some of it is missing. The last word of an incomplete answer
    /// may be half a secret and is dropped.
    ///
    /// # Errors
    ///
    /// When there is no transcript that could be searched for secrets.
    pub fn finish(self, is_complete: bool) -> Result<(Vec<u8>, bool), NoTranscript> {
        match self.0 {
            TranscriptSource::Plain { pieces, .. } => Ok((pieces.concat(), !is_complete)),
            TranscriptSource::Stream(mut stream) => {
                stream.push(None);
                if !stream.is_readable {
                    return Err(NoTranscript::Unreadable);
                }
                let mut answer = stream.answer;
                answer.is_cut |= !is_complete;
                let is_cut = answer.is_cut;
                Ok((answer.into_value().to_string().into_bytes(), is_cut))
            }
            TranscriptSource::Failed(why) => Err(why),
        }
    }
}

impl StreamTranscript {
    fn push(&mut self, piece: Option<&Bytes>) {
        let judge = |item: SseItem<'_>| {
            match item {
                SseItem::Event { data: [], .. } | SseItem::Filler { .. } => {}
                SseItem::Event { data, .. } if data.trim_ascii() == b"[DONE]" => {}
                SseItem::Event { name, data } => match serde_json::from_slice(data) {
                    Ok(Value::Object(mut event)) => {
                        let has_type = event.contains_key("type");
                        if !has_type && !name.is_empty() && self.answer.format != AnswerFormat::Chat
                        {
                            let name = String::from_utf8_lossy(name).into_owned();
                            event.insert("type".into(), name.into());
                        }
                        self.answer.add(event);
                    }
                    // It says nothing.
                    Ok(Value::Null) => {}
                    _ => self.is_readable = false,
                },
                SseItem::Oversized => self.answer.is_cut = true,
            }
            Verdict::Drop
        };
        match piece {
            Some(piece) => self.events.push(piece, judge),
            None => self.events.finish(judge),
        };
    }
}

/// An answer that is being reassembled.
#[derive(Debug)]
struct Assembly {
    format: AnswerFormat,
    root: Map<String, Value>,
    /// Choices, blocks of content, or items, by their number.
    parts: BTreeMap<u64, Value>,
    left: usize,
    is_cut: bool,
}

impl Assembly {
    fn new(format: AnswerFormat, bytes_max: usize) -> Self {
        Self {
            format,
            root: Map::new(),
            parts: BTreeMap::new(),
            left: bytes_max,
            is_cut: false,
        }
    }

    fn add(&mut self, event: Map<String, Value>) {
        match self.format {
            AnswerFormat::Chat => self.add_chunk(event),
            AnswerFormat::Messages => self.add_message(event),
            AnswerFormat::Responses => self.add_response(event),
        }
    }

    /// One chunk of a chat completion.
    fn add_chunk(&mut self, mut chunk: Map<String, Value>) {
        let choices = chunk.remove("choices");
        chunk.remove("object");
        self.set_root(chunk);
        let Some(Value::Array(choices)) = choices else {
            return;
        };
        for choice in choices {
            let Value::Object(mut choice) = choice else {
                continue;
            };
            let index = number(&choice, "index");
            let mut known = Map::new();
            if let Some(delta) = choice.remove("delta") {
                known.insert("message".into(), delta);
            }
            if let Some(reason) = choice.remove("finish_reason").filter(|it| !it.is_null()) {
                known.insert("finish_reason".into(), reason);
            }
            self.merge_part(index, Value::Object(known));
            // Some servers stream the whole message as one chunk, or once more at the end.
            if let Some(message) = choice.remove("message") {
                self.fill_part(index, json!({"message": message}));
            }
        }
    }

    /// One event of a message.
    fn add_message(&mut self, mut event: Map<String, Value>) {
        let kind = text(&event, "type");
        let index = number(&event, "index");
        match kind.as_str() {
            "message_start" => self.begin_message(object(event.remove("message"))),
            "content_block_start" => {
                let block = event.remove("content_block").unwrap_or_default();
                self.merge_part(index, block);
            }
            "content_block_delta" => {
                let mut delta = object(event.remove("delta"));
                delta.remove("type");
                match delta.remove("citation") {
                    // Each citation is whole.
                    Some(citation) => self.push_in_part(index, "citations", citation),
                    None => self.merge_part(index, Value::Object(delta)),
                }
            }
            "message_delta" => {
                self.set_root(object(event.remove("delta")));
                let usage = event.remove("usage").unwrap_or_default();
                self.merge_root("usage", usage);
            }
            "error" => self.set_root(event),
            _ => {}
        }
    }

    /// A second beginning says nothing but counts.
    fn begin_message(&mut self, mut message: Map<String, Value>) {
        if self.root.contains_key("id") {
            let usage = message.remove("usage").unwrap_or_default();
            return self.merge_root("usage", usage);
        }
        if let Some(Value::Array(blocks)) = message.remove("content") {
            for (index, block) in (0..).zip(blocks) {
                self.merge_part(index, block);
            }
        }
        self.set_root(message);
    }

    /// One event of a response.
    fn add_response(&mut self, mut event: Map<String, Value>) {
        let kind = text(&event, "type");
        let item = number(&event, "output_index");
        let content = number(&event, "content_index");
        let summary = number(&event, "summary_index");
        let delta = event.remove("delta").unwrap_or_default();
        match kind.strip_prefix("response.").unwrap_or(&kind) {
            "created" => self.set_root(object(event.remove("response"))),
            "completed" | "incomplete" | "failed" | "done" => {
                let mut response = object(event.remove("response"));
                let output = response.remove("output");
                self.set_root(response);
                if let Some(Value::Array(items)) = output {
                    self.fill_items(items);
                }
            }
            "output_item.added" => {
                let added = event.remove("item").unwrap_or_default();
                self.merge_part(item, added);
            }
            "output_text.delta" => self.merge_text(item, "output_text", content, delta),
            "refusal.delta" => self.merge_text(item, "refusal", content, delta),
            "reasoning_text.delta" => self.merge_text(item, "reasoning_text", content, delta),
            "reasoning_summary_text.delta" => self.merge_text(item, "summary_text", summary, delta),
            "function_call_arguments.delta" => self.merge_part(item, json!({"arguments": delta})),
            "custom_tool_call_input.delta" => self.merge_part(item, json!({"input": delta})),
            kind if kind.ends_with(".done") => self.fill_event(kind, item, content, summary, event),
            "error" => {
                event.remove("type");
                self.merge_root("error", Value::Object(event));
            }
            _ => {}
        }
    }

    /// Adds what the event of something whole has beside its pieces.
    fn fill_event(
        &mut self,
        kind: &str,
        item: u64,
        content: u64,
        summary: u64,
        mut event: Map<String, Value>,
    ) {
        let mut whole = |name: &str| event.remove(name).unwrap_or_default();
        match kind {
            "output_item.done" => {
                let done = whole("item");
                self.end_item(item, done);
            }
            "function_call_arguments.done" => {
                self.fill_part(item, json!({"arguments": whole("arguments")}));
            }
            "custom_tool_call_input.done" => self.fill_part(item, json!({"input": whole("input")})),
            "output_text.done" => self.fill_text(item, "output_text", content, whole("text")),
            "refusal.done" => self.fill_text(item, "refusal", content, whole("refusal")),
            "reasoning_text.done" => self.fill_text(item, "reasoning_text", content, whole("text")),
            "reasoning_summary_text.done" => {
                self.fill_text(item, "summary_text", summary, whole("text"));
            }
            "content_part.done" => {
                let part = with_index(whole("part"), content);
                self.fill_part(item, json!({"content": [part]}));
            }
            "reasoning_summary_part.done" => {
                let part = with_index(whole("part"), summary);
                self.fill_part(item, json!({"summary": [part]}));
            }
            _ => {}
        }
    }

    /// An item that came in pieces may be whole by now; any other item is only complete here.
    fn end_item(&mut self, index: u64, done: Value) {
        const IN_PIECES: [&str; 4] = ["custom_tool_call", "function_call", "message", "reasoning"];
        if text_of(&done, "type").is_some_and(|kind| IN_PIECES.contains(&kind)) {
            return self.fill_part(index, done);
        }
        self.parts.remove(&index);
        self.merge_part(index, done);
    }

    /// Adds what the items of a finished response have beside what the stream gave of them. An item is
    /// known by its id, or else is the next of its kind: some servers leave items out.
    fn fill_items(&mut self, items: Vec<Value>) {
        let mut free: Vec<u64> = self.parts.keys().copied().collect();
        let mut places: Vec<Option<u64>> = vec![None; items.len()];
        for keys in [["id", "call_id"].as_slice(), &["type"]] {
            for (place, item) in places.iter_mut().zip(&items) {
                if place.is_some() {
                    continue;
                }
                let is_same = |number: &u64| {
                    let part = &self.parts[number];
                    let same =
                        |key| text_of(part, key).is_some_and(|it| Some(it) == text_of(item, key));
                    keys.iter().any(|key| same(*key))
                };
                let at = free.iter().position(is_same);
                *place = at.map(|at| free.remove(at));
            }
        }
        for (place, item) in places.into_iter().zip(items) {
            match place {
                Some(number) => self.end_item(number, item),
                None => {
                    let last = self.parts.last_key_value();
                    let next = last.map_or(0, |(number, _)| number.saturating_add(1));
                    self.merge_part(next, item);
                }
            }
        }
    }

    fn merge_text(&mut self, part: u64, kind: &str, index: u64, delta: Value) {
        self.merge_part(part, list_with_text(kind, index, delta));
    }

    fn fill_text(&mut self, part: u64, kind: &str, index: u64, whole: Value) {
        self.fill_part(part, list_with_text(kind, index, whole));
    }

    fn fill_part(&mut self, index: u64, from: Value) {
        let Some(mut part) = self.parts.remove(&index) else {
            return self.merge_part(index, from);
        };
        self.fill("", &mut part, from);
        self.parts.insert(index, part);
    }

    /// Adds what a whole value has beside its pieces.
    fn fill(&mut self, name: &str, into: &mut Value, from: Value) {
        match (into, from) {
            (_, Value::Null) => {}
            (Value::Object(into), Value::Object(from)) => {
                for (name, value) in from {
                    match into.get_mut(&name) {
                        Some(slot) => self.fill(&name, slot, value),
                        None if self.is_cut && !WHOLE.contains(&&*name) => {}
                        None => {
                            let value = self.bounded(&name, value);
                            into.insert(name, value);
                        }
                    }
                }
            }
            (Value::Array(into), Value::Array(from)) => {
                for (place, item) in from.into_iter().enumerate() {
                    let index = item.get("index").cloned();
                    let is_it = |it: &Value| index.is_some() && it.get("index") == index.as_ref();
                    let at = into.iter().position(is_it).unwrap_or(match index {
                        Some(_) => into.len(),
                        None => place,
                    });
                    match into.get_mut(at) {
                        Some(slot) => self.fill(name, slot, item),
                        None if self.is_cut => {}
                        None => into.push(self.bounded(name, item)),
                    }
                }
            }
            (Value::String(into), Value::String(from)) if name == "status" => *into = from,
            (Value::String(into), Value::String(from)) => {
                if let Some(rest) = from.strip_prefix(into.as_str()) {
                    self.append(into, rest);
                }
            }
            (into @ Value::Null, from) => *into = self.bounded(name, from),
            _ => {}
        }
    }

    fn push_in_part(&mut self, part: u64, list: &str, item: Value) {
        if self.is_cut {
            return;
        }
        let item = self.bounded("", item);
        let part = self.parts.entry(part).or_insert_with(|| json!({}));
        if let Some(part) = part.as_object_mut() {
            let list = part.entry(list).or_insert_with(|| json!([]));
            if let Some(items) = list.as_array_mut() {
                items.push(item);
            }
        }
    }

    fn merge_part(&mut self, index: u64, from: Value) {
        let part = self.parts.remove(&index);
        if self.is_cut && part.is_none() {
            return;
        }
        let mut part = part.unwrap_or_else(|| json!({}));
        self.merge("", &mut part, from);
        self.parts.insert(index, part);
    }

    fn set_root(&mut self, fields: Map<String, Value>) {
        let known = fields.into_iter();
        for (name, value) in known.filter(|(name, _)| OF_ANSWER.contains(&&**name)) {
            if !value.is_null() && self.root.get(&name) != Some(&value) {
                let value = self.bounded(&name, value);
                self.root.insert(name, value);
            }
        }
    }

    fn merge_root(&mut self, name: &str, from: Value) {
        let mut value = self.root.remove(name).unwrap_or_default();
        self.merge(name, &mut value, from);
        self.root.insert(name.to_owned(), value);
    }

    /// Merges a piece into a value: split texts are joined, list items are matched by index, and
    /// anything else replaces the old value.
    fn merge(&mut self, name: &str, into: &mut Value, from: Value) {
        match (into, from) {
            (_, Value::Null) => {}
            (Value::Object(into), Value::Object(from)) => {
                for (name, value) in from {
                    match into.get_mut(&name) {
                        Some(slot) => self.merge(&name, slot, value),
                        None if self.is_cut && !WHOLE.contains(&&*name) => {}
                        None => {
                            let value = self.bounded(&name, value);
                            into.insert(name, value);
                        }
                    }
                }
            }
            (Value::String(into), Value::String(from)) if !WHOLE.contains(&name) => {
                self.append(into, &from);
            }
            // Some servers send an empty id with every piece, or a name in pieces.
            (Value::String(_), Value::String(from)) if from.is_empty() => {}
            (Value::String(into), Value::String(from)) if name == "name" && *into != from => {
                self.append(into, &from);
            }
            (Value::Array(into), Value::Array(from)) => {
                for item in from {
                    self.merge_item(name, into, item);
                }
            }
            (Value::Array(into), from) => self.merge_item(name, into, from),
            (into @ Value::String(_), from @ Value::Array(_)) if into != "" => {
                *into = Value::Array(vec![into.take()]);
                self.merge(name, into, from);
            }
            (into, from) => *into = self.bounded(name, from),
        }
    }

    fn merge_item(&mut self, name: &str, items: &mut Vec<Value>, item: Value) {
        let slot = place_of(items, &item).and_then(|at| items.get_mut(at));
        let slot = slot.filter(|last| !is_another_call(last, &item));
        match slot {
            Some(slot) if has_all_of(slot, &item) => {}
            Some(slot) => self.merge(name, slot, item),
            None if self.is_cut => {}
            None => {
                let item = self.bounded(name, item);
                items.push(item);
            }
        }
    }

    /// A new value, as far as there is room for it.
    fn bounded(&mut self, name: &str, value: Value) -> Value {
        self.spend(caps::TRANSCRIPT_VALUE_BYTES);
        match value {
            Value::String(whole)
                if WHOLE.contains(&name) && whole.len() <= caps::TRANSCRIPT_NAME_BYTES_MAX =>
            {
                Value::String(whole)
            }
            Value::String(piece) => {
                let mut text = String::new();
                self.append(&mut text, &piece);
                Value::String(text)
            }
            Value::Array(items) => {
                let items = items.into_iter();
                let kept = items.map_while(|it| (!self.is_cut).then(|| self.bounded(name, it)));
                Value::Array(kept.collect())
            }
            Value::Object(fields) => {
                let kept = fields.into_iter().map_while(|(name, value)| {
                    let value = (!self.is_cut).then(|| self.bounded(&name, value))?;
                    Some((name, value))
                });
                Value::Object(kept.collect())
            }
            small => small,
        }
    }

    fn append(&mut self, into: &mut String, piece: &str) {
        if self.is_cut {
            return;
        }
        let room = self.left.min(piece.len());
        let room = piece.floor_char_boundary(room);
        into.push_str(&piece[..room]);
        self.is_cut = room < piece.len();
        self.left -= room;
    }

    fn spend(&mut self, bytes: usize) {
        self.is_cut |= self.left < bytes;
        self.left = self.left.saturating_sub(bytes);
    }

    fn into_value(self) -> Value {
        let parts = self.parts.into_iter();
        let mut root = self.root;
        match self.format {
            AnswerFormat::Chat => {
                root.insert("object".into(), "chat.completion".into());
                let choices = parts.map(|(index, mut choice)| {
                    choice["index"] = index.into();
                    choice
                });
                root.insert("choices".into(), choices.collect());
            }
            AnswerFormat::Messages => {
                let blocks = parts.map(|(_, block)| with_input(block));
                root.insert("content".into(), blocks.collect());
            }
            AnswerFormat::Responses => {
                root.insert("output".into(), parts.map(|(_, item)| item).collect());
            }
        }
        let mut answer = Value::Object(root);
        if self.is_cut {
            drop_last_words("", &mut answer);
        }
        answer
    }
}

/// A block whose input came as pieces of JSON.
fn with_input(mut block: Value) -> Value {
    let input = block
        .as_object_mut()
        .and_then(|block| block.remove("partial_json"));
    if let Some(Value::String(json)) = input.filter(|json| json != "") {
        block["input"] = serde_json::from_str(&json).unwrap_or(Value::String(json));
    }
    block
}

/// The item that a piece may belong to.
fn place_of(items: &[Value], item: &Value) -> Option<usize> {
    let (before, last) = (items.len().checked_sub(1)?, items.last()?);
    let Some(index) = item.get("index") else {
        // Without an index, it is the last one if both are of one kind.
        let kind = text_of(item, "type");
        let is_one_kind = last.is_string() && item.is_string()
            || last.is_object()
                && item.is_object()
                && (kind.is_none() || text_of(last, "type") == kind);
        return is_one_kind.then_some(before);
    };
    let has_index = |other: &Value| other.get("index") == Some(index);
    items.iter().rposition(has_index).or_else(|| {
        // A call goes on under a number of its own, if it began under another's.
        let others = &items[..before];
        let is_double = others
            .iter()
            .any(|other| other.get("index") == last.get("index"));
        let is_piece = named(item).is_none() && !has_whole_arguments(last);
        let goes_on = match identified(item) {
            Some(id) => identified(last) == Some(id),
            None => is_double,
        };
        (item.get("function").is_some() && is_piece && goes_on).then_some(before)
    })
}

/// The name of a call.
fn named(call: &Value) -> Option<&str> {
    text_of(&call["function"], "name").filter(|name| !name.is_empty())
}

/// The id of a call.
fn identified(call: &Value) -> Option<&str> {
    text_of(call, "id").filter(|id| !id.is_empty())
}

fn has_whole_arguments(call: &Value) -> bool {
    let arguments = text_of(&call["function"], "arguments").unwrap_or_default();
    serde_json::from_str::<IgnoredAny>(arguments).is_ok()
}

/// Whether a piece says the whole arguments of its call again.
fn has_all_of(call: &Value, item: &Value) -> bool {
    let again = text_of(&item["function"], "arguments");
    again.is_some() && again == text_of(&call["function"], "arguments") && has_whole_arguments(call)
}

/// Whether a piece begins another call than the one before it, which has the same number or none: it
/// has another id, or a name behind arguments that are whole.
fn is_another_call(last: &Value, item: &Value) -> bool {
    let (Some(own), Some(name)) = (named(last), named(item)) else {
        return false;
    };
    match (identified(last), identified(item)) {
        (Some(own), Some(id)) => own != id,
        _ => {
            let is_whole = has_whole_arguments(last);
            let said = text_of(&item["function"], "arguments").unwrap_or_default();
            let has_index = item.get("index").is_some();
            is_whole && (!said.is_empty() || !has_index && own != name)
        }
    }
}

/// An item with one part that has text.
fn list_with_text(kind: &str, index: u64, text: Value) -> Value {
    let list = match kind {
        "summary_text" => "summary",
        _ => "content",
    };
    let field = match kind {
        "refusal" => "refusal",
        _ => "text",
    };
    json!({list: [{"index": index, "type": kind, field: text}]})
}

fn with_index(mut part: Value, index: u64) -> Value {
    if let Some(part) = part.as_object_mut() {
        part.insert("index".into(), index.into());
    }
    part
}

fn text_of<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name)?.as_str()
}

/// Removes the last word of each split text, which may be cut.
fn drop_last_words(name: &str, value: &mut Value) {
    match value {
        Value::String(text) if !WHOLE.contains(&name) => {
            let of_word = |c: char| c.is_ascii_alphanumeric() || "+/=_.~%-".contains(c);
            let kept = text.trim_end_matches(of_word).len();
            text.truncate(kept);
        }
        Value::Array(items) => items
            .iter_mut()
            .for_each(|item| drop_last_words(name, item)),
        Value::Object(fields) => {
            for (name, value) in fields {
                drop_last_words(name, value);
            }
        }
        _ => {}
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> String {
    let text = fields.get(name).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn number(fields: &Map<String, Value>, name: &str) -> u64 {
    fields.get(name).and_then(Value::as_u64).unwrap_or_default()
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(api: ClientApi, pieces: &[&[u8]], is_complete: bool, bytes_max: usize) -> (Value, bool) {
        let mut transcript = Transcript::new(api, true, bytes_max);
        for piece in pieces {
            transcript.push(&Bytes::copy_from_slice(piece));
        }
        let (json, is_cut) = transcript.finish(is_complete).unwrap();
        (serde_json::from_slice(&json).unwrap(), is_cut)
    }

    fn stream(events: &[Value]) -> String {
        events
            .iter()
            .map(|event| format!("event: x\ndata: {event}\n\n"))
            .collect()
    }

    /// The same at every split of the bytes.
    #[track_caller]
    fn check(api: ClientApi, events: &[Value], expected: &Value) {
        let stream = stream(events) + ": filler\n\ndata: [DONE]\n\n";
        for split in 0..=stream.len() {
            let (a, b) = stream.as_bytes().split_at(split);
            let (answer, is_cut) = run(api, &[a, b], true, 10_000);
            assert_eq!(&answer, expected, "split at {split}");
            assert!(!is_cut);
        }
    }

    #[test]
    fn a_chat_completion_is_put_together() {
        let delta = |index: u64, delta: Value| json!({"id": "c1", "object": "chat.completion.chunk", "model": "m", "obfuscation": "zz", "choices": [{"index": index, "delta": delta, "logprobs": {"content": [{"token": "He"}]}, "finish_reason": null}]});
        check(
            ClientApi::ChatCompletions,
            &[
                delta(0, json!({"role": "assistant", "content": ""})),
                delta(0, json!({"role": "assistant", "reasoning_content": "hm"})),
                delta(1, json!({"role": "assistant", "content": "other"})),
                delta(0, json!({"content": "Hel", "reasoning_content": "m"})),
                delta(0, json!({"content": "lo \"é\""})),
                delta(
                    0,
                    json!({"tool_calls": [{"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"a"}}]}),
                ),
                delta(
                    0,
                    json!({"tool_calls": [{"index": 0, "function": {"arguments": "\":1}"}}, {"index": 1, "id": "t2", "function": {"name": "g", "arguments": "{}"}}]}),
                ),
                json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}], "usage": null}),
                json!({"choices": [], "usage": {"prompt_tokens": 3}}),
            ],
            &json!({
                "id": "c1", "object": "chat.completion", "model": "m", "usage": {"prompt_tokens": 3},
                "choices": [
                    {"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": "Hello \"é\"", "reasoning_content": "hmm", "tool_calls": [
                        {"index": 0, "id": "t1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                        {"index": 1, "id": "t2", "function": {"name": "g", "arguments": "{}"}},
                    ]}},
                    {"index": 1, "message": {"role": "assistant", "content": "other"}},
                ],
            }),
        );
    }

    #[test]
    fn pieces_of_content_parts_are_joined() {
        let delta = |delta: Value| json!({"choices": [{"index": 0, "delta": delta}]});
        check(
            ClientApi::ChatCompletions,
            &[
                delta(
                    json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}]}),
                ),
                delta(
                    json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "m"}]}]}),
                ),
                delta(json!({"content": "Hel"})),
                delta(json!({"content": "lo"})),
            ],
            &json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "Hello",
            ]}}]}),
        );
    }

    #[test]
    fn a_message_is_put_together() {
        let delta = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
        check(
            ClientApi::Messages,
            &[
                json!({"type": "message_start", "message": {"id": "m1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null, "usage": {"input_tokens": 9, "output_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
                json!({"type": "ping"}),
                delta(0, json!({"type": "thinking_delta", "thinking": "h"})),
                delta(0, json!({"type": "thinking_delta", "thinking": "m"})),
                delta(0, json!({"type": "signature_delta", "signature": "abc"})),
                json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
                delta(1, json!({"type": "text_delta", "text": "Hel"})),
                delta(1, json!({"type": "text_delta", "text": "lo"})),
                delta(
                    1,
                    json!({"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "a"}}),
                ),
                delta(
                    1,
                    json!({"type": "citations_delta", "citation": {"type": "char_location", "cited_text": "b"}}),
                ),
                json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}}),
                delta(
                    2,
                    json!({"type": "input_json_delta", "partial_json": "{\"a\":"}),
                ),
                delta(
                    2,
                    json!({"type": "input_json_delta", "partial_json": "\"b\"}"}),
                ),
                json!({"type": "content_block_stop", "index": 2}),
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}}),
                json!({"type": "message_stop"}),
            ],
            &json!({
                "id": "m1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
                "usage": {"input_tokens": 9, "output_tokens": 7},
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "abc"},
                    {"type": "text", "text": "Hello", "citations": [{"type": "char_location", "cited_text": "a"}, {"type": "char_location", "cited_text": "b"}]},
                    {"type": "tool_use", "id": "t", "name": "f", "input": {"a": "b"}},
                ],
            }),
        );
    }

    #[test]
    fn a_response_is_put_together() {
        let response = |status: &str| json!({"id": "r1", "object": "response", "status": status, "model": "m", "output": [], "instructions": "left out"});
        check(
            ClientApi::Responses,
            &[
                json!({"type": "response.created", "response": response("in_progress")}),
                json!({"type": "response.output_item.added", "output_index": 0, "item": {"id": "i0", "type": "reasoning", "summary": []}}),
                json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "h"}),
                json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "m"}),
                json!({"type": "response.output_item.added", "output_index": 1, "item": {"id": "i1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}}),
                json!({"type": "response.content_part.added", "output_index": 1, "content_index": 0, "part": {"type": "output_text", "text": ""}}),
                json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "Hel"}),
                json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "lo"}),
                json!({"type": "response.output_text.done", "output_index": 1, "content_index": 0, "text": "Hello"}),
                json!({"type": "response.output_item.done", "output_index": 1, "item": {"id": "i1", "type": "message", "status": "completed", "content": [{"type": "output_text", "text": "Hello"}]}}),
                json!({"type": "response.output_item.added", "output_index": 2, "item": {"id": "i2", "type": "function_call", "name": "f", "call_id": "c", "arguments": ""}}),
                json!({"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{\"a\":"}),
                json!({"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "1}"}),
                json!({"type": "response.output_item.added", "output_index": 3, "item": {"type": "web_search_call", "status": "in_progress"}}),
                json!({"type": "response.output_item.done", "output_index": 3, "item": {"type": "web_search_call", "status": "completed", "query": "q"}}),
                json!({"type": "response.completed", "response": {"id": "r1", "status": "completed", "usage": {"input_tokens": 1}, "output": [{"type": "message"}]}}),
            ],
            &json!({
                "id": "r1", "object": "response", "status": "completed", "model": "m", "usage": {"input_tokens": 1},
                "output": [
                    {"id": "i0", "type": "reasoning", "summary": [{"index": 0, "type": "summary_text", "text": "hm"}]},
                    {"id": "i1", "type": "message", "role": "assistant", "status": "completed", "content": [{"index": 0, "type": "output_text", "text": "Hello"}]},
                    {"id": "i2", "type": "function_call", "name": "f", "call_id": "c", "arguments": "{\"a\":1}"},
                    {"type": "web_search_call", "status": "completed", "query": "q"},
                ],
            }),
        );
    }

    #[test]
    fn an_answer_that_is_cut_loses_the_word_that_may_be_half() {
        let delta = |text: &str| json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}}]});
        let text = |answer: &Value| {
            answer["choices"][0]["message"]["content"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let events = stream(&[delta("the key is "), delta("sk-abc"), delta("def")]);
        let (answer, is_cut) = run(
            ClientApi::ChatCompletions,
            &[events.as_bytes()],
            false,
            10_000,
        );
        assert_eq!((text(&answer), is_cut), ("the key is ".to_owned(), true));
        for bytes_max in 200..240 {
            let long = stream(&[delta("word "), delta(&"sk-12345".repeat(40)), delta(" end")]);
            let (answer, is_cut) = run(
                ClientApi::ChatCompletions,
                &[long.as_bytes()],
                true,
                bytes_max,
            );
            assert_eq!((text(&answer), is_cut), ("word ".to_owned(), true));
            assert_eq!(answer["choices"][0]["message"]["role"], "assistant");
        }
    }

    #[test]
    fn what_is_held_is_bounded() {
        let delta = json!({"choices": [{"index": 0, "delta": {"content": "x".repeat(1000), "list": [{"index": 0}, {"a": 1}]}}]});
        let events = stream(&[delta]).repeat(500);
        let (answer, is_cut) = run(
            ClientApi::ChatCompletions,
            &[events.as_bytes()],
            true,
            5_000,
        );
        assert!(is_cut);
        assert!(answer.to_string().len() < 6_000, "{answer}");
        let events: Vec<Value> = (0..10_000).map(|index| json!({"type": "content_block_start", "index": index, "content_block": {"type": "text"}})).collect();
        let (answer, _) = run(
            ClientApi::Messages,
            &[stream(&events).as_bytes()],
            true,
            5_000,
        );
        assert!(
            answer.to_string().len() < 6_000,
            "{}",
            answer.to_string().len()
        );
    }

    #[test]
    fn what_cannot_be_read_is_not_kept() {
        let mut transcript = Transcript::new(ClientApi::ChatCompletions, true, 1000);
        transcript.push(&Bytes::from_static(b"data: {\"half\n\n"));
        assert_eq!(transcript.finish(true), Err(NoTranscript::Unreadable));
        let mut transcript = Transcript::new(ClientApi::Embeddings, false, 10);
        transcript.push(&Bytes::from_static(b"{\"data\":[]}"));
        assert_eq!(transcript.finish(true), Err(NoTranscript::TooLarge));
    }
}
