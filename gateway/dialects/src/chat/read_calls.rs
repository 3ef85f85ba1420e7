//! The tool calls of a chat answer, whose pieces come in many orders.
//!
//! Some servers leave out the index or the id of a call, number all calls 0 or change the number of a
//! call, repeat the name in every chunk or send it in pieces, send it after the arguments, or say whole
//! arguments again. A call begins when its name and id are known, and after the calls before it; until
//! then its pieces are held.

use crate::caps;
use crate::json::{InvalidField, Object, Result, Text, text_of};
use crate::neutral::{
    AnswerEvent, ArgumentsEnd, EventSink, Given, ReasoningSignature, SignatureOrigin, ToolUse,
};

/// The calls of an answer so far.
#[derive(Debug, Default)]
pub(super) struct ChatCalls {
    /// In the order in which they were first heard of.
    calls: Vec<ChatCall>,
    /// How many of them have begun, or turned out to be nothing.
    settled: usize,
    /// How many have begun.
    begun: usize,
    held_bytes: usize,
}

#[derive(Debug, Default)]
struct ChatCall {
    /// The provider's number, if it gives one.
    number: Option<u64>,
    id: Option<Text<'static>>,
    name: Text<'static>,
    /// The last piece added to the name, so that more may follow.
    is_naming: bool,
    /// It had a name before its last arguments.
    was_named: bool,
    signature: Option<ReasoningSignature<'static>>,
    /// Arguments that came before the call could begin.
    held: Text<'static>,
    end: ArgumentsEnd,
    given: Given,
    /// Its number among the calls that have begun.
    index: usize,
}

/// What a chunk says of a call.
struct CallPiece<'a> {
    number: Option<u64>,
    id: Option<Text<'a>>,
    name: Option<Text<'a>>,
    arguments: Option<Text<'a>>,
    signature: Option<ReasoningSignature<'a>>,
}

impl ChatCalls {
    pub(super) const fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Bytes of the calls that have not begun.
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Reads the pieces of a chunk, or the calls of a body.
    pub(super) fn read(
        &mut self,
        message: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let mut place = 0;
        message.each_object("tool_calls", |call| {
            let mut piece = CallPiece::read(call)?;
            // What stands beside another call is not a piece of that one.
            piece.number = piece.number.or_else(|| (place > 0).then_some(place));
            place += 1;
            self.add(piece, sink)
        })?;
        // The form before there were tools: one call, which has no id.
        message
            .object("function_call", |call| {
                self.add(CallPiece::read_function(call), sink)
            })
            .map(drop)
    }

    fn add(&mut self, piece: CallPiece<'_>, sink: &mut EventSink<'_>) -> Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        let at = match self.known(&piece) {
            Some(at) => at,
            None if self.calls.len() >= caps::CALLS_MAX => {
                return Err(InvalidField::new("tool_calls", "has too many calls"));
            }
            None => {
                self.calls.push(ChatCall {
                    number: piece.number,
                    ..ChatCall::default()
                });
                self.calls.len() - 1
            }
        };
        let call = &mut self.calls[at];
        call.number = piece.number.or(call.number);
        if at < self.settled {
            return call.read_on(piece, sink);
        }
        self.held_bytes += call.hold(piece);
        self.begin(false, sink)
    }

    /// The call that a piece belongs to. Without an index, a new id begins a call, and a missing id
    /// continues the last one.
    fn known(&self, piece: &CallPiece<'_>) -> Option<usize> {
        let last = |such: &dyn Fn(&ChatCall) -> bool| self.calls.iter().rposition(such);
        let at = match (piece.number, &piece.id) {
            (Some(_), _) => match last(&|call| call.number == piece.number) {
                Some(at) => at,
                None => return self.renumbered(piece),
            },
            (None, Some(_)) => match last(&|call| call.id == piece.id) {
                Some(at) => return Some(at),
                None => last(&|call| call.id.is_none())?,
            },
            (None, None) => {
                let unnumbered = last(&|call| call.number.is_none());
                unnumbered.or_else(|| self.calls.len().checked_sub(1))?
            }
        };
        (!self.calls[at].is_another(piece)).then_some(at)
    }

    /// The call that goes on under a number of which no call is known: the one with the piece's id, or
    /// the last one, if its number was another call's and the piece begins nothing.
    fn renumbered(&self, piece: &CallPiece<'_>) -> Option<usize> {
        let (at, call) = self.calls.iter().enumerate().next_back()?;
        if piece.name.is_some() || call.end.is_reached() {
            return None;
        }
        let others = &self.calls[..at];
        let goes_on = match &piece.id {
            Some(_) => call.id == piece.id,
            None => others.iter().any(|other| other.number == call.number),
        };
        goes_on.then_some(at)
    }

    /// Begins the calls that can. At the end, all can.
    fn begin(&mut self, at_end: bool, sink: &mut EventSink<'_>) -> Result<()> {
        while let Some(call) = self.calls.get_mut(self.settled) {
            if !at_end && !call.can_begin() {
                break;
            }
            self.settled += 1;
            if call.name.is_empty() && !call.held.is_empty() {
                return Err(no_name());
            }
            let held = call.name.len() + call.held.len();
            self.held_bytes = self.held_bytes.saturating_sub(held);
            if !call.name.is_empty() {
                call.index = self.begun;
                self.begun += 1;
                call.begin(sink);
            }
        }
        Ok(())
    }

    /// Nothing more comes, so every call begins.
    pub(super) fn end(&mut self, sink: &mut EventSink<'_>) -> Result<()> {
        self.begin(true, sink)
    }
}

fn no_name() -> InvalidField {
    let reason = "is missing: a call has arguments and no name";
    InvalidField::new("tool_calls[].function.name", reason)
}

impl<'a> CallPiece<'a> {
    fn read(mut call: Object<'a, '_>) -> Result<Self> {
        let google = call.object("extra_content", |mut extra| {
            extra.object("google", |mut google| google.text("thought_signature"))
        });
        let signature = google.ok().flatten().flatten().flatten();
        let sign = |value| ReasoningSignature::plain(SignatureOrigin::Gemini, value);
        let (id, number) = (call.some_text("id"), call.count("index").ok().flatten());
        Ok(Self {
            number,
            id,
            signature: signature.map(sign),
            ..Self::read_function(call.object_or_empty("function")?)
        })
    }

    fn read_function(mut function: Object<'a, '_>) -> Self {
        // Some servers send the object itself.
        let arguments = function.take("arguments");
        let arguments = arguments.map(|raw| text_of(raw).unwrap_or_else(|| Text::plain(raw)));
        Self {
            number: None,
            id: None,
            name: function.some_text("name"),
            arguments: arguments.filter(|text| !text.is_empty()),
            signature: None,
        }
    }

    /// Some servers send calls that say nothing beside their text.
    const fn is_empty(&self) -> bool {
        self.id.is_none() && self.name.is_none() && self.arguments.is_none()
    }
}

impl ChatCall {
    /// Whether a piece with this call's number begins another one. A name does, with another id, or
    /// behind whole arguments.
    fn is_another(&self, piece: &CallPiece<'_>) -> bool {
        let Some(name) = piece.name.as_ref().filter(|_| !self.name.is_empty()) else {
            return false;
        };
        match (&self.id, &piece.id) {
            (Some(own), Some(id)) => own != id,
            _ if !self.end.is_reached() => false,
            // A name behind the arguments may be in pieces, too.
            _ => piece.arguments.is_some() || self.was_named && *name != self.name,
        }
    }

    /// Adds a piece to a call that has begun.
    fn read_on(&mut self, piece: CallPiece<'_>, sink: &mut EventSink<'_>) -> Result<()> {
        if self.name.is_empty() {
            return Err(no_name());
        }
        if let Some(part) = piece.arguments.filter(|part| self.is_new(part)) {
            let index = self.index;
            sink(AnswerEvent::Arguments { index, part });
        }
        Ok(())
    }

    /// Notes a piece of the arguments. Returns whether it is one: some servers say the whole again.
    fn is_new(&mut self, part: &Text<'_>) -> bool {
        if self.end.is_reached() && self.given.is_all_of(part) {
            return false;
        }
        self.end.read(part);
        self.given.add(part);
        true
    }

    /// Adds a piece to a call that has not begun. Returns how much longer it is.
    fn hold(&mut self, piece: CallPiece<'_>) -> usize {
        let before = self.name.len() + self.held.len();
        if self.id.is_none() {
            self.id = piece.id.map(Text::into_owned);
        }
        if self.signature.is_none() {
            self.signature = piece.signature.as_ref().map(ReasoningSignature::to_owned);
        }
        let name = piece.name.unwrap_or_default();
        self.is_naming = !name.is_empty() && name != self.name;
        if self.is_naming {
            self.name.push(&name);
        }
        if let Some(part) = piece.arguments.filter(|part| self.is_new(part)) {
            self.was_named |= !self.name.is_empty();
            self.held.push(&part);
        }
        (self.name.len() + self.held.len()).saturating_sub(before)
    }

    fn can_begin(&self) -> bool {
        let is_named = !self.name.is_empty() && self.id.is_some();
        let has_arguments = !self.held.is_empty() && !self.is_naming;
        is_named && (has_arguments || self.end.is_reached())
    }

    fn begin(&mut self, sink: &mut EventSink<'_>) {
        let (id, name) = (self.id.clone(), Some(self.name.clone()));
        sink(AnswerEvent::ToolUse(ToolUse {
            signature: self.signature.take(),
            ..ToolUse::new(self.index, id, name)
        }));
        let (index, part) = (self.index, std::mem::take(&mut self.held));
        if !part.is_empty() {
            sink(AnswerEvent::Arguments { index, part });
        }
    }
}
