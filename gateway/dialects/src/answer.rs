//! What the writers of answers share: who the answer says it is, and the answer put together.

use weir_schemas::Usage;

use crate::json::Text;
use crate::neutral::{Event, Proof};
use crate::response::FinishReason;

/// What an answer says of itself where the provider says nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Identity {
    pub(crate) request_id: String,
    /// Model that the provider was asked for.
    pub(crate) model: String,
    pub(crate) created_s: u64,
}

impl Identity {
    /// The provider's id, or one made from the request's.
    pub(crate) fn answer_id(&self, given: Option<&Text<'_>>, prefix: &str) -> Text<'static> {
        match given {
            Some(id) if !id.is_empty() => id.clone().into_owned(),
            _ => Text::owned(format!("{prefix}{}", self.request_id)),
        }
    }

    pub(crate) fn model(&self, given: Option<&Text<'_>>) -> Text<'static> {
        match given {
            Some(model) if !model.is_empty() => model.clone().into_owned(),
            _ => Text::owned(self.model.clone()),
        }
    }

    /// The id of a tool call whose provider gives none. OpenAI, to which the conversation may move,
    /// takes ids of 40 characters, so there is no room for hyphens.
    pub(crate) fn call_id(&self, index: usize) -> Text<'static> {
        let request_id = self.request_id.replace('-', "");
        Text::owned(format!("call_{request_id}_{index}"))
    }
}

/// An answer put together from its events.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) id: Option<Text<'static>>,
    pub(crate) model: Option<Text<'static>>,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) usage: Option<Usage>,
    pub(crate) finish: Option<FinishReason>,
    pub(crate) stop_sequence: Option<Text<'static>>,
    text_bytes: usize,
}

#[derive(Debug)]
pub(crate) enum Piece {
    Text(Text<'static>),
    Refusal(Text<'static>),
    Reasoning {
        text: Text<'static>,
        proof: Option<Proof<'static>>,
    },
    Call(Call),
}

#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) index: usize,
    pub(crate) id: Option<Text<'static>>,
    pub(crate) name: Text<'static>,
    /// The text of a JSON object, escaped; or, of a tool that takes free text, that text.
    pub(crate) arguments: Text<'static>,
    pub(crate) is_free_text: bool,
    pub(crate) proof: Option<Proof<'static>>,
}

impl Answer {
    pub(crate) fn note(&mut self, event: &Event<'_>) {
        self.text_bytes += event.texts().map(Text::len).sum::<usize>();
        match event {
            Event::Start { id, model } => {
                self.id = id.clone().map(Text::into_owned);
                self.model = model.clone().map(Text::into_owned);
            }
            Event::Text(part) => match self.pieces.last_mut() {
                Some(Piece::Text(text)) => text.push(part),
                _ => self.pieces.push(Piece::Text(part.clone().into_owned())),
            },
            Event::Refusal(part) => match self.pieces.last_mut() {
                Some(Piece::Refusal(text)) => text.push(part),
                _ => self.pieces.push(Piece::Refusal(part.clone().into_owned())),
            },
            Event::Reasoning(part) => match self.pieces.last_mut() {
                Some(Piece::Reasoning { text, proof: None }) => text.push(part),
                _ => {
                    let text = part.clone().into_owned();
                    self.pieces.push(Piece::Reasoning { text, proof: None });
                }
            },
            Event::Proof(given) => self.note_proof(given),
            Event::ToolCall {
                index,
                id,
                name,
                proof,
            } => self.pieces.push(Piece::Call(Call {
                index: *index,
                id: id.clone().map(Text::into_owned),
                name: name.clone().into_owned(),
                arguments: Text::default(),
                is_free_text: false,
                proof: proof.as_ref().map(Proof::to_owned),
            })),
            Event::Arguments { index, part } => {
                if let Some(call) = self.call_mut(*index) {
                    call.arguments.push(part);
                }
            }
            Event::FreeTextCall {
                index,
                id,
                name,
                input,
            } => {
                self.pieces.push(Piece::Call(Call {
                    index: *index,
                    id: id.clone().map(Text::into_owned),
                    name: name.clone().into_owned(),
                    arguments: input.clone().into_owned(),
                    is_free_text: true,
                    proof: None,
                }));
            }
            Event::Usage(usage) => self.usage = Some(*usage),
            Event::Finish {
                reason,
                stop_sequence,
            } => {
                self.finish = Some(*reason);
                self.stop_sequence = stop_sequence.clone().map(Text::into_owned);
            }
            Event::ServiceTier(_) | Event::Failed(_) | Event::Alive | Event::End => {}
        }
    }

    fn note_proof(&mut self, given: &Proof<'_>) {
        match self.pieces.last_mut() {
            Some(Piece::Reasoning {
                proof: proof @ None,
                ..
            }) if !given.is_encrypted => {
                *proof = Some(given.to_owned());
            }
            _ => {
                let (text, proof) = (Text::default(), Some(given.to_owned()));
                self.pieces.push(Piece::Reasoning { text, proof });
            }
        }
    }

    fn call_mut(&mut self, index: usize) -> Option<&mut Call> {
        self.calls_mut().find(|call| call.index == index)
    }

    /// Which piece a call is.
    pub(crate) fn output_of_call(&self, index: usize) -> Option<usize> {
        self.pieces.iter().rposition(|piece| match piece {
            Piece::Call(call) => call.index == index,
            _ => false,
        })
    }

    /// Bytes of text that are held.
    pub(crate) const fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    fn calls_mut(&mut self) -> impl Iterator<Item = &mut Call> {
        self.pieces
            .iter_mut()
            .rev()
            .filter_map(|piece| match piece {
                Piece::Call(call) => Some(call),
                _ => None,
            })
    }

    pub(crate) fn calls(&self) -> impl Iterator<Item = &Call> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Call(call) => Some(call),
            _ => None,
        })
    }

    /// All text, or all refusals, or all reasoning.
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
