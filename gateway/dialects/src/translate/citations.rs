//! Where in the answer's text its citations belong.
//!
//! Providers count from different places, and some name the sources of the whole answer before its first
//! word. Clients get each citation beside the text that it is for.

use crate::caps;
use crate::json::Text;
use crate::neutral::{AnswerEvent, Citation, CitedText};

#[derive(Debug, Default)]
pub(super) struct Citations {
    /// Characters of the answer's text so far.
    chars: u64,
    /// How many of them came before the item that is being written.
    before_item: u64,
    /// Whether text came last.
    is_in_text: bool,
    /// Those of the whole text, until it is whole.
    waiting: Vec<Citation<'static>>,
    /// The addresses that were named.
    named: Vec<Text<'static>>,
}

impl Citations {
    /// Follows what is written.
    pub(super) fn follow(&mut self, event: &AnswerEvent<'_>) {
        match event {
            AnswerEvent::Text(text) => {
                if !std::mem::replace(&mut self.is_in_text, true) {
                    self.before_item = self.chars;
                }
                self.chars += text.char_count();
            }
            AnswerEvent::Refusal(_)
            | AnswerEvent::Reasoning(_)
            | AnswerEvent::Signature(_)
            | AnswerEvent::ToolUse(_) => self.is_in_text = false,
            _ => {}
        }
    }

    pub(super) const fn is_in_text(&self) -> bool {
        self.is_in_text
    }

    pub(super) const fn has_text(&self) -> bool {
        self.chars > 0
    }

    /// The citation with its place in the text; `None` if it waits for the text's end, or is one too
    /// many.
    pub(super) fn place(&mut self, citation: &Citation<'_>) -> Option<Citation<'static>> {
        if self.named.len() + self.waiting.len() >= caps::CITATIONS_MAX {
            return None;
        }
        let mut citation = citation.to_owned();
        let (start, end) = match citation.of {
            CitedText::All => {
                self.waiting.push(citation);
                return None;
            }
            CitedText::Span(start, end) => (start, end),
            CitedText::Last(count) => (self.chars.saturating_sub(count), self.chars),
        };
        citation.of = CitedText::Span(start.min(end), end);
        self.named.push(citation.url.clone());
        Some(citation)
    }

    /// Those that waited, except for sources that were named with a place.
    pub(super) fn rest(&mut self) -> Vec<Citation<'static>> {
        let mut rest = std::mem::take(&mut self.waiting);
        rest.retain(|citation| !self.named.contains(&citation.url));
        for citation in &mut rest {
            citation.of = CitedText::Span(0, self.chars);
        }
        rest
    }

    /// The citation's place within the item that is being written.
    pub(super) fn in_item(&self, mut citation: Citation<'static>) -> Citation<'static> {
        let (start, end) = citation.span();
        let before = self.before_item;
        citation.of = CitedText::Span(start.saturating_sub(before), end.saturating_sub(before));
        citation
    }
}
