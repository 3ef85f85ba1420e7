//! Events, into the messages answer that a client gets, plain or streamed.

use weir_schemas::Usage;

use crate::answer::{Answer, Identity, Piece};
use crate::json::{Text, Writer};
use crate::neutral::{Event, Origin, Proof, arguments_object};
use crate::response::FinishReason;

/// Writes a stream. Frames are added to the writer that is handed in.
#[derive(Debug)]
pub(crate) struct StreamWriter {
    identity: Identity,
    /// Blocks that were begun.
    blocks: u64,
    open: Option<Block>,
    /// The block of each call.
    calls: Vec<(usize, u64)>,
    usage: Usage,
    finish: Option<(FinishReason, Option<Text<'static>>)>,
}

/// The block that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Text,
    /// Whether it was signed: every block of thinking must be, for clients that bring it back.
    Thinking {
        signed: bool,
    },
    /// One that nothing is added to under this name: a call, or redacted thinking.
    Other,
}

impl StreamWriter {
    pub(crate) fn new(identity: Identity) -> Self {
        Self {
            identity,
            blocks: 0,
            open: None,
            calls: Vec::new(),
            usage: Usage::default(),
            finish: None,
        }
    }

    pub(crate) fn write(&mut self, event: &Event<'_>, w: &mut Writer) {
        match event {
            Event::Start { id, model } => self.start(id.as_ref(), model.as_ref(), w),
            Event::Text(text) | Event::Refusal(text) => {
                self.ensure(Block::Text, w);
                self.delta("text_delta", "text", text, w);
            }
            Event::Reasoning(text) => {
                self.ensure_thinking(w);
                self.delta("thinking_delta", "thinking", text, w);
            }
            Event::Proof(proof) => self.proof(proof, w),
            Event::ToolCall {
                index, id, name, ..
            } => self.call(*index, id.as_ref(), name, w),
            Event::Arguments { index, part } => {
                let known = self.calls.iter().find(|(call, _)| call == index);
                let block = known.map_or(self.blocks, |(_, block)| *block);
                write_delta(w, block, "input_json_delta", "partial_json", part);
            }
            // This dialect has no such tools, so none was offered.
            Event::FreeTextCall { .. } => {}
            Event::Usage(usage) => self.usage = *usage,
            Event::Finish {
                reason,
                stop_sequence,
            } => {
                self.finish = Some((*reason, stop_sequence.clone().map(Text::into_owned)));
            }
            Event::Alive => w.verbatim("event: ping\ndata: {\"type\": \"ping\"}\n\n"),
            Event::End => self.end(w),
            Event::ServiceTier(_) | Event::Failed(_) => {}
        }
    }

    fn start(&mut self, id: Option<&Text<'_>>, model: Option<&Text<'_>>, w: &mut Writer) {
        frame(w, "message_start", |w| {
            w.put_object("message", |w| {
                w.put_text("id", &self.identity.answer_id(id, "msg_"));
                w.put_str("type", "message");
                w.put_str("role", "assistant");
                w.put_text("model", &self.identity.model(model));
                w.put_array("content", |_| {});
                w.put_null("stop_reason");
                w.put_null("stop_sequence");
                // The counts that are known now; the last event has them all.
                w.put_object("usage", |w| write_usage(w, &self.usage));
            });
        });
    }

    fn ensure(&mut self, block: Block, w: &mut Writer) {
        if self.open == Some(block) {
            return;
        }
        self.begin(block, w, |w| {
            w.put_str("type", "text");
            w.put_str("text", "");
        });
    }

    fn ensure_thinking(&mut self, w: &mut Writer) {
        if self.open == Some(Block::Thinking { signed: false }) {
            return;
        }
        self.begin(Block::Thinking { signed: false }, w, |w| {
            w.put_str("type", "thinking");
            w.put_str("thinking", "");
            w.put_str("signature", "");
        });
    }

    fn proof(&mut self, proof: &Proof<'_>, w: &mut Writer) {
        if proof.is_encrypted {
            let data = proof.marked();
            self.begin(Block::Other, w, |w| {
                w.put_str("type", "redacted_thinking");
                w.put_text("data", &data);
            });
            return;
        }
        self.ensure_thinking(w);
        self.delta("signature_delta", "signature", &proof.marked(), w);
        self.open = Some(Block::Thinking { signed: true });
    }

    fn call(&mut self, index: usize, id: Option<&Text<'_>>, name: &Text<'_>, w: &mut Writer) {
        let made = self.identity.call_id(index);
        self.begin(Block::Other, w, |w| {
            w.put_str("type", "tool_use");
            w.put_text("id", id.unwrap_or(&made));
            w.put_text("name", name);
            w.put_object("input", |_| {});
        });
        self.calls.push((index, self.blocks - 1));
    }

    /// Ends the block that is open, and begins another.
    fn begin(&mut self, block: Block, w: &mut Writer, fill: impl FnOnce(&mut Writer)) {
        self.close(w);
        let index = self.blocks;
        self.blocks += 1;
        self.open = Some(block);
        frame(w, "content_block_start", |w| {
            w.put_u64("index", index);
            w.put_object("content_block", fill);
        });
    }

    fn delta(&self, kind: &str, key: &str, text: &Text<'_>, w: &mut Writer) {
        write_delta(w, self.blocks.saturating_sub(1), kind, key, text);
    }

    fn close(&mut self, w: &mut Writer) {
        match self.open {
            None => return,
            Some(Block::Thinking { signed: false }) => {
                let unsigned = Proof::signature(Origin::Unsigned, Text::EMPTY).marked();
                self.delta("signature_delta", "signature", &unsigned, w);
            }
            Some(_) => {}
        }
        self.open = None;
        let index = self.blocks.saturating_sub(1);
        frame(w, "content_block_stop", |w| w.put_u64("index", index));
    }

    fn end(&mut self, w: &mut Writer) {
        self.close(w);
        let (reason, stop_sequence) = self.finish.take().unwrap_or((FinishReason::Stop, None));
        frame(w, "message_delta", |w| {
            w.put_object("delta", |w| {
                w.put_str("stop_reason", stop_word(reason, stop_sequence.is_some()));
                put_text_or_null(w, "stop_sequence", stop_sequence.as_ref());
            });
            w.put_object("usage", |w| write_usage(w, &self.usage));
        });
        frame(w, "message_stop", |_| {});
    }
}

fn write_delta(w: &mut Writer, index: u64, kind: &str, key: &str, text: &Text<'_>) {
    frame(w, "content_block_delta", |w| {
        w.put_u64("index", index);
        w.put_object("delta", |w| {
            w.put_str("type", kind);
            w.put_text(key, text);
        });
    });
}

fn frame(w: &mut Writer, name: &str, fill: impl FnOnce(&mut Writer)) {
    w.verbatim("event: ");
    w.verbatim(name);
    w.verbatim("\ndata: {");
    w.put_str("type", name);
    fill(w);
    w.verbatim("}\n\n");
}

/// Writes a whole body.
pub(crate) fn write_plain(answer: &Answer, identity: &Identity) -> String {
    Writer::document(1024, |w| {
        w.put_text("id", &identity.answer_id(answer.id.as_ref(), "msg_"));
        w.put_str("type", "message");
        w.put_str("role", "assistant");
        w.put_text("model", &identity.model(answer.model.as_ref()));
        w.put_array("content", |w| {
            answer
                .pieces
                .iter()
                .for_each(|piece| write_piece(w, piece, identity));
        });
        let reason = answer.finish.unwrap_or(FinishReason::Stop);
        w.put_str(
            "stop_reason",
            stop_word(reason, answer.stop_sequence.is_some()),
        );
        put_text_or_null(w, "stop_sequence", answer.stop_sequence.as_ref());
        w.put_object("usage", |w| {
            write_usage(w, &answer.usage.unwrap_or_default())
        });
    })
}

fn write_piece(w: &mut Writer, piece: &Piece, identity: &Identity) {
    match piece {
        Piece::Text(text) | Piece::Refusal(text) => w.object(|w| {
            w.put_str("type", "text");
            w.put_text("text", text);
        }),
        Piece::Reasoning {
            proof: Some(proof), ..
        } if proof.is_encrypted => w.object(|w| {
            w.put_str("type", "redacted_thinking");
            w.put_text("data", &proof.marked());
        }),
        Piece::Reasoning { text, proof } => write_thinking(w, text, proof.as_ref()),
        Piece::Call(call) => w.object(|w| {
            w.put_str("type", "tool_use");
            let made = identity.call_id(call.index);
            w.put_text("id", call.id.as_ref().unwrap_or(&made));
            w.put_text("name", &call.name);
            w.put_raw("input", &input_object(&call.arguments));
        }),
    }
}

fn write_thinking(w: &mut Writer, text: &Text<'_>, proof: Option<&Proof<'_>>) {
    w.object(|w| {
        w.put_str("type", "thinking");
        w.put_text("thinking", text);
        let unsigned = Proof::signature(Origin::Unsigned, Text::EMPTY);
        w.put_text("signature", &proof.unwrap_or(&unsigned).marked());
    });
}

fn input_object(arguments: &Text<'_>) -> String {
    arguments_object(&arguments.unescape().unwrap_or_default(), arguments)
}

fn put_text_or_null(w: &mut Writer, key: &str, text: Option<&Text<'_>>) {
    match text {
        Some(text) => w.put_text(key, text),
        None => w.put_null(key),
    }
}

const fn stop_word(reason: FinishReason, at_sequence: bool) -> &'static str {
    match reason {
        FinishReason::Length => "max_tokens",
        FinishReason::ToolCalls => "tool_use",
        FinishReason::ContentFilter | FinishReason::Refusal => "refusal",
        FinishReason::Pause => "pause_turn",
        FinishReason::Stop | FinishReason::Error | FinishReason::Other => {
            if at_sequence {
                "stop_sequence"
            } else {
                "end_turn"
            }
        }
    }
}

/// The inside of Anthropic's `usage`, whose counts stand side by side: what was cached is not part
/// of `input_tokens`.
fn write_usage(w: &mut Writer, usage: &Usage) {
    let cached = usage.cached_input_tokens.unwrap_or(0);
    let written_5m = usage.cache_write_5m_tokens.unwrap_or(0);
    let written_1h = usage.cache_write_1h_tokens.unwrap_or(0);
    let written = written_5m.saturating_add(written_1h);
    let beside = cached.saturating_add(written);
    w.put_u64(
        "input_tokens",
        usage.input_tokens.unwrap_or(0).saturating_sub(beside),
    );
    w.put_u64("cache_creation_input_tokens", written);
    w.put_u64("cache_read_input_tokens", cached);
    w.put_u64("output_tokens", usage.output_tokens.unwrap_or(0));
    if let Some(thinking) = usage.reasoning_tokens {
        w.put_object("output_tokens_details", |w| {
            w.put_u64("thinking_tokens", thinking)
        });
    }
}
