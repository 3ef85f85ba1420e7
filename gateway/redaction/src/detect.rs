//! Finding secrets in a text and taking them out.
//!
//! Each detector is a regular expression of the crate `regex`, whose time is linear in the text for
//! every expression. One pass over the text says which detectors find anything; in most texts none does.
//!
//! A text may hold JSON, as the arguments of a tool call do, and that JSON further JSON. So a text is
//! also searched with its escapes resolved, several levels deep. What is found there is taken out where
//! it comes from.

use std::ops::Range;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::caps::{ESCAPES_MAX, PATTERN_BYTES_MAX, PATTERNS_MAX};
use crate::escapes::{data_runs, unescaped};
use crate::kept::Redactions;
use crate::patterns::{BuiltIn, CARDS, EMAILS, SECRET_FIELD, SECRETS, Take};

/// A pattern that is taken out of payloads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CustomPattern {
    /// What stands in the place of what it finds: `[redacted:NAME]`.
    pub name: String,
    /// Regular expression, in the syntax of the crate `regex`.
    pub regex: String,
}

/// What is taken out of payloads if asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OptionalDetector {
    /// Addresses of e-mail.
    Emails,
    /// Numbers of payment cards.
    Cards,
}

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadPattern {
    /// Which of the operator's patterns, from 0. `None` for all of them together, or a built-in.
    pub index: Option<usize>,
    pub reason: String,
}

#[derive(Debug)]
struct Detector {
    name: String,
    regex: Regex,
    take: Take,
}

/// Finds secrets and takes them out. Built once and shared.
#[derive(Debug)]
pub struct Redactor {
    /// Tells which detectors find anything.
    which: RegexSet,
    detectors: Vec<Detector>,
    /// Names of fields whose text is a secret, whatever it looks like.
    secret_field: Regex,
}

impl Redactor {
    /// Fails at the first pattern that cannot be used.
    pub fn new(
        optional: &[OptionalDetector],
        patterns: &[CustomPattern],
    ) -> Result<Self, BadPattern> {
        let bad = |index, reason| BadPattern { index, reason };
        if patterns.len() > PATTERNS_MAX {
            let reason = format!("there are more than {PATTERNS_MAX} patterns");
            return Err(bad(Some(PATTERNS_MAX), reason));
        }
        let optional = optional.iter().map(|asked| match asked {
            OptionalDetector::Emails => &EMAILS,
            OptionalDetector::Cards => &CARDS,
        });
        let mut detectors = Vec::with_capacity(SECRETS.len() + optional.len() + patterns.len());
        for BuiltIn { name, regex, take } in SECRETS.iter().chain(optional) {
            let detector = Detector::new(name, regex, *take);
            detectors
                .push(detector.map_err(|error| bad(None, format!("built-in {name}: {error}")))?);
        }
        for (index, CustomPattern { name, regex }) in patterns.iter().enumerate() {
            let detector = Detector::new(name, regex, Take::Match);
            detectors.push(detector.map_err(|reason| bad(Some(index), reason))?);
        }
        let regexes = detectors.iter().map(|detector| detector.regex.as_str());
        let which = RegexSetBuilder::new(regexes)
            .size_limit(PATTERN_BYTES_MAX * (1 + patterns.len()))
            .build()
            .map_err(|error| format!("the patterns are too large together: {error}"))
            .map_err(|reason| bad(None, reason))?;
        let secret_field = Regex::new(SECRET_FIELD);
        Ok(Self {
            which,
            detectors,
            secret_field: secret_field.map_err(|error| bad(None, error.to_string()))?,
        })
    }

    /// A text that is no payload, without what the detectors find; `None` if they find nothing.
    #[must_use]
    pub fn clean(&self, text: &str) -> Option<String> {
        self.redact(text, &mut Redactions::default())
    }

    /// The text of a field without what the detectors find; `None` if they find nothing.
    pub(crate) fn redact_field(
        &self,
        name: Option<&str>,
        text: &str,
        found: &mut Redactions,
    ) -> Option<String> {
        if !text.is_empty() && self.is_secret(name) {
            return Some(assigned_secret(found));
        }
        self.redact(text, found)
    }

    fn is_secret(&self, name: Option<&str>) -> bool {
        name.is_some_and(|name| self.secret_field.is_match(name))
    }

    /// The text without what the detectors find; `None` if they find nothing.
    pub(crate) fn redact(&self, text: &str, found: &mut Redactions) -> Option<String> {
        let short = without_data(text);
        let text = short.as_deref().unwrap_or(text);
        let mut ranges = Vec::new();
        self.search(text, &|range| range, &mut ranges);
        let mut view = Unescaped::default();
        for depth in 0..ESCAPES_MAX {
            let deeper = match depth {
                0 => Unescaped::of(text),
                _ => view.deeper(),
            };
            let Some(deeper) = deeper else { break };
            view = deeper;
            self.search(&view.text, &|range| view.place(range), &mut ranges);
        }
        replaced(text, ranges, found).or(short)
    }

    /// A field's number, if it is one that must not be kept.
    pub(crate) fn redact_number(
        &self,
        name: Option<&str>,
        digits: &str,
        found: &mut Redactions,
    ) -> Option<String> {
        if self.is_secret(name) {
            return Some(assigned_secret(found));
        }
        // What is shorter is a parameter or a size.
        const DIGITS_MIN: usize = 6;
        let is_long = digits.len() >= DIGITS_MIN;
        is_long.then(|| self.redact(digits, found))?
    }

    /// Whether any detector finds anything.
    pub(crate) fn finds(&self, text: &str) -> bool {
        self.clean(text).is_some()
    }

    /// Adds what the detectors find in a view of a text, at its places in the text.
    fn search<'a>(
        &'a self,
        view: &str,
        place: &dyn Fn(Range<usize>) -> Range<usize>,
        ranges: &mut Vec<(Range<usize>, &'a str)>,
    ) {
        let known = ranges.len();
        for at in self.which.matches(view) {
            self.detectors[at].collect(view, ranges);
        }
        for (range, _) in &mut ranges[known..] {
            *range = place(range.clone());
        }
    }
}

/// A text with its escapes resolved, and where each byte of that comes from.
#[derive(Debug, Default)]
struct Unescaped {
    text: String,
    /// Where in the text itself each byte begins, and where the last one ends.
    origins: Vec<usize>,
}

impl Unescaped {
    /// `None` if there is nothing to resolve.
    fn of(text: &str) -> Option<Self> {
        let (text, origins) = unescaped(text)?;
        Some(Self { text, origins })
    }

    fn deeper(&self) -> Option<Self> {
        let (text, origins) = unescaped(&self.text)?;
        let origins = origins.into_iter().map(|at| self.origins[at]).collect();
        Some(Self { text, origins })
    }

    fn place(&self, range: Range<usize>) -> Range<usize> {
        self.origins[range.start]..self.origins[range.end]
    }
}

/// The text with a marker in the place of each range; `None` without ranges.
fn replaced(
    text: &str,
    mut ranges: Vec<(Range<usize>, &str)>,
    found: &mut Redactions,
) -> Option<String> {
    if ranges.is_empty() {
        return None;
    }
    ranges.sort_by_key(|(range, _)| (range.start, usize::MAX - range.end));
    let mut out = String::with_capacity(text.len());
    let mut end = 0;
    for (range, name) in ranges {
        if range.start >= end {
            out.push_str(&text[end..range.start]);
            out.push_str(&marker(name));
            found.note(name);
        }
        // What overlaps goes with what it overlaps.
        end = end.max(range.end);
    }
    out.push_str(&text[end..]);
    Some(out)
}

fn assigned_secret(found: &mut Redactions) -> String {
    found.note("assigned_secret");
    marker("assigned_secret")
}

fn marker(name: &str) -> String {
    format!("[redacted:{name}]")
}

/// The text without runs of data; `None` if it has none.
fn without_data(text: &str) -> Option<String> {
    let runs = data_runs(text);
    let mut out = String::new();
    let mut end = 0;
    for run in &runs {
        out.push_str(&text[end..run.start]);
        out.push_str(&format!("[{} bytes of data]", run.len()));
        end = run.end;
    }
    out.push_str(&text[end..]);
    (!runs.is_empty()).then_some(out)
}

impl Detector {
    fn new(name: &str, regex: &str, take: Take) -> Result<Self, String> {
        let regex = RegexBuilder::new(regex)
            .size_limit(PATTERN_BYTES_MAX)
            .build()
            .map_err(|error| error.to_string())?;
        if regex.is_match("") {
            return Err("it finds nothing at all in every text: it matches \"\"".into());
        }
        let name = name.to_owned();
        Ok(Self { name, regex, take })
    }

    fn collect<'a>(&'a self, text: &str, ranges: &mut Vec<(Range<usize>, &'a str)>) {
        match self.take {
            Take::Match => {
                let matches = self.regex.find_iter(text).map(|it| it.range());
                let matches = matches.filter(|range| !range.is_empty());
                ranges.extend(matches.map(|range| (range, &*self.name)));
            }
            Take::Group => {
                let groups = self.regex.captures_iter(text);
                let groups = groups.filter_map(|groups| Some(groups.get(1)?.range()));
                ranges.extend(groups.map(|range| (range, &*self.name)));
            }
            Take::Cards => {
                for run in self.regex.find_iter(text) {
                    let cards = cards(run.as_str());
                    let at = run.start();
                    let cards = cards.into_iter().map(|it| at + it.start..at + it.end);
                    ranges.extend(cards.map(|range| (range, &*self.name)));
                }
            }
        }
    }
}

/// Numbers of cards in a run of digits with single spaces or hyphens between them. A number begins and
/// ends where a group of digits does.
fn cards(run: &str) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    for (at, byte) in run.bytes().enumerate() {
        if !byte.is_ascii_digit() {
            continue;
        }
        match groups.last_mut() {
            Some(group) if group.end == at => group.end = at + 1,
            _ => groups.push(at..at + 1),
        }
    }
    let mut cards = Vec::new();
    for (first, start) in groups.iter().enumerate() {
        let mut digits = 0;
        for group in &groups[first..] {
            digits += group.len();
            if digits > 19 {
                break;
            }
            let number = &run[start.start..group.end];
            if digits >= 13 && is_card(number) {
                cards.push(start.start..group.end);
            }
        }
    }
    cards
}

/// Whether the last digit checks the others (ISO/IEC 7812-1), and the first is one of a payment card.
fn is_card(number: &str) -> bool {
    let digits = number.bytes().rev().filter(u8::is_ascii_digit);
    let sum: u32 = digits
        .map(|digit| u32::from(digit - b'0'))
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit * 2) {
            (0, _) => digit,
            (_, twice) if twice > 9 => twice - 9,
            (_, twice) => twice,
        })
        .sum();
    sum.is_multiple_of(10) && matches!(number.bytes().next(), Some(b'2'..=b'6'))
}
