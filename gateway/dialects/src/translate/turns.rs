//! The order of an answer's pieces as clients can read them: one after the other.
//!
//! Some providers begin several calls and then give each its arguments in turn. Messages clients take
//! a block for over when the next begins, and agents run a call at its end. So the first call has its
//! turn until its arguments are whole; what comes meanwhile is held, within
//! [`HELD_BACK_BYTES_MAX`](crate::caps::HELD_BACK_BYTES_MAX), and follows.
//!
//! Text costs one look at whether a call is open.

use std::collections::VecDeque;

use serde::de::IgnoredAny;

use crate::caps;
use crate::facts::StreamError;
use crate::json::{Object, Path, Text};
use crate::neutral::{AnswerEvent, ArgumentsEnd, ReasoningSignature, StandIn, ToolUse};
use crate::response_context::ResponseContext;

/// Takes the events whose turn it is.
pub(super) type TurnSink<'s> = dyn FnMut(&AnswerEvent<'_>) + 's;

#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The call whose turn it is.
    open: Option<OpenCall>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// The client's tools that take free text.
    free_text_tools: Vec<String>,
    /// Names that stand for those of the client's tools.
    stand_ins: Vec<StandIn>,
    /// Arguments came for a call that is over.
    is_late: bool,
}

#[derive(Debug)]
struct OpenCall {
    index: usize,
    end: ArgumentsEnd,
    has_arguments: bool,
    /// The provider says that it has all of its arguments.
    is_over: bool,
    /// A call with free text is passed on as a whole.
    whole: Option<ToolUse<'static>>,
}

/// What waits for the end of the open call.
#[derive(Debug)]
enum Waiting {
    Call {
        call: ToolUse<'static>,
        is_over: bool,
    },
    Event(AnswerEvent<'static>),
}

impl Turns {
    pub(super) fn new(context: &ResponseContext) -> Self {
        Self {
            free_text_tools: context.free_text_tools.clone(),
            stand_ins: context.stand_ins.clone(),
            ..Self::default()
        }
    }

    /// Those of another choice of the same answer.
    pub(super) fn of_another_choice(&self) -> Self {
        Self {
            free_text_tools: self.free_text_tools.clone(),
            stand_ins: self.stand_ins.clone(),
            ..Self::default()
        }
    }

    /// Takes the next event, and passes on what has its turn.
    pub(super) fn pass(&mut self, event: &AnswerEvent<'_>, sink: &mut TurnSink<'_>) {
        match event {
            AnswerEvent::Text(_)
            | AnswerEvent::Refusal(_)
            | AnswerEvent::Reasoning(_)
            | AnswerEvent::Signature(_) => {
                if self.must_wait(sink) {
                    self.hold(event);
                } else {
                    sink(event);
                }
            }
            AnswerEvent::ToolUse(call) => {
                if self.must_wait(sink) {
                    let call = call.to_owned();
                    self.waiting_bytes += size([&call.name, &call.arguments].into_iter());
                    let is_over = call.is_free_text;
                    self.waiting.push_back(Waiting::Call { call, is_over });
                } else {
                    self.begin(call.to_owned(), false, sink);
                }
            }
            AnswerEvent::Arguments { index, part } => self.arguments(*index, part, sink),
            AnswerEvent::CallEnd { index } => self.end_call(*index, sink),
            _ => sink(event),
        }
    }

    /// Whether a call must have its end first. A call that is whole has it when something follows.
    fn must_wait(&mut self, sink: &mut TurnSink<'_>) -> bool {
        match &self.open {
            None => false,
            Some(open) if open.is_whole() => {
                self.close(sink);
                false
            }
            Some(_) => true,
        }
    }

    /// Holds text, joined with the text before it.
    fn hold(&mut self, event: &AnswerEvent<'_>) {
        self.waiting_bytes += size(event.texts());
        let last = match self.waiting.back_mut() {
            Some(Waiting::Event(last)) => Some(last),
            _ => None,
        };
        match (last, event) {
            (Some(AnswerEvent::Text(last)), AnswerEvent::Text(part))
            | (Some(AnswerEvent::Refusal(last)), AnswerEvent::Refusal(part))
            | (Some(AnswerEvent::Reasoning(last)), AnswerEvent::Reasoning(part)) => last.push(part),
            _ => self.waiting.extend(held(event).map(Waiting::Event)),
        }
    }

    fn arguments(&mut self, index: usize, part: &Text<'_>, sink: &mut TurnSink<'_>) {
        match &mut self.open {
            Some(open) if open.index == index => {
                self.waiting_bytes += open.add(part, sink);
                if !self.waiting.is_empty() {
                    self.release(false, sink);
                }
                return;
            }
            _ => {}
        }
        let is_it = |waiting: &&mut Waiting| waiting.is_call(index);
        match self.waiting.iter_mut().rfind(is_it) {
            Some(Waiting::Call { call, .. }) => {
                self.waiting_bytes += part.len();
                call.arguments.push(part);
            }
            _ => self.is_late |= !is_blank(part),
        }
    }

    fn end_call(&mut self, index: usize, sink: &mut TurnSink<'_>) {
        if let Some(open) = self.open.as_mut().filter(|open| open.index == index) {
            open.is_over = true;
            self.release(false, sink);
            return;
        }
        let is_it = |waiting: &&mut Waiting| waiting.is_call(index);
        if let Some(Waiting::Call { is_over, .. }) = self.waiting.iter_mut().rfind(is_it) {
            *is_over = true;
        }
    }

    /// Nothing more comes, so everything has its turn.
    pub(super) fn end(&mut self, sink: &mut TurnSink<'_>) {
        self.release(true, sink);
    }

    /// Passes on what has its turn now; at the end, everything.
    fn release(&mut self, at_end: bool, sink: &mut TurnSink<'_>) {
        loop {
            if self.open.as_ref().is_some_and(|open| !open.is_whole()) && !at_end {
                return;
            }
            self.close(sink);
            match self.waiting.pop_front() {
                None => break,
                Some(Waiting::Event(event)) => sink(&event),
                Some(Waiting::Call { call, is_over }) => self.begin(call, is_over, sink),
            }
        }
        self.waiting_bytes = 0;
    }

    /// Begins a call with the arguments that it has so far.
    fn begin(&mut self, mut call: ToolUse<'static>, is_over: bool, sink: &mut TurnSink<'_>) {
        let mut stand_ins = self.stand_ins.iter();
        if let Some(stand_in) = stand_ins.find(|known| call.name.is(&known.name)) {
            call.name = Text::escaped(&stand_in.stands_for).into_owned();
        }
        if call.is_free_text {
            sink(&AnswerEvent::ToolUse(call));
            return;
        }
        let index = call.index;
        let arguments = std::mem::take(&mut call.arguments);
        let name = call.name.as_escaped();
        let is_free_text = self.free_text_tools.iter().any(|tool| tool == name);
        let mut open = OpenCall {
            index,
            end: ArgumentsEnd::default(),
            has_arguments: false,
            is_over,
            whole: None,
        };
        if is_free_text {
            open.whole = Some(call);
        } else {
            sink(&AnswerEvent::ToolUse(call));
        }
        if !arguments.is_empty() {
            open.add(&arguments, sink);
        }
        self.open = Some(open);
    }

    /// Ends the open call.
    fn close(&mut self, sink: &mut TurnSink<'_>) {
        let Some(open) = self.open.take() else {
            return;
        };
        if let Some(mut call) = open.whole {
            call.arguments = free_text_input(call.arguments);
            call.is_free_text = true;
            call.signature = None;
            sink(&AnswerEvent::ToolUse(call));
            return;
        }
        let index = open.index;
        if !open.has_arguments {
            let part = Text::escaped("{}");
            sink(&AnswerEvent::Arguments { index, part });
        }
        sink(&AnswerEvent::CallEnd { index });
    }

    /// Whether the stream can go on. `held_bytes` are held beside what waits here.
    pub(super) fn check(&self, held_bytes: usize) -> Result<(), StreamError> {
        if self.is_late {
            let reason = "arguments follow those of a call that were whole";
            return Err(StreamError::malformed(reason));
        }
        let most = caps::HELD_BACK_BYTES_MAX;
        if self.waiting_bytes + held_bytes > most || self.waiting.len() > caps::CALLS_MAX {
            let reason = format!("more than {most} bytes would wait for a call to be whole");
            return Err(StreamError::malformed(reason));
        }
        Ok(())
    }
}

impl OpenCall {
    fn is_whole(&self) -> bool {
        self.is_over || self.end.is_reached()
    }

    /// Passes on arguments, or keeps them. Returns how many bytes are kept.
    fn add(&mut self, part: &Text<'_>, sink: &mut TurnSink<'_>) -> usize {
        self.end.read(part);
        self.has_arguments = true;
        match &mut self.whole {
            Some(call) => {
                call.arguments.push(part);
                part.len()
            }
            None => {
                let (index, part) = (self.index, part.borrowed());
                sink(&AnswerEvent::Arguments { index, part });
                0
            }
        }
    }
}

impl Waiting {
    fn is_call(&self, index: usize) -> bool {
        matches!(self, Self::Call { call, .. } if call.index == index)
    }
}

/// The text inside `{"input": "…"}`, or all of it if it is something else.
fn free_text_input(arguments: Text<'static>) -> Text<'static> {
    let found = arguments.unescape().and_then(|json| {
        serde_json::from_str::<IgnoredAny>(&json).ok()?;
        let mut object = Object::read(json.trim_ascii(), Path::ROOT).ok()?;
        object.text("input").ok()?.map(Text::into_owned)
    });
    found.unwrap_or(arguments)
}

/// A copy of an event with text.
fn held(event: &AnswerEvent<'_>) -> Option<AnswerEvent<'static>> {
    let own = |text: &Text<'_>| text.clone().into_owned();
    Some(match event {
        AnswerEvent::Text(text) => AnswerEvent::Text(own(text)),
        AnswerEvent::Refusal(text) => AnswerEvent::Refusal(own(text)),
        AnswerEvent::Reasoning(text) => AnswerEvent::Reasoning(own(text)),
        AnswerEvent::Signature(signature) => {
            AnswerEvent::Signature(ReasoningSignature::to_owned(signature))
        }
        _ => return None,
    })
}

fn size<'t, 'a: 't>(texts: impl Iterator<Item = &'t Text<'a>>) -> usize {
    texts.map(Text::len).sum()
}

/// Whether arguments say nothing: some servers send blanks behind a whole object.
fn is_blank(part: &Text<'_>) -> bool {
    let plain = part.unescape();
    plain.is_some_and(|plain| plain.trim_ascii().is_empty())
}
