//! Events, into the responses answer that a client gets, plain or streamed.
//!
//! The last event of a stream holds the whole answer again, so a stream is put together while it
//! passes: memory grows with the answer, within [`crate::caps::TRANSLATED_BODY_BYTES_MAX`].

use weir_schemas::Usage;

use crate::answer::{Answer, Call, Identity, Piece};
use crate::chat::{cache_writes, put_count};
use crate::error::ApiError;
use crate::json::{Text, Writer};
use crate::neutral::Event;
use crate::response::FinishReason;

/// Writes a stream. Frames are added to the writer that is handed in.
#[derive(Debug)]
pub(crate) struct StreamWriter {
    identity: Identity,
    answer: Answer,
    /// Number of the next frame.
    sequence: u64,
    /// Pieces whose items are open. Calls may be open beside each other.
    open: Vec<usize>,
}

impl StreamWriter {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            answer: Answer::default(),
            sequence: 0,
            open: Vec::new(),
        }
    }

    /// Bytes that are kept for the last event.
    pub(crate) fn held_bytes(&self) -> usize {
        self.answer.text_bytes()
    }

    pub(crate) fn write(&mut self, event: &Event<'_>, w: &mut Writer) {
        if matches!(event, Event::Alive) {
            w.verbatim(": keep-alive\n\n");
            return;
        }
        let before = self.answer.pieces.len();
        self.answer.note(event);
        if self.answer.pieces.len() > before {
            self.begin_item(before, w);
        }
        match event {
            Event::Start { .. } => {
                self.lifecycle("response.created", "in_progress", w);
                self.lifecycle("response.in_progress", "in_progress", w);
            }
            Event::Text(part) => self.delta("response.output_text.delta", "content_index", part, w),
            Event::Refusal(part) => self.delta("response.refusal.delta", "content_index", part, w),
            Event::Reasoning(part) => {
                self.delta(
                    "response.reasoning_summary_text.delta",
                    "summary_index",
                    part,
                    w,
                );
            }
            Event::Arguments { index, part } => {
                if let Some(output) = self.answer.output_of_call(*index) {
                    let id = self.item_id(output);
                    self.frame("response.function_call_arguments.delta", w, |w| {
                        w.put_str("item_id", &id);
                        w.put_u64("output_index", output as u64);
                        w.put_text("delta", part);
                    });
                }
            }
            Event::End => self.end(w),
            _ => {}
        }
    }

    /// Ends a stream that cannot go on.
    pub(crate) fn fail(&mut self, error: &ApiError<'_>, w: &mut Writer) {
        let (identity, answer) = (&self.identity, &self.answer);
        let sequence = self.sequence;
        self.sequence += 1;
        frame("response.failed", sequence, w, |w| {
            w.put_object("response", |w| {
                write_response(w, answer, identity, "failed", Some(error));
            });
        });
    }

    fn lifecycle(&mut self, name: &str, status: &str, w: &mut Writer) {
        let sequence = self.sequence;
        self.sequence += 1;
        let (identity, answer) = (&self.identity, &self.answer);
        frame(name, sequence, w, |w| {
            w.put_object("response", |w| {
                write_response(w, answer, identity, status, None)
            });
        });
    }

    fn frame(&mut self, name: &str, w: &mut Writer, fill: impl FnOnce(&mut Writer)) {
        let sequence = self.sequence;
        self.sequence += 1;
        frame(name, sequence, w, fill);
    }

    fn item_id(&self, output: usize) -> String {
        item_id(&self.answer.pieces, output, &self.identity)
    }

    fn is_call(&self, output: usize) -> bool {
        matches!(self.answer.pieces.get(output), Some(Piece::Call(_)))
    }

    /// Begins the item of the newest piece, and ends those that cannot be open beside it.
    fn begin_item(&mut self, output: usize, w: &mut Writer) {
        let beside_calls = self.is_call(output);
        self.end_items(beside_calls, w);
        self.open.push(output);
        let id = self.item_id(output);
        let item = self.item(output, true);
        self.frame("response.output_item.added", w, |w| {
            w.put_u64("output_index", output as u64);
            w.put_raw("item", &item);
        });
        match &self.answer.pieces[output] {
            Piece::Text(_) => self.part("response.content_part.added", &id, output, w, &|w| {
                write_text_part(w, &Text::EMPTY);
            }),
            Piece::Refusal(_) => self.part("response.content_part.added", &id, output, w, &|w| {
                write_refusal_part(w, &Text::EMPTY);
            }),
            Piece::Reasoning { text, .. } if !text.is_empty() => {
                self.frame("response.reasoning_summary_part.added", w, |w| {
                    w.put_str("item_id", &id);
                    w.put_u64("output_index", output as u64);
                    w.put_u64("summary_index", 0);
                    w.put_object("part", |w| write_summary_part(w, &Text::EMPTY));
                });
            }
            Piece::Reasoning { .. } => {}
            Piece::Call(call) if call.is_free_text => {
                let input = call.arguments.clone();
                self.frame("response.custom_tool_call_input.delta", w, |w| {
                    w.put_str("item_id", &id);
                    w.put_u64("output_index", output as u64);
                    w.put_text("delta", &input);
                });
            }
            Piece::Call(_) => {}
        }
    }

    fn part(
        &mut self,
        name: &str,
        id: &str,
        output: usize,
        w: &mut Writer,
        fill: &dyn Fn(&mut Writer),
    ) {
        self.frame(name, w, |w| {
            w.put_str("item_id", id);
            w.put_u64("output_index", output as u64);
            w.put_u64("content_index", 0);
            w.put_object("part", fill);
        });
    }

    fn delta(&mut self, name: &str, index: &str, part: &Text<'_>, w: &mut Writer) {
        let output = self.answer.pieces.len().saturating_sub(1);
        let id = self.item_id(output);
        self.frame(name, w, |w| {
            w.put_str("item_id", &id);
            w.put_u64("output_index", output as u64);
            w.put_u64(index, 0);
            w.put_text("delta", part);
        });
    }

    /// Ends the items that are open; calls only if they are not to stay.
    fn end_items(&mut self, calls_stay: bool, w: &mut Writer) {
        for output in std::mem::take(&mut self.open) {
            if calls_stay && self.is_call(output) {
                self.open.push(output);
            } else {
                self.end_item(output, w);
            }
        }
    }

    fn end_item(&mut self, output: usize, w: &mut Writer) {
        let id = self.item_id(output);
        match &self.answer.pieces[output] {
            Piece::Text(text) => {
                let text = text.clone();
                self.said("response.output_text.done", "text", &id, output, &text, w);
                self.part("response.content_part.done", &id, output, w, &|w| {
                    write_text_part(w, &text);
                });
            }
            Piece::Refusal(text) => {
                let text = text.clone();
                self.said("response.refusal.done", "refusal", &id, output, &text, w);
                self.part("response.content_part.done", &id, output, w, &|w| {
                    write_refusal_part(w, &text);
                });
            }
            Piece::Reasoning { text, .. } if !text.is_empty() => {
                let text = text.clone();
                for (name, is_part) in [
                    ("response.reasoning_summary_text.done", false),
                    ("response.reasoning_summary_part.done", true),
                ] {
                    self.frame(name, w, |w| {
                        w.put_str("item_id", &id);
                        w.put_u64("output_index", output as u64);
                        w.put_u64("summary_index", 0);
                        if is_part {
                            w.put_object("part", |w| write_summary_part(w, &text));
                        } else {
                            w.put_text("text", &text);
                        }
                    });
                }
            }
            Piece::Reasoning { .. } => {}
            Piece::Call(call) => {
                let (name, key) = if call.is_free_text {
                    ("response.custom_tool_call_input.done", "input")
                } else {
                    ("response.function_call_arguments.done", "arguments")
                };
                let arguments = call.arguments.clone();
                self.frame(name, w, |w| {
                    w.put_str("item_id", &id);
                    w.put_u64("output_index", output as u64);
                    w.put_text(key, &arguments);
                });
            }
        }
        let item = self.item(output, false);
        self.frame("response.output_item.done", w, |w| {
            w.put_u64("output_index", output as u64);
            w.put_raw("item", &item);
        });
    }

    fn said(
        &mut self,
        name: &str,
        key: &str,
        id: &str,
        output: usize,
        text: &Text<'_>,
        w: &mut Writer,
    ) {
        self.frame(name, w, |w| {
            w.put_str("item_id", id);
            w.put_u64("output_index", output as u64);
            w.put_u64("content_index", 0);
            w.put_text(key, text);
        });
    }

    fn item(&self, output: usize, is_new: bool) -> String {
        Writer::document(256, |w| {
            let status = if is_new {
                "in_progress"
            } else {
                item_status(&self.answer, output, status(self.answer.finish))
            };
            write_item(w, &self.answer.pieces, output, &self.identity, status);
        })
    }

    fn end(&mut self, w: &mut Writer) {
        self.end_items(false, w);
        let status = status(self.answer.finish);
        self.lifecycle(&format!("response.{status}"), status, w);
    }
}

fn frame(name: &str, sequence: u64, w: &mut Writer, fill: impl FnOnce(&mut Writer)) {
    w.verbatim("event: ");
    w.verbatim(name);
    w.verbatim("\ndata: {");
    w.put_str("type", name);
    w.put_u64("sequence_number", sequence);
    fill(w);
    w.verbatim("}\n\n");
}

const fn status(finish: Option<FinishReason>) -> &'static str {
    match finish {
        Some(FinishReason::Length | FinishReason::ContentFilter) => "incomplete",
        _ => "completed",
    }
}

/// What an item is in an answer that ended so: where the answer was cut, its last item was.
fn item_status(answer: &Answer, output: usize, status: &str) -> &'static str {
    let is_last = output + 1 == answer.pieces.len();
    if is_last && status != "completed" {
        "incomplete"
    } else {
        "completed"
    }
}

/// Writes a whole body.
pub(crate) fn write_plain(answer: &Answer, identity: &Identity) -> String {
    Writer::document(1024, |w| {
        write_response(w, answer, identity, status(answer.finish), None);
    })
}

/// The inside of a response.
fn write_response(
    w: &mut Writer,
    answer: &Answer,
    identity: &Identity,
    status: &str,
    error: Option<&ApiError<'_>>,
) {
    let is_over = status != "in_progress";
    let given = answer
        .id
        .as_ref()
        .filter(|id| id.as_escaped().starts_with("resp_"));
    w.put_text("id", &identity.answer_id(given, "resp_"));
    w.put_str("object", "response");
    w.put_u64("created_at", identity.created_s);
    w.put_str("status", status);
    match error {
        None => w.put_null("error"),
        Some(error) => w.put_object("error", |w| {
            w.put_str(
                "code",
                error.code.as_deref().unwrap_or_else(|| error.kind.code()),
            );
            w.put_str("message", &error.message);
        }),
    }
    let why = match answer.finish {
        Some(FinishReason::Length) => Some("max_output_tokens"),
        Some(FinishReason::ContentFilter) => Some("content_filter"),
        _ => None,
    };
    match why {
        Some(why) => w.put_object("incomplete_details", |w| w.put_str("reason", why)),
        None => w.put_null("incomplete_details"),
    }
    w.put_null("instructions");
    w.put_null("max_output_tokens");
    w.put_text("model", &identity.model(answer.model.as_ref()));
    w.put_array("output", |w| {
        if is_over {
            for output in 0..answer.pieces.len() {
                let item = item_status(answer, output, status);
                w.object(|w| write_item(w, &answer.pieces, output, identity, item));
            }
        }
    });
    w.put_bool("parallel_tool_calls", true);
    w.put_null("previous_response_id");
    w.put_bool("store", false);
    w.put_null("temperature");
    w.put_object("text", |w| {
        w.put_object("format", |w| w.put_str("type", "text"))
    });
    w.put_str("tool_choice", "auto");
    w.put_array("tools", |_| {});
    w.put_null("top_p");
    w.put_str("truncation", "disabled");
    match &answer.usage {
        Some(usage) if is_over => w.put_object("usage", |w| write_usage(w, usage)),
        _ => w.put_null("usage"),
    }
    w.put_object("metadata", |_| {});
}

fn item_id(pieces: &[Piece], output: usize, identity: &Identity) -> String {
    let prefix = match pieces.get(output) {
        Some(Piece::Reasoning { .. }) => "rs",
        Some(Piece::Call(call)) if call.is_free_text => "ctc",
        Some(Piece::Call(_)) => "fc",
        _ => "msg",
    };
    format!("{prefix}_{}_{output}", identity.request_id)
}

/// The inside of an item; of a new one, as it is before anything is added.
fn write_item(w: &mut Writer, pieces: &[Piece], output: usize, identity: &Identity, status: &str) {
    let is_new = status == "in_progress";
    w.put_str("id", &item_id(pieces, output, identity));
    match &pieces[output] {
        Piece::Text(text) => write_message(w, status, |w| {
            if !is_new {
                w.object(|w| write_text_part(w, text));
            }
        }),
        Piece::Refusal(text) => write_message(w, status, |w| {
            if !is_new {
                w.object(|w| write_refusal_part(w, text));
            }
        }),
        Piece::Reasoning { text, proof } => {
            w.put_str("type", "reasoning");
            w.put_array("summary", |w| {
                if !is_new && !text.is_empty() {
                    w.object(|w| write_summary_part(w, text));
                }
            });
            if let (false, Some(proof)) = (is_new, proof) {
                w.put_text("encrypted_content", &proof.marked());
            }
        }
        Piece::Call(call) => write_call(w, call, status, identity, is_new),
    }
}

fn write_message(w: &mut Writer, status: &str, content: impl FnOnce(&mut Writer)) {
    w.put_str("type", "message");
    w.put_str("status", status);
    w.put_str("role", "assistant");
    w.put_array("content", content);
}

fn write_call(w: &mut Writer, call: &Call, status: &str, identity: &Identity, is_new: bool) {
    let (kind, key) = if call.is_free_text {
        ("custom_tool_call", "input")
    } else {
        ("function_call", "arguments")
    };
    w.put_str("type", kind);
    w.put_str("status", status);
    let made = identity.call_id(call.index);
    w.put_text("call_id", call.id.as_ref().unwrap_or(&made));
    w.put_text("name", &call.name);
    w.put_text(
        key,
        if is_new {
            &Text::EMPTY
        } else {
            &call.arguments
        },
    );
}

fn write_text_part(w: &mut Writer, text: &Text<'_>) {
    w.put_str("type", "output_text");
    w.put_text("text", text);
    w.put_array("annotations", |_| {});
}

fn write_refusal_part(w: &mut Writer, text: &Text<'_>) {
    w.put_str("type", "refusal");
    w.put_text("refusal", text);
}

fn write_summary_part(w: &mut Writer, text: &Text<'_>) {
    w.put_str("type", "summary_text");
    w.put_text("text", text);
}

fn write_usage(w: &mut Writer, usage: &Usage) {
    let (input, output) = (
        usage.input_tokens.unwrap_or(0),
        usage.output_tokens.unwrap_or(0),
    );
    w.put_u64("input_tokens", input);
    w.put_object("input_tokens_details", |w| {
        w.put_u64("cached_tokens", usage.cached_input_tokens.unwrap_or(0));
        put_count(w, "cache_write_tokens", cache_writes(usage));
    });
    w.put_u64("output_tokens", output);
    w.put_object("output_tokens_details", |w| {
        w.put_u64("reasoning_tokens", usage.reasoning_tokens.unwrap_or(0));
    });
    w.put_u64("total_tokens", input.saturating_add(output));
}
