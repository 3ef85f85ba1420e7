//! The items of a responses answer, and what the stream has given of each so far.

use crate::caps;
use crate::json::{InvalidField, Object, Path, Result, Text};
use crate::neutral::{
    AnswerEvent, Citation, CitedText, EventSink, Given, ReasoningSignature, SignatureOrigin,
    ToolUse, emit,
};

/// The separator of a summary's parts, and of messages, escaped.
pub(super) const PARAGRAPH: Text<'static> = Text::escaped("\\n\\n");

/// What a text is, which tells the field of its item that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartRole {
    Text,
    Refusal,
    Summary,
    /// Reasoning that is no summary.
    Reasoning,
}

impl PartRole {
    /// The kind of the item that has it.
    const fn item(self) -> ItemKind {
        match self {
            Self::Text | Self::Refusal => ItemKind::Message,
            Self::Summary | Self::Reasoning => ItemKind::Reasoning,
        }
    }

    /// The event's field with the part's number.
    const fn number(self) -> &'static str {
        match self {
            Self::Summary => "summary_index",
            Self::Text | Self::Refusal | Self::Reasoning => "content_index",
        }
    }

    const fn event(self, text: Text<'_>) -> AnswerEvent<'_> {
        match self {
            Self::Text => AnswerEvent::Text(text),
            Self::Refusal => AnswerEvent::Refusal(text),
            Self::Summary | Self::Reasoning => AnswerEvent::Reasoning(text),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ItemKind {
    Message,
    Reasoning,
    Call,
    FreeTextCall,
    /// Nothing that is read.
    Other,
}

impl ItemKind {
    fn of(item: &mut Object<'_, '_>) -> Self {
        let kind = item.lenient_text("type").unwrap_or_default();
        match kind.as_escaped() {
            "message" => Self::Message,
            "reasoning" => Self::Reasoning,
            "function_call" => Self::Call,
            "custom_tool_call" => Self::FreeTextCall,
            _ => Self::Other,
        }
    }

    /// Whether an event about one kind may be about the other.
    const fn fits(self, wanted: Self) -> bool {
        matches!(
            (self, wanted),
            (Self::Message, Self::Message)
                | (Self::Reasoning, Self::Reasoning)
                | (
                    Self::Call | Self::FreeTextCall,
                    Self::Call | Self::FreeTextCall
                )
        )
    }
}

#[derive(Debug)]
struct Item {
    kind: ItemKind,
    /// The number that the stream gives it.
    output: Option<u64>,
    id: Option<Text<'static>>,
    parts: Vec<TextPart>,
    call: Call,
    is_signed: bool,
}

#[derive(Debug)]
struct TextPart {
    kind: PartRole,
    number: u64,
    given: Given,
    /// Where the part begins in the answer's text, in characters.
    begins: Option<u64>,
    /// Annotations that were passed on.
    annotations: u64,
}

/// What is known of a call. It begins when it has a name.
#[derive(Debug, Default)]
struct Call {
    id: Option<Text<'static>>,
    name: Text<'static>,
    /// Its number among the calls that have begun.
    index: Option<usize>,
    given: Given,
    /// Arguments that came before the name.
    held: Text<'static>,
    /// Arguments that the call had from the start, in case that no others come.
    initial: Text<'static>,
    is_over: bool,
}

#[derive(Debug, Default)]
pub(super) struct Items {
    items: Vec<Item>,
    /// Whether the stream gives one number to several items, so that only their ids tell them apart.
    has_doubles: bool,
    /// How many calls have begun.
    calls: usize,
    /// The message whose text came last.
    message: Option<usize>,
    /// Characters of text so far.
    text_chars: u64,
    /// Item and part of the reasoning that came last.
    reasoning: Option<(usize, PartRole, u64)>,
    held_bytes: usize,
}

impl Items {
    pub(super) const fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The item that an event is about, which it may be the first to name.
    fn of_event(&mut self, event: &mut Object<'_, '_>, kind: ItemKind) -> Result<usize> {
        let output = event.count("output_index")?;
        let fits = |item: &Item| item.kind.fits(kind);
        if (output.is_none() || self.has_doubles)
            && let Some(id) = event.some_text("item_id")
            && let Some(at) = self.position(|item| fits(item) && item.id.as_ref() == Some(&id))
        {
            return Ok(at);
        }
        let found = match output {
            Some(_) => self.position(|item| fits(item) && item.output == output),
            None => self.position(fits),
        };
        match found {
            Some(at) => Ok(at),
            None => self.push(kind, output, event.some_text("item_id")),
        }
    }

    /// The last such item.
    fn position(&self, is_it: impl Fn(&Item) -> bool) -> Option<usize> {
        self.items.iter().rposition(is_it)
    }

    fn push(&mut self, kind: ItemKind, output: Option<u64>, id: Option<Text<'_>>) -> Result<usize> {
        if self.items.len() >= caps::CALLS_MAX {
            return Err(InvalidField::new("output", "has too many items"));
        }
        let is_double = |item: &Item| item.output.is_some() && item.output == output;
        self.has_doubles |= self.items.iter().any(is_double);
        self.items.push(Item {
            kind,
            output,
            id: id.map(Text::into_owned),
            parts: Vec::new(),
            call: Call::default(),
            is_signed: false,
        });
        Ok(self.items.len() - 1)
    }

    /// Reads a delta of a text.
    pub(super) fn delta(
        &mut self,
        event: &mut Object<'_, '_>,
        kind: PartRole,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let Some(text) = event.some_text("delta") else {
            return Ok(());
        };
        let at = self.of_event(event, kind.item())?;
        let number = event.count(kind.number())?.unwrap_or(0);
        self.part_mut(at, kind, number).given.add(&text);
        self.say(at, kind, number, text, sink);
        Ok(())
    }

    /// Reads a whole text.
    pub(super) fn part(
        &mut self,
        event: &mut Object<'_, '_>,
        kind: PartRole,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let key = if kind == PartRole::Refusal {
            "refusal"
        } else {
            "text"
        };
        let Some(text) = event.some_text(key) else {
            return Ok(());
        };
        let at = self.of_event(event, kind.item())?;
        let number = event.count(kind.number())?.unwrap_or(0);
        self.fill(at, kind, number, &text, sink);
        Ok(())
    }

    /// Reads an event with a whole part.
    pub(super) fn part_done(
        &mut self,
        event: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let Some(raw) = event.take("part").filter(|raw| raw.starts_with('{')) else {
            return Ok(());
        };
        let mut part = Object::read(raw, Path::ROOT)?;
        let Some((kind, text)) = read_part(&mut part) else {
            return Ok(());
        };
        let at = self.of_event(event, kind.item())?;
        let number = event.count(kind.number())?.unwrap_or(0);
        self.fill(at, kind, number, &text, sink);
        Ok(())
    }

    fn part_mut(&mut self, at: usize, kind: PartRole, number: u64) -> &mut TextPart {
        let parts = &mut self.items[at].parts;
        let is_it = |part: &TextPart| part.kind == kind && part.number == number;
        let found = parts.iter().rposition(is_it);
        let place = found.unwrap_or_else(|| {
            parts.push(TextPart {
                kind,
                number,
                given: Given::default(),
                begins: None,
                annotations: 0,
            });
            parts.len() - 1
        });
        &mut parts[place]
    }

    /// Says what of a whole text was not said.
    fn fill(
        &mut self,
        at: usize,
        kind: PartRole,
        number: u64,
        whole: &Text<'_>,
        sink: &mut EventSink<'_>,
    ) {
        let given = &mut self.part_mut(at, kind, number).given;
        let rest = given.rest_of(whole);
        if !rest.is_empty() {
            given.add(&rest);
            self.say(at, kind, number, rest, sink);
        }
    }

    fn say(
        &mut self,
        at: usize,
        kind: PartRole,
        number: u64,
        text: Text<'_>,
        sink: &mut EventSink<'_>,
    ) {
        match kind {
            PartRole::Text => {
                let before = self.message.replace(at);
                if before.is_some_and(|before| before != at) {
                    self.text_chars += PARAGRAPH.char_count();
                    sink(AnswerEvent::Text(PARAGRAPH));
                }
                let begins = self.text_chars;
                self.text_chars += text.char_count();
                let part = self.part_mut(at, kind, number);
                part.begins.get_or_insert(begins);
            }
            PartRole::Refusal => {}
            PartRole::Summary | PartRole::Reasoning => {
                let before = self.reasoning.replace((at, kind, number));
                if before.is_some_and(|before| before.0 == at && before != (at, kind, number)) {
                    sink(AnswerEvent::Reasoning(PARAGRAPH));
                }
            }
        }
        sink(kind.event(text));
    }

    /// Reads an annotation. `number` is its place among those of its part.
    fn annotate(
        &mut self,
        (at, part, number): (usize, u64, u64),
        mut annotation: Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) {
        let part = self.part_mut(at, PartRole::Text, part);
        if number < part.annotations {
            return;
        }
        part.annotations = number + 1;
        let begins = part.begins.unwrap_or(0);
        let span = |start: u64, end: u64| {
            CitedText::Span(begins.saturating_add(start), begins.saturating_add(end))
        };
        let is_url = annotation.is_kind("url_citation");
        let citation = Citation::read_openai(&mut annotation, span).filter(|_| is_url);
        sink(citation.map_or(AnswerEvent::Lost("annotations"), AnswerEvent::Citation));
    }

    /// Reads an event with an annotation.
    pub(super) fn annotation(
        &mut self,
        event: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let Some(raw) = event.take("annotation").filter(|raw| raw.starts_with('{')) else {
            return Ok(());
        };
        let at = self.of_event(event, ItemKind::Message)?;
        let part = event.count("content_index")?.unwrap_or(0);
        let next = self.part_mut(at, PartRole::Text, part).annotations;
        let number = event.count("annotation_index")?.unwrap_or(next);
        let annotation = Object::read(raw, Path::ROOT)?;
        self.annotate((at, part, number.min(next)), annotation, sink);
        Ok(())
    }

    /// Reads a piece of a call's arguments.
    pub(super) fn call_delta(
        &mut self,
        event: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let Some(part) = event.some_text("delta") else {
            return Ok(());
        };
        let at = self.of_event(event, ItemKind::Call)?;
        self.add_arguments(at, part, sink);
        Ok(())
    }

    fn add_arguments(&mut self, at: usize, part: Text<'_>, sink: &mut EventSink<'_>) {
        let call = &mut self.items[at].call;
        call.given.add(&part);
        match call.index {
            Some(_) if call.is_over => {}
            Some(index) => sink(AnswerEvent::Arguments { index, part }),
            None => {
                self.held_bytes += part.len();
                call.held.push(&part);
            }
        }
    }

    /// Reads a call's whole arguments.
    pub(super) fn call_done(
        &mut self,
        event: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let at = self.of_event(event, ItemKind::Call)?;
        self.read_call(at, event, sink);
        let call = &self.items[at].call;
        if !call.given.is_nothing() && call.index.is_some() {
            self.end_call(at, sink)?;
        }
        Ok(())
    }

    /// Reads what an item or an event says of a call, with whole arguments.
    fn read_call(&mut self, at: usize, from: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
        self.read_names(at, from, sink);
        let key = match self.items[at].kind {
            ItemKind::FreeTextCall => "input",
            _ => "arguments",
        };
        if let Some(whole) = from.some_text(key) {
            let rest = self.items[at].call.given.rest_of(&whole);
            if !rest.is_empty() {
                self.add_arguments(at, rest, sink);
            }
        }
    }

    /// Reads a call's id and name. One that takes JSON begins as soon as it has both.
    fn read_names(&mut self, at: usize, from: &mut Object<'_, '_>, sink: &mut EventSink<'_>) {
        let call = &mut self.items[at].call;
        if call.id.is_none() {
            call.id = from.some_text("call_id").map(Text::into_owned);
        }
        if call.name.is_empty() {
            call.name = from.some_text("name").unwrap_or_default().into_owned();
        }
        if call.id.is_some() && !call.name.is_empty() {
            self.begin_call(at, sink);
        }
    }

    fn begin_call(&mut self, at: usize, sink: &mut EventSink<'_>) {
        let item = &mut self.items[at];
        if item.kind == ItemKind::FreeTextCall || item.call.index.is_some() {
            return;
        }
        let index = self.calls;
        self.calls += 1;
        let call = &mut item.call;
        call.index = Some(index);
        let (id, name) = (call.id.clone(), Some(call.name.clone()));
        sink(AnswerEvent::ToolUse(ToolUse::new(index, id, name)));
        let part = std::mem::take(&mut call.held);
        self.held_bytes = self.held_bytes.saturating_sub(part.len());
        if !part.is_empty() {
            sink(AnswerEvent::Arguments { index, part });
        }
    }

    /// Ends a call, whose arguments are whole.
    fn end_call(&mut self, at: usize, sink: &mut EventSink<'_>) -> Result<()> {
        if self.items[at].call.is_over {
            return Ok(());
        }
        let initial = std::mem::take(&mut self.items[at].call.initial);
        if self.items[at].call.given.is_nothing() && !initial.is_empty() {
            self.add_arguments(at, initial, sink);
        }
        let call = &self.items[at].call;
        if call.name.is_empty() {
            let reason = "is missing: a call has arguments and no name";
            let missing = InvalidField::new("output[].name", reason);
            return if call.given.is_nothing() {
                Ok(())
            } else {
                Err(missing)
            };
        }
        self.begin_call(at, sink);
        let call = &mut self.items[at].call;
        call.is_over = true;
        match call.index {
            Some(index) => sink(AnswerEvent::CallEnd { index }),
            None => {
                let arguments = std::mem::take(&mut call.held);
                self.held_bytes = self.held_bytes.saturating_sub(arguments.len());
                let index = self.calls;
                self.calls += 1;
                sink(AnswerEvent::ToolUse(ToolUse {
                    arguments,
                    is_free_text: true,
                    ..ToolUse::new(index, call.id.clone(), Some(call.name.clone()))
                }));
            }
        }
        Ok(())
    }

    /// Reads an item that begins.
    pub(super) fn added(
        &mut self,
        event: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let output = event.count("output_index")?;
        let mut item = event.object_or_empty("item")?;
        let kind = ItemKind::of(&mut item);
        if kind == ItemKind::Other {
            return Ok(());
        }
        let id = item.some_text("id");
        let is_it = |known: &Item| {
            let same_id = known.id.is_none() || id.is_none() || known.id == id;
            known.kind.fits(kind) && known.output == output && same_id
        };
        let at = match self.position(is_it) {
            Some(at) => at,
            None => self.push(kind, output, id)?,
        };
        self.items[at].kind = kind;
        if matches!(kind, ItemKind::Call | ItemKind::FreeTextCall) {
            self.read_names(at, &mut item, sink);
            let initial = item.some_text("arguments").unwrap_or_default();
            self.held_bytes += initial.len();
            self.items[at].call.initial = initial.into_owned();
        }
        Ok(())
    }

    /// Reads an item that is whole.
    pub(super) fn done(
        &mut self,
        event: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let Some(raw) = event.take("item").filter(|raw| raw.starts_with('{')) else {
            return Ok(());
        };
        let mut item = Object::read(raw, Path::ROOT)?;
        let kind = ItemKind::of(&mut item);
        if kind == ItemKind::Other {
            sink(AnswerEvent::Lost(lost_item(&mut item)));
            return Ok(());
        }
        let output = event.count("output_index")?;
        let id = item.some_text("id");
        let fits = |known: &Item| known.kind.fits(kind);
        let same_id = |known: &Item| fits(known) && known.id.is_some() && known.id == id;
        let by_id = match output {
            Some(_) if !self.has_doubles => None,
            _ => self.position(same_id),
        };
        let by_output = || self.position(|known| fits(known) && known.output == output);
        let at = match by_id.or_else(by_output) {
            Some(at) => at,
            None => self.push(kind, output, id)?,
        };
        self.read_whole(at, kind, item, sink)
    }

    fn read_whole(
        &mut self,
        at: usize,
        kind: ItemKind,
        mut item: Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        match kind {
            ItemKind::Message | ItemKind::Reasoning => {
                for list in ["summary", "content"] {
                    self.read_parts(at, list, &mut item, sink)?;
                }
                if kind == ItemKind::Reasoning && !self.items[at].is_signed {
                    self.items[at].is_signed = read_signature(&mut item, sink);
                }
                Ok(())
            }
            ItemKind::Call | ItemKind::FreeTextCall => {
                self.items[at].kind = kind;
                self.read_call(at, &mut item, sink);
                self.end_call(at, sink)
            }
            ItemKind::Other => Ok(()),
        }
    }

    fn read_parts(
        &mut self,
        at: usize,
        list: &str,
        item: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let is_reasoning = self.items[at].kind == ItemKind::Reasoning;
        let mut number = 0;
        item.each_object(list, |mut part| {
            if let Some((kind, text)) = read_part(&mut part) {
                let kind = match (list, kind) {
                    ("summary", _) => PartRole::Summary,
                    (_, PartRole::Text) if is_reasoning => PartRole::Reasoning,
                    (_, kind) => kind,
                };
                self.fill(at, kind, number, &text, sink);
                if kind == PartRole::Text && part.starts_with("annotations", '[') {
                    let mut of_part = 0;
                    part.each_object("annotations", |annotation| {
                        self.annotate((at, number, of_part), annotation, sink);
                        of_part += 1;
                        Ok(())
                    })?;
                }
            }
            number += 1;
            Ok(())
        })
    }

    /// Reads the items of the finished response, and ends the calls.
    pub(super) fn end(
        &mut self,
        response: &mut Object<'_, '_>,
        sink: &mut EventSink<'_>,
    ) -> Result<()> {
        let mut whole = Vec::new();
        response.each_object("output", |mut item| {
            whole.push((
                ItemKind::of(&mut item),
                item.some_text("id"),
                item.some_text("call_id"),
            ));
            Ok(())
        })?;
        let mut known = self.aligned(&whole).into_iter();
        response.each_object("output", |mut item| {
            let kind = ItemKind::of(&mut item);
            let at = match known.next().flatten() {
                _ if kind == ItemKind::Other => {
                    sink(AnswerEvent::Lost(lost_item(&mut item)));
                    return Ok(());
                }
                Some(at) => at,
                None => self.push(kind, None, item.some_text("id"))?,
            };
            self.read_whole(at, kind, item, sink)
        })?;
        for at in 0..self.items.len() {
            if matches!(self.items[at].kind, ItemKind::Call | ItemKind::FreeTextCall) {
                self.end_call(at, sink)?;
            }
        }
        Ok(())
    }

    /// The known item of each of the finished response's: the one with its id, or else the next of its
    /// kind. Some servers leave items out there, or give them other ids.
    fn aligned(
        &self,
        whole: &[(ItemKind, Option<Text<'_>>, Option<Text<'_>>)],
    ) -> Vec<Option<usize>> {
        let mut is_free = vec![true; self.items.len()];
        let mut find = |is_it: &dyn Fn(&Item) -> bool| {
            let mut items = self.items.iter().enumerate();
            let (at, _) = items.find(|(at, item)| is_free[*at] && is_it(item))?;
            is_free[at] = false;
            Some(at)
        };
        let mut found: Vec<_> = whole
            .iter()
            .map(|(kind, id, call_id)| {
                find(&|item| {
                    let same_id = item.id.is_some() && item.id == *id;
                    let same_call = item.call.id.is_some() && item.call.id == *call_id;
                    item.kind.fits(*kind) && (same_id || same_call)
                })
            })
            .collect();
        for (found, (kind, ..)) in found.iter_mut().zip(whole) {
            if found.is_none() {
                *found = find(&|item| item.kind.fits(*kind));
            }
        }
        found
    }
}

/// The name of an item that other dialects have no place for.
fn lost_item(item: &mut Object<'_, '_>) -> &'static str {
    let kind = item.lenient_text("type").unwrap_or_default();
    let known = ITEMS_OF_TOOLS.iter().find(|known| kind.is(known));
    known.copied().unwrap_or("output")
}

/// Calls of OpenAI's own tools, and what else a response may hold.
const ITEMS_OF_TOOLS: &[&str] = &[
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "computer_call",
    "local_shell_call",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "mcp_call",
    "mcp_list_tools",
    "mcp_approval_request",
    "tool_search_call",
    "tool_search_output",
    "compaction",
];

/// A part's text and what it is.
fn read_part<'a>(part: &mut Object<'a, '_>) -> Option<(PartRole, Text<'a>)> {
    if let Some(text) = part.some_text("refusal") {
        return Some((PartRole::Refusal, text));
    }
    let kind = part.lenient_text("type").unwrap_or_default();
    let kind = match kind.as_escaped() {
        "summary_text" => PartRole::Summary,
        "reasoning_text" => PartRole::Reasoning,
        _ => PartRole::Text,
    };
    Some((kind, part.some_text("text")?))
}

/// The item's id and its encrypted content, with a colon between them. Returns whether there is one.
fn read_signature(item: &mut Object<'_, '_>, sink: &mut EventSink<'_>) -> bool {
    let Some(encrypted) = item.lenient_text("encrypted_content") else {
        return false;
    };
    let mut value = item.lenient_text("id").unwrap_or_default();
    value.push(&Text::escaped(":"));
    value.push(&encrypted);
    let signature = ReasoningSignature::encrypted(SignatureOrigin::OpenAiResponses, value);
    emit(sink, Some(AnswerEvent::Signature(signature)));
    true
}
