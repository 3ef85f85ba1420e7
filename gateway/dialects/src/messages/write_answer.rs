//! Events, into the messages answer that a client gets, plain or streamed.

use weir_schemas::Usage;

use crate::answer::{Answer, Piece, put_lost};
use crate::caps;
use crate::facts::FinishReason;
use crate::json::{Text, Writer};
use crate::neutral::{
    AnswerEvent, CITATION_MARK, Citation, ReasoningSignature, ToolUse, arguments_object,
};
use crate::response_context::AnswerIdentity;
use crate::usage::cache_writes;

/// Writes a stream. Each call adds frames to the writer that it is given.
#[derive(Debug, Default)]
pub(crate) struct MessagesWriter {
    identity: AnswerIdentity,
    /// Blocks that were begun.
    blocks: u64,
    open: Option<Block>,
    /// White space that begins a text, escaped. It is only written if something follows it.
    blank: String,
    usage: Usage,
    finish: Option<(FinishReason, Option<Text<'static>>)>,
    explanation: Option<Text<'static>>,
    lost: Vec<&'static str>,
}

/// The block that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text,
    /// Whether it was signed. Every block of thinking must be, for clients that return it.
    Thinking {
        signed: bool,
    },
    /// A call, or redacted thinking.
    Other,
}

impl MessagesWriter {
    pub(crate) fn new(identity: AnswerIdentity) -> Self {
        Self {
            identity,
            ..Self::default()
        }
    }

    pub(crate) fn write(&mut self, event: &AnswerEvent<'_>, w: &mut Writer) {
        match event {
            AnswerEvent::Start { id, model } => self.start(id.as_ref(), model.as_ref(), w),
            AnswerEvent::Text(text) | AnswerEvent::Refusal(text) => self.text(text, w),
            AnswerEvent::Reasoning(text) => {
                self.ensure_thinking(w);
                self.delta("thinking_delta", "thinking", text, w);
            }
            AnswerEvent::Signature(signature) => self.sign(signature, w),
            // This dialect has no such tools, so none was offered.
            AnswerEvent::ToolUse(call) if call.is_free_text => {}
            AnswerEvent::ToolUse(call) => self.call(call, w),
            AnswerEvent::Arguments { part, .. } => {
                self.delta("input_json_delta", "partial_json", part, w);
            }
            AnswerEvent::CallEnd { .. } => self.close(w),
            AnswerEvent::Citation(citation) => self.cite(citation, w),
            AnswerEvent::Lost(what) => self.lost.push(what),
            AnswerEvent::Explanation(text) => self.explanation = Some(text.clone().into_owned()),
            AnswerEvent::Usage(usage) => self.usage = **usage,
            AnswerEvent::Finish {
                reason,
                stop_sequence,
            } => {
                self.finish = Some((*reason, stop_sequence.clone().map(Text::into_owned)));
            }
            AnswerEvent::Alive => w.verbatim("event: ping\ndata: {\"type\": \"ping\"}\n\n"),
            AnswerEvent::End => self.end(w),
            AnswerEvent::Choice(_)
            | AnswerEvent::ServiceTier(_)
            | AnswerEvent::InferenceGeo(_)
            | AnswerEvent::OtherModels(_)
            | AnswerEvent::Failed(_) => {}
        }
    }

    fn start(&mut self, id: Option<&Text<'_>>, model: Option<&Text<'_>>, w: &mut Writer) {
        w.event("message_start", |w| {
            w.put_object("message", |w| {
                w.put("id", self.identity.answer_id(id, "msg_"));
                w.put("type", "message");
                w.put("role", "assistant");
                w.put("model", self.identity.model(model));
                w.put_array("content", |_| {});
                w.put_null("stop_reason");
                w.put_null("stop_sequence");
                // The counts so far; the last event has them all.
                w.put_object("usage", |w| write_usage(w, &self.usage));
            });
        });
    }

    /// Anthropic refuses a block of nothing but white space when it comes back, and clients return what
    /// they got: so a text begins with the first thing that it says.
    fn text(&mut self, text: &Text<'_>, w: &mut Writer) {
        let begins = self.open != Some(Block::Text);
        if begins && text.is_blank() && self.blank.len() < caps::BLANK_BYTES_MAX {
            self.blank.push_str(text.as_escaped());
            return;
        }
        self.ensure_text(w);
        self.delta("text_delta", "text", text, w);
    }

    /// Begins a text if none is open, with the white space that it begins with.
    fn ensure_text(&mut self, w: &mut Writer) {
        if self.open == Some(Block::Text) {
            return;
        }
        let blank = std::mem::take(&mut self.blank);
        self.begin(Block::Text, "text", w, |w| w.put("text", ""));
        if !blank.is_empty() {
            self.delta("text_delta", "text", &Text::escaped(&blank), w);
        }
    }

    fn ensure_thinking(&mut self, w: &mut Writer) {
        if self.open == Some(Block::Thinking { signed: false }) {
            return;
        }
        self.begin(Block::Thinking { signed: false }, "thinking", w, |w| {
            w.put("thinking", "");
            w.put("signature", "");
        });
    }

    fn sign(&mut self, signature: &ReasoningSignature<'_>, w: &mut Writer) {
        if signature.is_encrypted {
            self.begin(Block::Other, "redacted_thinking", w, |w| {
                w.put("data", signature.marked());
            });
            return;
        }
        self.ensure_thinking(w);
        self.delta("signature_delta", "signature", &signature.marked(), w);
        self.open = Some(Block::Thinking { signed: true });
    }

    fn call(&mut self, call: &ToolUse<'_>, w: &mut Writer) {
        let id = self.identity.call_id(call.id.as_ref(), call.index);
        self.begin(Block::Other, "tool_use", w, |w| {
            w.put("id", id);
            w.put("name", &call.name);
            w.put_object("input", |_| {});
        });
    }

    /// A citation belongs to the text that is open, or would be.
    fn cite(&mut self, citation: &Citation<'_>, w: &mut Writer) {
        if !self.blank.is_empty() {
            self.ensure_text(w);
        }
        let index = self.blocks.saturating_sub(1);
        w.event("content_block_delta", |w| {
            w.put("index", index);
            w.key("delta");
            w.typed("citations_delta", |w| {
                w.key("citation");
                write_citation(w, citation);
            });
        });
    }

    /// Ends the block that is open, and begins another.
    fn begin(&mut self, block: Block, kind: &str, w: &mut Writer, fill: impl FnOnce(&mut Writer)) {
        self.close(w);
        let index = self.blocks;
        self.blocks += 1;
        self.open = Some(block);
        w.event("content_block_start", |w| {
            w.put("index", index);
            w.key("content_block");
            w.typed(kind, fill);
        });
    }

    fn delta(&self, kind: &str, key: &str, text: &Text<'_>, w: &mut Writer) {
        write_delta(w, self.blocks.saturating_sub(1), kind, key, text);
    }

    fn close(&mut self, w: &mut Writer) {
        self.blank.clear();
        match self.open {
            None => return,
            Some(Block::Thinking { signed: false }) => {
                let unsigned = ReasoningSignature::UNSIGNED.marked();
                self.delta("signature_delta", "signature", &unsigned, w);
            }
            Some(_) => {}
        }
        self.open = None;
        let index = self.blocks.saturating_sub(1);
        w.event("content_block_stop", |w| w.put("index", index));
    }

    fn end(&mut self, w: &mut Writer) {
        self.close(w);
        let (reason, stop_sequence) = self.finish.take().unwrap_or((FinishReason::Stop, None));
        w.event("message_delta", |w| {
            w.put_object("delta", |w| {
                w.put("stop_reason", stop_word(reason, stop_sequence.is_some()));
                w.put("stop_sequence", stop_sequence);
                write_stop_details(w, self.explanation.as_ref());
            });
            w.put_object("usage", |w| write_usage(w, &self.usage));
            put_lost(w, &self.lost);
        });
        w.event("message_stop", |_| {});
    }
}

fn write_delta(w: &mut Writer, index: u64, kind: &str, key: &str, text: &Text<'_>) {
    w.event("content_block_delta", |w| {
        w.put("index", index);
        w.key("delta");
        w.typed(kind, |w| w.put(key, text));
    });
}

/// Writes a whole body.
pub(crate) fn write_plain(answer: &Answer, identity: &AnswerIdentity) -> String {
    Writer::document(1024, |w| {
        w.put("id", identity.answer_id(answer.id.as_ref(), "msg_"));
        w.put("type", "message");
        w.put("role", "assistant");
        w.put("model", identity.model(answer.model.as_ref()));
        let pieces = answer.pieces.iter().enumerate();
        let says_something = |(at, piece): &(usize, &Piece)| {
            !piece.is_blank() || answer.citations_of(*at).next().is_some()
        };
        w.put_each(
            "content",
            pieces.filter(says_something),
            |w, (at, piece)| {
                write_piece(w, piece, answer.citations_of(at), identity);
            },
        );
        let reason = answer.finish.unwrap_or(FinishReason::Stop);
        w.put(
            "stop_reason",
            stop_word(reason, answer.stop_sequence.is_some()),
        );
        w.put("stop_sequence", answer.stop_sequence.as_ref());
        write_stop_details(w, answer.explanation.as_ref());
        w.put_object("usage", |w| {
            write_usage(w, &answer.usage.unwrap_or_default())
        });
        put_lost(w, &answer.lost);
    })
}

/// Writes a source as one of a search at the web, which is the kind that names an address. Its index is
/// marked, for Anthropic would refuse to get it back.
fn write_citation(w: &mut Writer, citation: &Citation<'_>) {
    w.typed("web_search_result_location", |w| {
        w.put("cited_text", &citation.quote);
        w.put("url", &citation.url);
        w.put("title", &citation.title);
        w.put("encrypted_index", CITATION_MARK);
    });
}

fn write_piece<'a>(
    w: &mut Writer,
    piece: &Piece,
    citations: impl Iterator<Item = &'a Citation<'static>>,
    identity: &AnswerIdentity,
) {
    match piece {
        Piece::Text(text) => w.typed("text", |w| {
            w.put("text", text);
            let mut citations = citations.peekable();
            if citations.peek().is_some() {
                w.put_each("citations", citations, write_citation);
            }
        }),
        Piece::Refusal(text) => w.typed("text", |w| w.put("text", text)),
        Piece::Reasoning {
            signature: Some(signature),
            ..
        } if signature.is_encrypted => w.typed("redacted_thinking", |w| {
            w.put("data", signature.marked());
        }),
        Piece::Reasoning { text, signature } => w.typed("thinking", |w| {
            w.put("thinking", text);
            let unsigned = ReasoningSignature::UNSIGNED;
            w.put(
                "signature",
                signature.as_ref().unwrap_or(&unsigned).marked(),
            );
        }),
        Piece::ToolUse(call) => w.typed("tool_use", |w| {
            w.put("id", identity.call_id(call.id.as_ref(), call.index));
            w.put("name", &call.name);
            let arguments = call.arguments.unescape().unwrap_or_default();
            w.put_raw("input", &arguments_object(&arguments, &call.arguments));
        }),
    }
}

/// Says why the answer was ended as a refusal, if that is known.
fn write_stop_details(w: &mut Writer, explanation: Option<&Text<'_>>) {
    if let Some(explanation) = explanation {
        w.put_object("stop_details", |w| {
            w.put("type", "refusal");
            w.put_null("category");
            w.put("explanation", explanation);
        });
    }
}

const fn stop_word(reason: FinishReason, at_sequence: bool) -> &'static str {
    match reason {
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter | FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause_turn",
        FinishReason::Stop | FinishReason::Error | FinishReason::Other if at_sequence => {
            "stop_sequence"
        }
        FinishReason::Stop | FinishReason::Error | FinishReason::Other => "end_turn",
    }
}

/// Writes the fields of Anthropic's `usage`, where `input_tokens` excludes what was cached.
fn write_usage(w: &mut Writer, usage: &Usage) {
    let cached = usage.cached_input_tokens.unwrap_or(0);
    let written = cache_writes(usage).unwrap_or(0);
    let beside = cached.saturating_add(written);
    w.put(
        "input_tokens",
        usage.input_tokens.unwrap_or(0).saturating_sub(beside),
    );
    w.put("cache_creation_input_tokens", written);
    w.put("cache_read_input_tokens", cached);
    if let Some(hour) = usage.cache_write_1h_tokens {
        w.put_object("cache_creation", |w| {
            w.put("ephemeral_5m_input_tokens", written.saturating_sub(hour));
            w.put("ephemeral_1h_input_tokens", hour);
        });
    }
    w.put("output_tokens", usage.output_tokens.unwrap_or(0));
    if let Some(thinking) = usage.reasoning_tokens {
        w.put_object("output_tokens_details", |w| {
            w.put("thinking_tokens", thinking)
        });
    }
    if let Some(searches) = usage.web_searches.filter(|searches| *searches > 0) {
        w.put_object("server_tool_use", |w| {
            w.put("web_search_requests", searches);
            w.put("web_fetch_requests", 0_u64);
        });
    }
}
