//! An answer as a sequence of events.

use weir_schemas::{OtherModelUsage, Usage};

use super::{Citation, ReasoningSignature};
use crate::facts::FinishReason;
use crate::json::Text;
use crate::upstream_error::UpstreamErrorFacts;

/// Takes the events of an answer.
pub(crate) type EventSink<'s> = dyn FnMut(AnswerEvent<'_>) + 's;

/// Passes an event on, if there is one.
pub(crate) fn emit(sink: &mut EventSink<'_>, event: Option<AnswerEvent<'_>>) {
    if let Some(event) = event {
        sink(event);
    }
}

/// One step of an answer. A plain answer is the same events, all at once.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum AnswerEvent<'a> {
    Start {
        id: Option<Text<'a>>,
        model: Option<Text<'a>>,
    },
    /// What follows is of this choice. An answer begins with choice 0, and only clients of chat ask for
    /// more.
    Choice(u64),
    Text(Text<'a>),
    Refusal(Text<'a>),
    /// A source of what the text says.
    Citation(Citation<'a>),
    /// The provider sent something that no event stands for.
    Lost(&'static str),
    /// Why the provider ended the answer as a refusal. It is not the model's.
    Explanation(Text<'a>),
    Reasoning(Text<'a>),
    /// Signs the reasoning since the last signature. Encrypted reasoning stands for itself.
    Signature(ReasoningSignature<'a>),
    /// A tool call begins; one of a free-text tool is whole.
    ToolUse(ToolUse<'a>),
    /// A piece of a call's arguments, which are the text of a JSON object: escaped twice.
    Arguments {
        index: usize,
        part: Text<'a>,
    },
    /// A call has all of its arguments. Where the provider does not say so, its turn ends with them.
    CallEnd {
        index: usize,
    },
    /// All that is known of the usage so far.
    Usage(&'a Usage),
    /// All that is known so far of what other models used within the call.
    OtherModels(&'a [OtherModelUsage]),
    /// Service tier that the answer was served in.
    ServiceTier(Text<'a>),
    /// Where the model ran.
    InferenceGeo(Text<'a>),
    Finish {
        reason: FinishReason,
        stop_sequence: Option<Text<'a>>,
    },
    /// The provider reports an error. It is the last event.
    Failed(UpstreamErrorFacts),
    /// The provider is still connected.
    Alive,
    /// The answer is complete.
    End,
}

/// A tool call in an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ToolUse<'a> {
    /// Calls count from 0.
    pub(crate) index: usize,
    pub(crate) id: Option<Text<'a>>,
    pub(crate) name: Text<'a>,
    /// The text of a JSON object, escaped; for a free-text tool, that text.
    pub(crate) arguments: Text<'a>,
    pub(crate) is_free_text: bool,
    pub(crate) signature: Option<ReasoningSignature<'a>>,
}

impl<'a> ToolUse<'a> {
    /// A call whose arguments follow.
    pub(crate) fn new(index: usize, id: Option<Text<'a>>, name: Option<Text<'a>>) -> Self {
        Self {
            index,
            id,
            name: name.unwrap_or_default(),
            arguments: Text::EMPTY,
            is_free_text: false,
            signature: None,
        }
    }

    pub(crate) fn to_owned(&self) -> ToolUse<'static> {
        ToolUse {
            id: self.id.clone().map(Text::into_owned),
            name: self.name.clone().into_owned(),
            arguments: self.arguments.clone().into_owned(),
            signature: self.signature.as_ref().map(ReasoningSignature::to_owned),
            ..*self
        }
    }
}

impl AnswerEvent<'_> {
    /// The `error` value of a provider's answer.
    pub(crate) fn failed(raw: &str) -> AnswerEvent<'static> {
        AnswerEvent::Failed(UpstreamErrorFacts::in_stream(raw.as_bytes()))
    }

    /// The data of an event that is an error as a whole, or holds one.
    pub(crate) fn failed_event(data: &[u8]) -> AnswerEvent<'static> {
        AnswerEvent::Failed(UpstreamErrorFacts::in_event(data))
    }

    pub(crate) const fn finish(reason: FinishReason) -> AnswerEvent<'static> {
        AnswerEvent::Finish {
            reason,
            stop_sequence: None,
        }
    }

    /// Text, reasoning or arguments that the event adds to the answer.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &Text<'_>> {
        let (first, second) = match self {
            Self::Text(text) | Self::Refusal(text) | Self::Reasoning(text) => (Some(text), None),
            Self::Signature(signature) => (Some(&signature.value), None),
            Self::ToolUse(call) => (Some(&call.name), Some(&call.arguments)),
            Self::Arguments { part, .. } => (Some(part), None),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
}
