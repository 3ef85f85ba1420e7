//! Events, into the responses answer that a client gets, plain or streamed.
//!
//! The last event of a stream repeats the whole answer, so it is collected: memory grows with the
//! answer, within [`crate::caps::TRANSLATED_BODY_BYTES_MAX`].

use weir_schemas::Usage;

use crate::answer::{Answer, Piece, put_lost};
use crate::error::{ApiError, ApiErrorKind, put_openai_error};
use crate::facts::{FinishReason, ResponseFacts};
use crate::json::{Text, ToJson, Writer};
use crate::neutral::{AnswerEvent, Citation, ReasoningSignature, ToolUse};
use crate::response_context::AnswerIdentity;
use crate::usage::cache_writes;

/// Writes a stream. Each call adds frames to the writer that it is given.
#[derive(Debug, Default)]
pub(crate) struct ResponsesWriter {
    identity: AnswerIdentity,
    answer: Answer,
    /// Number of the next frame.
    sequence: u64,
    /// The piece whose item is open.
    open: Option<usize>,
}

impl ResponsesWriter {
    pub(crate) fn new(identity: AnswerIdentity) -> Self {
        Self {
            identity,
            ..Self::default()
        }
    }

    /// Goes on with a stream that has passed unchanged, up to the frame before `sequence`.
    pub(crate) fn after(identity: AnswerIdentity, facts: &ResponseFacts, sequence: u64) -> Self {
        let text = |said: &Option<String>| said.clone().map(Text::owned);
        let mut writer = Self::new(identity);
        writer.answer.id = text(&facts.upstream_id);
        writer.answer.model = text(&facts.upstream_model);
        writer.sequence = sequence;
        writer
    }

    /// Bytes that are kept for the last event.
    pub(crate) fn held_bytes(&self) -> usize {
        self.answer.text_bytes()
    }

    pub(crate) fn write(&mut self, event: &AnswerEvent<'_>, w: &mut Writer) {
        if matches!(event, AnswerEvent::Alive) {
            w.verbatim(": keep-alive\n\n");
            return;
        }
        let before = self.answer.pieces.len();
        self.answer.add(event);
        if self.answer.pieces.len() > before {
            self.begin_item(before, w);
        }
        match event {
            AnswerEvent::Start { .. } => self.begin(w),
            AnswerEvent::Text(part) => self.delta(&TEXT, part, w),
            AnswerEvent::Refusal(part) => self.delta(&REFUSAL, part, w),
            AnswerEvent::Reasoning(part) => self.delta(&SUMMARY, part, w),
            AnswerEvent::Arguments { index, part } => {
                if let Some(output) = self.answer.output_of_call(*index) {
                    let name = "response.function_call_arguments.delta";
                    self.frame(name, output, w, |w| w.put("delta", part));
                }
            }
            AnswerEvent::Citation(citation) => self.annotate(citation, w),
            AnswerEvent::CallEnd { .. } => self.end_open_item(w),
            AnswerEvent::End => self.end(w),
            _ => {}
        }
    }

    /// A citation belongs to the newest text.
    fn annotate(&mut self, citation: &Citation<'_>, w: &mut Writer) {
        let Some((output, _)) = self.answer.citations.last() else {
            return;
        };
        let (output, number) = (*output, self.answer.citations_of(*output).count() - 1);
        self.frame("response.output_text.annotation.added", output, w, |w| {
            w.put("content_index", 0_u64);
            w.put("annotation_index", number as u64);
            w.key("annotation");
            write_annotation(w, citation);
        });
    }

    /// Ends a stream that cannot go on, with the two events that OpenAI sends.
    ///
    /// SDKs raise for `error`, and pass `response.failed` on like any event; Codex reads that one alone.
    /// The reference has the fields of `error` beside its type; OpenAI nests them, and its SDKs raise only
    /// for those. Before `response.created` SDKs read no other event.
    pub(crate) fn fail(&mut self, error: &ApiError<'_>, w: &mut Writer) {
        if self.sequence == 0 {
            self.begin(w);
        }
        let sequence = self.next_sequence();
        frame("error", sequence, w, |w| {
            w.put("code", error.code());
            w.put("message", &*error.message);
            w.put("param", error.param.as_deref());
            put_openai_error(w, error);
        });
        self.lifecycle("response.failed", "failed", Some(error), w);
    }

    fn begin(&mut self, w: &mut Writer) {
        self.lifecycle("response.created", "in_progress", None, w);
        self.lifecycle("response.in_progress", "in_progress", None, w);
    }

    fn lifecycle(
        &mut self,
        name: &str,
        status: &str,
        error: Option<&ApiError<'_>>,
        w: &mut Writer,
    ) {
        let sequence = self.next_sequence();
        frame(name, sequence, w, |w| {
            w.put_object("response", |w| {
                write_response(w, &self.answer, &self.identity, status, error)
            });
        });
    }

    const fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence - 1
    }

    /// Writes a frame about an item.
    fn frame(&mut self, name: &str, output: usize, w: &mut Writer, fill: impl FnOnce(&mut Writer)) {
        let sequence = self.next_sequence();
        frame(name, sequence, w, |w| {
            w.put("item_id", ItemId::of(&self.answer, output, &self.identity));
            w.put("output_index", output as u64);
            fill(w);
        });
    }

    /// Writes a frame that holds an item.
    fn item_frame(&mut self, name: &str, output: usize, is_new: bool, w: &mut Writer) {
        let sequence = self.next_sequence();
        frame(name, sequence, w, |w| {
            w.put("output_index", output as u64);
            let status = if is_new {
                "in_progress"
            } else {
                item_status(&self.answer, output, status(self.answer.finish))
            };
            w.put_object("item", |w| {
                write_item(w, &self.answer, output, &self.identity, status);
            });
        });
    }

    /// Begins the item of the newest piece, and ends the one before.
    fn begin_item(&mut self, output: usize, w: &mut Writer) {
        self.end_open_item(w);
        self.open = Some(output);
        self.item_frame("response.output_item.added", output, true, w);
        match &self.answer.pieces[output] {
            Piece::ToolUse(call) if call.is_free_text => {
                let input = call.arguments.clone();
                let name = "response.custom_tool_call_input.delta";
                self.frame(name, output, w, |w| w.put("delta", input));
            }
            Piece::ToolUse(_) => {}
            piece => {
                if let Some((part, _)) = part_of(piece) {
                    self.part_frame(part.added, part, output, &Text::EMPTY, w);
                }
            }
        }
    }

    /// Writes a frame that holds the only part of an item.
    fn part_frame(
        &mut self,
        name: &str,
        part: &'static PartKind,
        output: usize,
        text: &Text<'_>,
        w: &mut Writer,
    ) {
        // A part that begins has no text that could be cited.
        let citations = if text.is_empty() {
            Vec::new()
        } else {
            let cited = self.answer.citations_of(output);
            cited.map(Citation::to_owned).collect()
        };
        let citations: Vec<_> = citations.iter().collect();
        self.frame(name, output, w, |w| {
            w.put(part.index, 0_u64);
            w.put_object("part", |w| part.write(w, text, &citations));
        });
    }

    fn delta(&mut self, part: &PartKind, text: &Text<'_>, w: &mut Writer) {
        let output = self.answer.pieces.len().saturating_sub(1);
        self.frame(part.delta, output, w, |w| {
            w.put(part.index, 0_u64);
            w.put("delta", text);
            part.write_logprobs(w);
        });
    }

    fn end_open_item(&mut self, w: &mut Writer) {
        if let Some(output) = self.open.take() {
            self.end_item(output, w);
        }
    }

    fn end_item(&mut self, output: usize, w: &mut Writer) {
        match &self.answer.pieces[output] {
            Piece::ToolUse(call) => {
                let (name, key) = if call.is_free_text {
                    ("response.custom_tool_call_input.done", "input")
                } else {
                    ("response.function_call_arguments.done", "arguments")
                };
                let arguments = call.arguments.clone();
                // OpenAI's types of 2025 require the name of a function here.
                let function = (!call.is_free_text).then(|| call.name.clone());
                self.frame(name, output, w, |w| {
                    w.put_some("name", function);
                    w.put(key, arguments);
                });
            }
            piece => {
                if let Some((part, text)) = part_of(piece) {
                    let text = text.clone();
                    self.frame(part.text_done, output, w, |w| {
                        w.put(part.index, 0_u64);
                        w.put(part.key, &text);
                        part.write_logprobs(w);
                    });
                    self.part_frame(part.done, part, output, &text, w);
                }
            }
        }
        self.item_frame("response.output_item.done", output, false, w);
    }

    fn end(&mut self, w: &mut Writer) {
        self.end_open_item(w);
        let status = status(self.answer.finish);
        self.lifecycle(&format!("response.{status}"), status, None, w);
    }
}

/// The one part of an item that holds text: how it is named, written and streamed.
#[derive(Debug)]
struct PartKind {
    kind: &'static str,
    key: &'static str,
    /// The field with the part's index.
    index: &'static str,
    added: &'static str,
    delta: &'static str,
    text_done: &'static str,
    done: &'static str,
    /// Whether its events have logprobs: OpenAI's types require them.
    has_logprobs: bool,
}

const TEXT: PartKind = PartKind {
    kind: "output_text",
    key: "text",
    index: "content_index",
    added: "response.content_part.added",
    delta: "response.output_text.delta",
    text_done: "response.output_text.done",
    done: "response.content_part.done",
    has_logprobs: true,
};

const REFUSAL: PartKind = PartKind {
    kind: "refusal",
    key: "refusal",
    delta: "response.refusal.delta",
    text_done: "response.refusal.done",
    has_logprobs: false,
    ..TEXT
};

const SUMMARY: PartKind = PartKind {
    kind: "summary_text",
    index: "summary_index",
    added: "response.reasoning_summary_part.added",
    delta: "response.reasoning_summary_text.delta",
    text_done: "response.reasoning_summary_text.done",
    done: "response.reasoning_summary_part.done",
    has_logprobs: false,
    ..TEXT
};

impl PartKind {
    fn write(&self, w: &mut Writer, text: &Text<'_>, citations: &[&Citation<'_>]) {
        w.put("type", self.kind);
        w.put(self.key, text);
        if self.kind == TEXT.kind {
            w.put_each("annotations", citations, |w, citation| {
                write_annotation(w, citation);
            });
        }
    }

    fn write_logprobs(&self, w: &mut Writer) {
        if self.has_logprobs {
            w.put_array("logprobs", |_| {});
        }
    }
}

fn write_annotation(w: &mut Writer, citation: &Citation<'_>) {
    let (start, end) = citation.span();
    w.typed("url_citation", |w| {
        w.put("url", &citation.url);
        w.put("title", &citation.title);
        w.put("start_index", start);
        w.put("end_index", end);
    });
}

/// The part of an item and its text. Calls and encrypted reasoning have none.
fn part_of(piece: &Piece) -> Option<(&'static PartKind, &Text<'static>)> {
    match piece {
        Piece::Text(text) => Some((&TEXT, text)),
        Piece::Refusal(text) => Some((&REFUSAL, text)),
        Piece::Reasoning { text, .. } => (!text.is_empty()).then_some((&SUMMARY, text)),
        Piece::ToolUse(_) => None,
    }
}

fn frame(name: &str, sequence: u64, w: &mut Writer, fill: impl FnOnce(&mut Writer)) {
    w.event(name, |w| {
        w.put("sequence_number", sequence);
        fill(w);
    });
}

const fn status(finish: Option<FinishReason>) -> &'static str {
    match finish {
        Some(FinishReason::Length | FinishReason::ContentFilter) => "incomplete",
        _ => "completed",
    }
}

/// The status of an item: if the answer is incomplete, its last item is.
fn item_status(answer: &Answer, output: usize, status: &str) -> &'static str {
    let is_last = output + 1 == answer.pieces.len();
    if is_last && status != "completed" {
        "incomplete"
    } else {
        "completed"
    }
}

/// Writes a whole body.
pub(crate) fn write_plain(answer: &Answer, identity: &AnswerIdentity) -> String {
    Writer::document(1024, |w| {
        write_response(w, answer, identity, status(answer.finish), None);
    })
}

/// Writes the fields of a response.
fn write_response(
    w: &mut Writer,
    answer: &Answer,
    identity: &AnswerIdentity,
    status: &str,
    error: Option<&ApiError<'_>>,
) {
    let is_over = status != "in_progress";
    let given = answer
        .id
        .as_ref()
        .filter(|id| id.as_escaped().starts_with("resp_"));
    w.put("id", identity.answer_id(given, "resp_"));
    w.put("object", "response");
    w.put("created_at", identity.created_s);
    w.put("status", status);
    match error {
        None => w.put_null("error"),
        Some(error) => w.put_object("error", |w| {
            w.put("code", failure_code(error));
            w.put("message", &*error.message);
        }),
    }
    let why = match answer.finish {
        Some(FinishReason::Length) => Some("max_output_tokens"),
        Some(FinishReason::ContentFilter) => Some("content_filter"),
        _ => None,
    };
    match why {
        Some(why) => w.put_object("incomplete_details", |w| w.put("reason", why)),
        None => w.put_null("incomplete_details"),
    }
    w.put_null("instructions");
    w.put_null("max_output_tokens");
    w.put("model", identity.model(answer.model.as_ref()));
    let items = if is_over { answer.pieces.len() } else { 0 };
    w.put_each("output", 0..items, |w, output| {
        let item = item_status(answer, output, status);
        w.object(|w| write_item(w, answer, output, identity, item));
    });
    w.put("parallel_tool_calls", true);
    w.put_null("previous_response_id");
    w.put("store", false);
    w.put_null("temperature");
    w.put_object("text", |w| {
        w.put_object("format", |w| w.put("type", "text"))
    });
    w.put("tool_choice", "auto");
    w.put_array("tools", |_| {});
    w.put_null("top_p");
    w.put("truncation", "disabled");
    match &answer.usage {
        Some(usage) if is_over => w.put_object("usage", |w| write_usage(w, usage)),
        _ => w.put_null("usage"),
    }
    w.put_object("metadata", |_| {});
    put_lost(w, &answer.lost);
}

/// The code of a failed response: one of those that OpenAI's types list, or that its API is known to say
/// beside them (`context_length_exceeded`, `insufficient_quota`).
fn failure_code<'e>(error: &'e ApiError<'_>) -> &'e str {
    match error.kind {
        ApiErrorKind::Internal
        | ApiErrorKind::ProviderError
        | ApiErrorKind::ProviderTimeout
        | ApiErrorKind::Overloaded => "server_error",
        ApiErrorKind::InvalidRequest | ApiErrorKind::Unsupported | ApiErrorKind::ContentFilter => {
            "invalid_prompt"
        }
        _ => error.code(),
    }
}

/// The id of an item, which is in every event about it.
struct ItemId<'a> {
    prefix: &'static str,
    request_id: &'a str,
    output: u64,
}

impl<'a> ItemId<'a> {
    fn of(answer: &Answer, output: usize, identity: &'a AnswerIdentity) -> Self {
        let prefix = match answer.pieces.get(output) {
            Some(Piece::Reasoning { .. }) => "rs",
            Some(Piece::ToolUse(call)) if call.is_free_text => "ctc",
            Some(Piece::ToolUse(_)) => "fc",
            _ => "msg",
        };
        Self {
            prefix,
            request_id: &identity.request_id,
            output: output as u64,
        }
    }
}

impl ToJson for ItemId<'_> {
    fn write_to(&self, out: &mut String) {
        out.push('"');
        out.push_str(self.prefix);
        out.push('_');
        out.push_str(Text::plain(self.request_id).as_escaped());
        out.push('_');
        self.output.write_to(out);
        out.push('"');
    }
}

/// Writes the fields of an item; those of a new one are empty.
fn write_item(
    w: &mut Writer,
    answer: &Answer,
    output: usize,
    identity: &AnswerIdentity,
    status: &str,
) {
    let is_new = status == "in_progress";
    let piece = &answer.pieces[output];
    w.put("id", ItemId::of(answer, output, identity));
    let list = match piece {
        Piece::ToolUse(call) => return write_call(w, call, status, identity, is_new),
        Piece::Reasoning { .. } => {
            w.put("type", "reasoning");
            "summary"
        }
        Piece::Text(_) | Piece::Refusal(_) => {
            w.put("type", "message");
            w.put("status", status);
            w.put("role", "assistant");
            "content"
        }
    };
    w.put_array(list, |w| {
        if let Some((part, text)) = part_of(piece).filter(|_| !is_new) {
            let citations: Vec<_> = answer.citations_of(output).collect();
            w.object(|w| part.write(w, text, &citations));
        }
    });
    if let Piece::Reasoning { signature, .. } = piece {
        let signature = signature.as_ref().filter(|_| !is_new);
        w.put_some(
            "encrypted_content",
            signature.map(ReasoningSignature::marked),
        );
    }
}

fn write_call(
    w: &mut Writer,
    call: &ToolUse<'_>,
    status: &str,
    identity: &AnswerIdentity,
    is_new: bool,
) {
    let (kind, key) = if call.is_free_text {
        ("custom_tool_call", "input")
    } else {
        ("function_call", "arguments")
    };
    w.put("type", kind);
    w.put("status", status);
    w.put("call_id", identity.call_id(call.id.as_ref(), call.index));
    w.put("name", &call.name);
    let arguments = if is_new {
        &Text::EMPTY
    } else {
        &call.arguments
    };
    w.put(key, arguments);
}

fn write_usage(w: &mut Writer, usage: &Usage) {
    let input = usage.input_tokens.unwrap_or(0);
    let output = usage.output_tokens.unwrap_or(0);
    w.put("input_tokens", input);
    w.put_object("input_tokens_details", |w| {
        w.put("cached_tokens", usage.cached_input_tokens.unwrap_or(0));
        // OpenAI's types require it since 2026.
        w.put("cache_write_tokens", cache_writes(usage).unwrap_or(0));
        let short = usage.cache_write_30m_tokens;
        let long = usage.cache_write_12h_tokens;
        if short.or(long).is_some() {
            w.put_object("cache_write_tokens_details", |w| {
                w.put("ttl_30m_tokens", short.unwrap_or(0));
                w.put("ttl_12h_tokens", long.unwrap_or(0));
            });
        }
    });
    w.put("output_tokens", output);
    w.put_object("output_tokens_details", |w| {
        w.put("reasoning_tokens", usage.reasoning_tokens.unwrap_or(0));
    });
    w.put("total_tokens", input.saturating_add(output));
}
