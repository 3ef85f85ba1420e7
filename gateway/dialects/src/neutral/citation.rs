//! Sources that an answer names for what it says.

use crate::json::{Object, Text};

/// Marks citations that the gateway translated, in the place of Anthropic's index of a search.
pub(crate) const CITATION_MARK: &str = "weir.citation";

/// A source of a part of the answer's text.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Citation<'a> {
    pub(crate) url: Text<'a>,
    pub(crate) title: Text<'a>,
    /// What the source says.
    pub(crate) quote: Text<'a>,
    pub(crate) of: CitedText,
}

/// The part of the answer's text that a citation is for, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CitedText {
    All,
    /// From and to, counted from the beginning of the text.
    Span(u64, u64),
    /// So many up to here.
    Last(u64),
}

impl<'a> Citation<'a> {
    /// For a source without more than its address.
    pub(crate) fn of_all(url: Text<'a>, title: Option<Text<'a>>) -> Self {
        Self {
            url,
            title: title.unwrap_or_default(),
            quote: Text::EMPTY,
            of: CitedText::All,
        }
    }

    /// OpenAI's `url_citation`, in chat and in responses.
    pub(crate) fn read_openai(
        citation: &mut Object<'a, '_>,
        place: impl FnOnce(u64, u64) -> CitedText,
    ) -> Option<Self> {
        let mut index = |key: &str| citation.count(key).ok().flatten();
        let (start, end) = (index("start_index"), index("end_index"));
        let url = citation.some_text("url")?;
        let of = match (start, end) {
            (Some(start), Some(end)) if end > start => place(start, end),
            _ => CitedText::All,
        };
        Some(Self {
            quote: citation.some_text("content").unwrap_or_default(),
            of,
            ..Self::of_all(url, citation.some_text("title"))
        })
    }

    pub(crate) fn to_owned(&self) -> Citation<'static> {
        Citation {
            url: self.url.clone().into_owned(),
            title: self.title.clone().into_owned(),
            quote: self.quote.clone().into_owned(),
            of: self.of,
        }
    }

    /// From and to, where that is known.
    pub(crate) const fn span(&self) -> (u64, u64) {
        match self.of {
            CitedText::Span(start, end) => (start, end),
            CitedText::All | CitedText::Last(_) => (0, 0),
        }
    }
}
