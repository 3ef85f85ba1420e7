//! Events, into the chat answer that a client gets, plain or streamed.

use weir_schemas::Usage;

use crate::answer::{Answer, Call, Identity, Piece};
use crate::json::{Text, Writer};
use crate::neutral::{Event, Proof};
use crate::response::FinishReason;

/// Writes a stream. Frames are added to the writer that is handed in.
#[derive(Debug)]
pub(crate) struct StreamWriter {
    identity: Identity,
    /// Whether the client asked for the usage chunk.
    wants_usage: bool,
    /// What a chunk begins with, up to its choices. Empty until the answer starts.
    head: String,
    usage: Option<Usage>,
    /// Reasoning since the last proof: a proof is brought back together with what it proves.
    reasoning: Text<'static>,
    proofs: u64,
    had_refusal: bool,
}

impl StreamWriter {
    pub(crate) fn new(identity: Identity, wants_usage: bool) -> Self {
        let (head, usage, reasoning) = (String::new(), None, Text::EMPTY);
        let (proofs, had_refusal) = (0, false);
        Self {
            identity,
            wants_usage,
            head,
            usage,
            reasoning,
            proofs,
            had_refusal,
        }
    }

    pub(crate) fn write(&mut self, event: &Event<'_>, w: &mut Writer) {
        match event {
            Event::Start { id, model } => self.start(id.as_ref(), model.as_ref(), w),
            Event::Text(text) => self.delta(w, |w| w.put_text("content", text)),
            Event::Refusal(text) => {
                self.had_refusal = true;
                self.delta(w, |w| w.put_text("refusal", text));
            }
            Event::Reasoning(text) => {
                self.reasoning.push(text);
                self.delta(w, |w| w.put_text("reasoning_content", text));
            }
            Event::Proof(proof) => {
                let (index, text) = (self.proofs, std::mem::take(&mut self.reasoning));
                self.proofs += 1;
                self.delta(w, |w| {
                    w.put_array("reasoning_details", |w| {
                        write_detail(w, index, &text, proof)
                    });
                });
            }
            Event::ToolCall {
                index,
                id,
                name,
                proof,
            } => {
                let id = id.clone().unwrap_or_else(|| self.identity.call_id(*index));
                self.call(w, *index, |w| {
                    w.put_text("id", &id);
                    write_function(w, name, &Text::default());
                    write_google(w, proof.as_ref());
                });
            }
            Event::Arguments { index, part } => self.call(w, *index, |w| {
                w.put_object("function", |w| w.put_text("arguments", part));
            }),
            Event::FreeTextCall {
                index,
                id,
                name,
                input,
            } => {
                let id = id.clone().unwrap_or_else(|| self.identity.call_id(*index));
                self.call(w, *index, |w| {
                    w.put_text("id", &id);
                    write_custom(w, name, input);
                });
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Finish { reason, .. } => {
                let word = finish_word(*reason, self.had_refusal);
                self.chunk(w, |_| {}, Some(word));
            }
            Event::Alive => w.verbatim(": keep-alive\n\n"),
            Event::End => self.end(w),
            Event::ServiceTier(_) | Event::Failed(_) => {}
        }
    }

    fn start(&mut self, id: Option<&Text<'_>>, model: Option<&Text<'_>>, w: &mut Writer) {
        let mut head = Writer::with_capacity(256);
        head.verbatim("data: {");
        head.put_text("id", &self.identity.answer_id(id, "chatcmpl-"));
        head.put_str("object", "chat.completion.chunk");
        head.put_u64("created", self.identity.created_s);
        head.put_text("model", &self.identity.model(model));
        self.head = head.into_string();
        self.delta(w, |w| {
            w.put_str("role", "assistant");
            w.put_str("content", "");
        });
    }

    fn call(&self, w: &mut Writer, index: usize, fill: impl FnOnce(&mut Writer)) {
        self.delta(w, |w| {
            w.put_array("tool_calls", |w| {
                w.object(|w| {
                    w.put_u64("index", index as u64);
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
                w.put_u64("index", 0);
                w.put_object("delta", fill);
                match finish {
                    Some(word) => w.put_str("finish_reason", word),
                    None => w.put_null("finish_reason"),
                }
            });
        });
        w.verbatim("}\n\n");
    }

    fn end(&mut self, w: &mut Writer) {
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
pub(crate) fn write_plain(answer: &Answer, identity: &Identity) -> String {
    Writer::document(1024, |w| {
        w.put_text("id", &identity.answer_id(answer.id.as_ref(), "chatcmpl-"));
        w.put_str("object", "chat.completion");
        w.put_u64("created", identity.created_s);
        w.put_text("model", &identity.model(answer.model.as_ref()));
        w.put_array("choices", |w| {
            w.object(|w| {
                w.put_u64("index", 0);
                w.put_object("message", |w| write_message(w, answer, identity));
                w.put_null("logprobs");
                let reason = answer.finish.unwrap_or(FinishReason::Stop);
                let had_refusal = answer
                    .pieces
                    .iter()
                    .any(|piece| matches!(piece, Piece::Refusal(_)));
                w.put_str("finish_reason", finish_word(reason, had_refusal));
            });
        });
        if let Some(usage) = &answer.usage {
            w.put_object("usage", |w| write_usage(w, usage));
        }
    })
}

fn write_message(w: &mut Writer, answer: &Answer, identity: &Identity) {
    w.put_str("role", "assistant");
    let text = answer.joined(|piece| match piece {
        Piece::Text(text) => Some(text),
        _ => None,
    });
    match text {
        Some(text) => w.put_text("content", &text),
        None => w.put_null("content"),
    }
    let refusal = answer.joined(|piece| match piece {
        Piece::Refusal(text) => Some(text),
        _ => None,
    });
    match refusal {
        Some(text) => w.put_text("refusal", &text),
        None => w.put_null("refusal"),
    }
    write_reasoning(w, answer);
    if answer.calls().next().is_some() {
        w.put_array("tool_calls", |w| {
            answer
                .calls()
                .for_each(|call| w.object(|w| write_call(w, call, identity)));
        });
    }
}

/// The text in `reasoning_content`; with its proofs again in `reasoning_details`, which is what
/// brings them back in the next request.
fn write_reasoning(w: &mut Writer, answer: &Answer) {
    let reasoning = answer.joined(|piece| match piece {
        Piece::Reasoning { text, .. } if !text.is_empty() => Some(text),
        _ => None,
    });
    if let Some(text) = reasoning {
        w.put_text("reasoning_content", &text);
    }
    let mut proofs = answer.pieces.iter().filter_map(|piece| match piece {
        Piece::Reasoning {
            text,
            proof: Some(proof),
        } => Some((text, proof)),
        _ => None,
    });
    if let Some(first) = proofs.next() {
        w.put_array("reasoning_details", |w| {
            for (index, (text, proof)) in std::iter::once(first).chain(proofs).enumerate() {
                write_detail(w, index as u64, text, proof);
            }
        });
    }
}

/// One of OpenRouter's `reasoning_details`.
fn write_detail(w: &mut Writer, index: u64, text: &Text<'_>, proof: &Proof<'_>) {
    w.object(|w| {
        if proof.is_encrypted {
            w.put_str("type", "reasoning.encrypted");
            w.put_text("data", &proof.marked());
        } else {
            w.put_str("type", "reasoning.text");
            w.put_text("text", text);
            w.put_text("signature", &proof.marked());
        }
        w.put_u64("index", index);
    });
}

fn write_call(w: &mut Writer, call: &Call, identity: &Identity) {
    match &call.id {
        Some(id) => w.put_text("id", id),
        None => w.put_text("id", &identity.call_id(call.index)),
    }
    if call.is_free_text {
        write_custom(w, &call.name, &call.arguments);
    } else {
        write_function(w, &call.name, &call.arguments);
        write_google(w, call.proof.as_ref());
    }
}

fn write_function(w: &mut Writer, name: &Text<'_>, arguments: &Text<'_>) {
    w.put_str("type", "function");
    w.put_object("function", |w| {
        w.put_text("name", name);
        w.put_text("arguments", arguments);
    });
}

fn write_custom(w: &mut Writer, name: &Text<'_>, input: &Text<'_>) {
    w.put_str("type", "custom");
    w.put_object("custom", |w| {
        w.put_text("name", name);
        w.put_text("input", input);
    });
}

/// Google's place for a call's thought signature.
fn write_google(w: &mut Writer, proof: Option<&Proof<'_>>) {
    if let Some(proof) = proof {
        w.put_object("extra_content", |w| {
            w.put_object("google", |w| w.put_text("thought_signature", &proof.value));
        });
    }
}

/// A refusal that stands in the message needs no word for it.
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

/// The inside of OpenAI's `usage`. A count that is not known is left out, except for the three
/// that clients rely on.
pub(crate) fn write_usage(w: &mut Writer, usage: &Usage) {
    let (input, output) = (
        usage.input_tokens.unwrap_or(0),
        usage.output_tokens.unwrap_or(0),
    );
    w.put_u64("prompt_tokens", input);
    w.put_u64("completion_tokens", output);
    w.put_u64("total_tokens", input.saturating_add(output));
    let (cached, written) = (usage.cached_input_tokens, cache_writes(usage));
    if cached.or(written).or(usage.audio_input_tokens).is_some() {
        w.put_object("prompt_tokens_details", |w| {
            put_count(w, "cached_tokens", cached);
            put_count(w, "cache_write_tokens", written);
            put_count(w, "audio_tokens", usage.audio_input_tokens);
        });
    }
    if usage
        .reasoning_tokens
        .or(usage.audio_output_tokens)
        .is_some()
    {
        w.put_object("completion_tokens_details", |w| {
            put_count(w, "reasoning_tokens", usage.reasoning_tokens);
            put_count(w, "audio_tokens", usage.audio_output_tokens);
        });
    }
}

/// Tokens that were written to the cache, for however long.
pub(crate) fn cache_writes(usage: &Usage) -> Option<u64> {
    match (usage.cache_write_5m_tokens, usage.cache_write_1h_tokens) {
        (None, None) => None,
        (short, long) => Some(short.unwrap_or(0).saturating_add(long.unwrap_or(0))),
    }
}

pub(crate) fn put_count(w: &mut Writer, key: &str, count: Option<u64>) {
    if let Some(count) = count {
        w.put_u64(key, count);
    }
}
