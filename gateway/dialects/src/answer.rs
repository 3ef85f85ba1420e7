//! An answer put together from its events.

use weir_schemas::Usage;

use crate::facts::FinishReason;
use crate::json::{Text, Writer};
use crate::neutral::{AnswerEvent, Citation, ReasoningSignature, ToolUse};

/// An answer put together from its events.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Which of the client's choices it is.
    pub(crate) index: u64,
    /// The other choices, by their index. What is said of all of them stands here.
    others: Vec<Self>,
    /// Which of the others is being put together.
    current: Option<usize>,
    pub(crate) id: Option<Text<'static>>,
    pub(crate) model: Option<Text<'static>>,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) usage: Option<Usage>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) stop_sequence: Option<Text<'static>>,
    /// Sources, each with the position of the piece that it is for.
    pub(crate) citations: Vec<(usize, Citation<'static>)>,
    /// What had no place here.
    pub(crate) lost: Vec<&'static str>,
    /// Why the provider ended it as a refusal.
    pub(crate) explanation: Option<Text<'static>>,
    text_bytes: usize,
}

#[derive(Debug)]
pub(crate) enum Piece {
    Text(Text<'static>),
    Refusal(Text<'static>),
    Reasoning {
        text: Text<'static>,
        signature: Option<ReasoningSignature<'static>>,
    },
    ToolUse(ToolUse<'static>),
}

impl Answer {
    pub(crate) fn add(&mut self, event: &AnswerEvent<'_>) {
        match (self.current, event) {
            (_, AnswerEvent::Choice(index)) => self.turn_to(*index),
            (None, _)
            | (_, AnswerEvent::Start { .. } | AnswerEvent::Usage(_) | AnswerEvent::Lost(_)) => {
                self.add_here(event);
            }
            (Some(at), _) => {
                self.text_bytes += size_of_texts(event);
                if let Some(other) = self.others.get_mut(at) {
                    other.add_here(event);
                }
            }
        }
    }

    /// Goes on with another choice.
    fn turn_to(&mut self, index: u64) {
        self.current = (index != self.index).then(|| {
            let at = self.others.partition_point(|other| other.index < index);
            if self.others.get(at).is_none_or(|other| other.index != index) {
                let other = Self {
                    index,
                    ..Self::default()
                };
                self.others.insert(at, other);
            }
            at
        });
    }

    /// The choices that were answered. Of several, the first may be missing.
    pub(crate) fn choices(&self) -> impl Iterator<Item = &Self> {
        let first = Some(self).filter(|it| it.finish.is_some() || it.others.is_empty());
        first.into_iter().chain(&self.others)
    }

    fn add_here(&mut self, event: &AnswerEvent<'_>) {
        self.text_bytes += size_of_texts(event);
        match event {
            AnswerEvent::Start { id, model } => {
                self.id = id.clone().map(Text::into_owned);
                self.model = model.clone().map(Text::into_owned);
            }
            AnswerEvent::Text(part) => match self.pieces.last_mut() {
                Some(Piece::Text(text)) => text.push(part),
                _ => self.pieces.push(Piece::Text(part.clone().into_owned())),
            },
            AnswerEvent::Refusal(part) => match self.pieces.last_mut() {
                Some(Piece::Refusal(text)) => text.push(part),
                _ => self.pieces.push(Piece::Refusal(part.clone().into_owned())),
            },
            AnswerEvent::Reasoning(part) => match self.pieces.last_mut() {
                Some(Piece::Reasoning {
                    text,
                    signature: None,
                }) => text.push(part),
                _ => self.pieces.push(Piece::Reasoning {
                    text: part.clone().into_owned(),
                    signature: None,
                }),
            },
            AnswerEvent::Signature(given) => self.sign(given),
            AnswerEvent::ToolUse(call) => self.pieces.push(Piece::ToolUse(call.to_owned())),
            AnswerEvent::Arguments { index, part } => {
                let mut calls = self.pieces.iter_mut().rev().filter_map(Piece::as_call_mut);
                if let Some(call) = calls.find(|call| call.index == *index) {
                    call.arguments.push(part);
                }
            }
            AnswerEvent::Citation(citation) => {
                let is_text = |piece: &Piece| matches!(piece, Piece::Text(_));
                let piece = self.pieces.iter().rposition(is_text);
                let citation = piece.map(|piece| (piece, citation.to_owned()));
                self.citations.extend(citation);
            }
            AnswerEvent::Lost(what) => self.lost.push(what),
            AnswerEvent::Explanation(text) => self.explanation = Some(text.clone().into_owned()),
            AnswerEvent::Usage(usage) => self.usage = Some(**usage),
            AnswerEvent::Finish {
                reason,
                stop_sequence,
            } => {
                self.finish = Some(*reason);
                self.stop_sequence = stop_sequence.clone().map(Text::into_owned);
            }
            AnswerEvent::Choice(_)
            | AnswerEvent::CallEnd { .. }
            | AnswerEvent::ServiceTier(_)
            | AnswerEvent::InferenceGeo(_)
            | AnswerEvent::OtherModels(_)
            | AnswerEvent::Failed(_)
            | AnswerEvent::Alive
            | AnswerEvent::End => {}
        }
    }

    fn sign(&mut self, given: &ReasoningSignature<'_>) {
        match self.pieces.last_mut() {
            Some(Piece::Reasoning {
                signature: signature @ None,
                ..
            }) if !given.is_encrypted => *signature = Some(given.to_owned()),
            _ => self.pieces.push(Piece::Reasoning {
                text: Text::EMPTY,
                signature: Some(given.to_owned()),
            }),
        }
    }

    /// The position of a call's piece.
    pub(crate) fn output_of_call(&self, index: usize) -> Option<usize> {
        let is_it = |piece: &Piece| piece.as_call().is_some_and(|call| call.index == index);
        self.pieces.iter().rposition(is_it)
    }

    /// The sources of a piece.
    pub(crate) fn citations_of(&self, piece: usize) -> impl Iterator<Item = &Citation<'static>> {
        let of_piece = self.citations.iter().filter(move |(of, _)| *of == piece);
        of_piece.map(|(_, citation)| citation)
    }

    /// Bytes of text that are held.
    pub(crate) const fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = &ToolUse<'static>> {
        self.pieces.iter().filter_map(Piece::as_call)
    }

    /// The picked texts, joined: all text, all refusals or all reasoning.
    pub(crate) fn joined(
        &self,
        pick: impl Fn(&Piece) -> Option<&Text<'static>>,
    ) -> Option<Text<'static>> {
        let mut joined: Option<Text<'static>> = None;
        for text in self.pieces.iter().filter_map(pick) {
            joined.get_or_insert_default().push(text);
        }
        joined
    }
}

impl Piece {
    /// Whether it is text that says nothing.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self, Self::Text(text) | Self::Refusal(text) if text.is_blank())
    }

    pub(crate) const fn as_call(&self) -> Option<&ToolUse<'static>> {
        match self {
            Self::ToolUse(call) => Some(call),
            _ => None,
        }
    }

    const fn as_call_mut(&mut self) -> Option<&mut ToolUse<'static>> {
        match self {
            Self::ToolUse(call) => Some(call),
            _ => None,
        }
    }
}

fn size_of_texts(event: &AnswerEvent<'_>) -> usize {
    event.texts().map(Text::len).sum()
}

/// Lists what of the provider's answer has no place in the client's dialect.
pub(crate) fn put_lost(w: &mut Writer, lost: &[&str]) {
    if !lost.is_empty() {
        w.put_each("weir_dropped", lost, |w, what| w.value(*what));
    }
}
