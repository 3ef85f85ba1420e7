//! Events, into the chat answer that a client gets, plain or streamed.

use weir_schemas::Usage;

use crate::answer::{Answer, Piece, put_lost};
use crate::facts::FinishReason;
use crate::json::{Text, Writer};
use crate::neutral::{AnswerEvent, Citation, ReasoningSignature, ToolUse};
use crate::response_context::AnswerIdentity;
use crate::usage::cache_writes;

/// Writes a stream. Each call adds frames to the writer that it is given.
#[derive(Debug, Default)]
pub(crate) struct ChatWriter {
    identity: AnswerIdentity,
    /// Whether the client asked for the usage chunk.
    wants_usage: bool,
    /// The beginning of a chunk, up to its choices. Empty until the answer starts.
    head: String,
    usage: Option<Usage>,
    /// Reasoning since the last signature. Clients return a signature together with what it signs.
    reasoning: Text<'static>,
    signatures: u64,
    citations: u64,
    had_refusal: bool,
    lost: Vec<&'static str>,
}

impl ChatWriter {
    pub(crate) fn new(identity: AnswerIdentity, wants_usage: bool) -> Self {
        Self {
            identity,
            wants_usage,
            ..Self::default()
        }
    }

    pub(crate) fn write(&mut self, event: &AnswerEvent<'_>, w: &mut Writer) {
        match event {
            AnswerEvent::Start { id, model } => self.start(id.as_ref(), model.as_ref(), w),
            AnswerEvent::Text(text) => self.delta(w, |w| w.put("content", text)),
            AnswerEvent::Refusal(text) => {
                self.had_refusal = true;
                self.delta(w, |w| w.put("refusal", text));
            }
            AnswerEvent::Reasoning(text) => {
                self.reasoning.push(text);
                self.delta(w, |w| w.put("reasoning_content", text));
            }
            AnswerEvent::Signature(signature) => {
                let (index, text) = (self.signatures, std::mem::take(&mut self.reasoning));
                self.signatures += 1;
                self.delta(w, |w| {
                    w.put_array("reasoning_details", |w| {
                        write_detail(w, index, &text, signature)
                    });
                });
            }
            AnswerEvent::ToolUse(call) => {
                self.call(w, call.index, |w| write_call(w, call, &self.identity));
            }
            AnswerEvent::Arguments { index, part } => self.call(w, *index, |w| {
                w.put_object("function", |w| w.put("arguments", part));
            }),
            AnswerEvent::Citation(citation) => {
                let index = Some(self.citations);
                self.citations += 1;
                self.delta(w, |w| {
                    w.put_array("annotations", |w| write_annotation(w, citation, index));
                });
            }
            AnswerEvent::Lost(what) => self.lost.push(what),
            AnswerEvent::Usage(usage) => self.usage = Some(**usage),
            AnswerEvent::Finish { reason, .. } => {
                let word = finish_word(*reason, self.had_refusal);
                self.chunk(w, |_| {}, Some(word));
            }
            AnswerEvent::Alive => w.verbatim(": keep-alive\n\n"),
            AnswerEvent::End => self.end(w),
            // Only plain answers have several choices.
            AnswerEvent::Choice(_)
            | AnswerEvent::CallEnd { .. }
            | AnswerEvent::Explanation(_)
            | AnswerEvent::ServiceTier(_)
            | AnswerEvent::InferenceGeo(_)
            | AnswerEvent::OtherModels(_)
            | AnswerEvent::Failed(_) => {}
        }
    }

    fn start(&mut self, id: Option<&Text<'_>>, model: Option<&Text<'_>>, w: &mut Writer) {
        let mut head = Writer::with_capacity(256);
        head.verbatim("data: {");
        head.put("id", self.identity.answer_id(id, "chatcmpl-"));
        head.put("object", "chat.completion.chunk");
        head.put("created", self.identity.created_s);
        head.put("model", self.identity.model(model));
        self.head = head.into_string();
        self.delta(w, |w| {
            w.put("role", "assistant");
            w.put("content", "");
        });
    }

    fn call(&self, w: &mut Writer, index: usize, fill: impl FnOnce(&mut Writer)) {
        self.delta(w, |w| {
            w.put_array("tool_calls", |w| {
                w.object(|w| {
                    w.put("index", index as u64);
                    fill(w);
                });
            });
        });
    }

    fn delta(&self, w: &mut Writer, fill: impl FnOnce(&mut Writer)) {
        self.chunk(w, fill, None);
    }

    fn chunk(&self, w: &mut Writer, fill: impl FnOnce(&mut Writer), finish: Option<&str>) {
        w.verbatim(&self.head);
        w.put_array("choices", |w| {
            w.object(|w| {
                w.put("index", 0_u64);
                w.put_object("delta", fill);
                w.put("finish_reason", finish);
            });
        });
        if finish.is_some() {
            put_lost(w, &self.lost);
        }
        w.verbatim("}\n\n");
    }

    fn end(&self, w: &mut Writer) {
        if let (true, Some(usage)) = (self.wants_usage, &self.usage) {
            w.verbatim(&self.head);
            w.put_array("choices", |_| {});
            w.put_object("usage", |w| write_usage(w, usage));
            w.verbatim("}\n\n");
        }
        w.verbatim("data: [DONE]\n\n");
    }
}

/// Writes a whole body.
pub(crate) fn write_plain(answer: &Answer, identity: &AnswerIdentity) -> String {
    Writer::document(1024, |w| {
        w.put("id", identity.answer_id(answer.id.as_ref(), "chatcmpl-"));
        w.put("object", "chat.completion");
        w.put("created", identity.created_s);
        w.put("model", identity.model(answer.model.as_ref()));
        w.put_each("choices", answer.choices(), |w, choice| {
            w.object(|w| write_choice(w, choice, identity));
        });
        if let Some(usage) = &answer.usage {
            w.put_object("usage", |w| write_usage(w, usage));
        }
        put_lost(w, &answer.lost);
    })
}

/// Writes a citation; in a stream with its index, by which OpenAI's SDKs put lists together.
fn write_annotation(w: &mut Writer, citation: &Citation<'_>, index: Option<u64>) {
    let (start, end) = citation.span();
    w.typed("url_citation", |w| {
        w.put_some("index", index);
        w.put_object("url_citation", |w| {
            w.put("url", &citation.url);
            w.put("title", &citation.title);
            w.put("start_index", start);
            w.put("end_index", end);
            if !citation.quote.is_empty() {
                w.put("content", &citation.quote);
            }
        });
    });
}

fn write_choice(w: &mut Writer, choice: &Answer, identity: &AnswerIdentity) {
    w.put("index", choice.index);
    w.put_object("message", |w| write_message(w, choice, identity));
    w.put_null("logprobs");
    let reason = choice.finish.unwrap_or(FinishReason::Stop);
    let is_refusal = |piece: &Piece| matches!(piece, Piece::Refusal(_));
    let had_refusal = choice.pieces.iter().any(is_refusal);
    w.put("finish_reason", finish_word(reason, had_refusal));
}

fn write_message(w: &mut Writer, answer: &Answer, identity: &AnswerIdentity) {
    w.put("role", "assistant");
    let text = answer.joined(|piece| match piece {
        Piece::Text(text) => Some(text),
        _ => None,
    });
    w.put("content", text);
    let refusal = answer.joined(|piece| match piece {
        Piece::Refusal(text) => Some(text),
        _ => None,
    });
    w.put("refusal", refusal);
    if !answer.citations.is_empty() {
        let citations = answer.citations.iter().map(|(_, citation)| citation);
        w.put_each("annotations", citations, |w, citation| {
            write_annotation(w, citation, None);
        });
    }
    write_reasoning(w, answer);
    if answer.calls().next().is_some() {
        w.put_each("tool_calls", answer.calls(), |w, call| {
            w.object(|w| write_call(w, call, identity));
        });
    }
}

/// Writes the text as `reasoning_content`, and signed text once more as `reasoning_details`, which
/// clients return in the next request.
fn write_reasoning(w: &mut Writer, answer: &Answer) {
    let reasoning = answer.joined(|piece| match piece {
        Piece::Reasoning { text, .. } if !text.is_empty() => Some(text),
        _ => None,
    });
    w.put_some("reasoning_content", reasoning);
    let signatures = answer.pieces.iter().filter_map(|piece| match piece {
        Piece::Reasoning {
            text,
            signature: Some(signature),
        } => Some((text, signature)),
        _ => None,
    });
    let mut details = (0_u64..).zip(signatures).peekable();
    if details.peek().is_some() {
        w.put_array("reasoning_details", |w| {
            for (index, (text, signature)) in details {
                write_detail(w, index, text, signature);
            }
        });
    }
}

/// One of OpenRouter's `reasoning_details`.
fn write_detail(w: &mut Writer, index: u64, text: &Text<'_>, signature: &ReasoningSignature<'_>) {
    w.object(|w| {
        if signature.is_encrypted {
            w.put("type", "reasoning.encrypted");
            w.put("data", signature.marked());
        } else {
            w.put("type", "reasoning.text");
            w.put("text", text);
            w.put("signature", signature.marked());
        }
        w.put("index", index);
    });
}

fn write_call(w: &mut Writer, call: &ToolUse<'_>, identity: &AnswerIdentity) {
    w.put("id", identity.call_id(call.id.as_ref(), call.index));
    let (kind, key) = if call.is_free_text {
        ("custom", "input")
    } else {
        ("function", "arguments")
    };
    w.put("type", kind);
    w.put_object(kind, |w| {
        w.put("name", &call.name);
        w.put(key, &call.arguments);
    });
    put_google_signature(w, call.signature.as_ref());
}

/// Writes a call's thought signature where Google's OpenAI-compatible API has it.
pub(super) fn put_google_signature<R>(
    w: &mut Writer<R>,
    signature: Option<&ReasoningSignature<'_>>,
) {
    if let Some(signature) = signature {
        w.put_object("extra_content", |w| {
            w.put_object("google", |w| w.put("thought_signature", &signature.value));
        });
    }
}

/// The finish reason. A refusal in the message needs no reason of its own.
const fn finish_word(reason: FinishReason, had_refusal: bool) -> &'static str {
    match reason {
        FinishReason::Length => "length",
        FinishReason::ToolCalls => "tool_calls",
        FinishReason::Refusal if had_refusal => "stop",
        FinishReason::ContentFilter | FinishReason::Refusal => "content_filter",
        FinishReason::Stop | FinishReason::Pause | FinishReason::Error | FinishReason::Other => {
            "stop"
        }
    }
}

/// Writes the fields of OpenAI's `usage`. Unknown counts are left out, except for the three that
/// clients rely on.
pub(crate) fn write_usage(w: &mut Writer, usage: &Usage) {
    let input = usage.input_tokens.unwrap_or(0);
    let output = usage.output_tokens.unwrap_or(0);
    w.put("prompt_tokens", input);
    w.put("completion_tokens", output);
    w.put("total_tokens", input.saturating_add(output));
    let details = [
        ("cached_tokens", usage.cached_input_tokens),
        ("cache_write_tokens", cache_writes(usage)),
        ("audio_tokens", usage.audio_input_tokens),
        ("image_tokens", usage.image_input_tokens),
        ("video_tokens", usage.video_input_tokens),
    ];
    write_details(w, "prompt_tokens_details", &details);
    let details = [
        ("reasoning_tokens", usage.reasoning_tokens),
        ("audio_tokens", usage.audio_output_tokens),
        ("image_tokens", usage.image_output_tokens),
        ("video_tokens", usage.video_output_tokens),
    ];
    write_details(w, "completion_tokens_details", &details);
}

fn write_details(w: &mut Writer, name: &str, counts: &[(&str, Option<u64>)]) {
    if counts.iter().any(|(_, count)| count.is_some()) {
        w.put_object(name, |w| {
            for (key, count) in counts {
                w.put_some(key, *count);
            }
        });
    }
}
