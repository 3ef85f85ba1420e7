//! What is a secret, and taking it out of a text.
//!
//! Each detector is a regular expression of the crate `regex`, which takes time in proportion to the
//! text whatever the expression. One pass over the text says which detectors find anything, and in most
//! texts that is none. Their forms are those that the issuers publish.
//!
//! A text may hold JSON, as the arguments of a tool call do, and that JSON further JSON, so a text is
//! also searched with its escapes resolved, several times over. What is found there is taken out where
//! it comes from.

use std::ops::Range;

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use crate::Found;
use crate::escapes::{data_runs, unescaped};

/// Patterns that may be configured.
const PATTERNS_MAX: usize = 64;
/// Memory that one expression may take when it is compiled.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// How deep escapes may lie in each other.
const ESCAPES_MAX: usize = 4;

/// A pattern of the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What stands in the place of what it finds: `[redacted:NAME]`.
    pub name: String,
    pub regex: String,
}

/// What is looked for only if asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optional {
    /// Addresses of e-mail.
    Emails,
    /// Numbers of payment cards, whose last digit checks the others (Luhn).
    Cards,
}

/// A pattern that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct BadPattern {
    /// Which one, from 0.
    pub index: usize,
    pub reason: String,
}

/// How a match of a detector becomes what is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Take {
    Match,
    /// Its first group.
    Group,
    /// Those of its groups of digits that are numbers of cards.
    Cards,
}

#[derive(Debug)]
struct Detector {
    name: String,
    regex: Regex,
    take: Take,
}

/// Finds secrets and takes them out. Made once, used by all.
#[derive(Debug)]
pub struct Redactor {
    /// Tells which detectors find anything.
    which: RegexSet,
    detectors: Vec<Detector>,
    /// Names of fields whose text is a secret, whatever it looks like.
    secret_name: Regex,
}

/// The names by which secrets are told, wherever they are assigned.
const SECRET_NAMES: &str = "password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|secret[_-]?key|\
                            auth[_-]?token|access[_-]?token|refresh[_-]?token|private[_-]?key|\
                            client[_-]?secret|credentials?";
/// Fields that are secrets by their name alone, where a text that says so means something else.
const SECRET_FIELDS: &str = "authorization|cookie|pwd";

/// Always looked for. Word boundaries are those of ASCII, with which the fast engines can do.
const SECRETS: &[(&str, &str)] = &[
    ("weir_key", r"(?-u:\b)weir_(?:admin_)?[0-9A-Za-z]{16,}"),
    // OpenAI, Anthropic, DeepSeek, Kimi, OpenRouter and many others.
    ("provider_key", r"(?-u:\b)sk-[0-9A-Za-z_-]{16,}"),
    (
        "provider_key",
        r"(?-u:\b)(?:gsk_|xai-|pplx-|hf_|r8_|nvapi-|fw_|tgp_v1_)[0-9A-Za-z_-]{20,}",
    ),
    (
        "aws_key",
        r"(?-u:\b)(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[0-9A-Z]{16}(?-u:\b)",
    ),
    (
        "google_key",
        r"(?-u:\b)(?:AIza[0-9A-Za-z_-]{30,}|ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,})",
    ),
    (
        "github_token",
        r"(?-u:\b)(?:gh[pousr]_[0-9A-Za-z]{30,}|github_pat_[0-9A-Za-z_]{22,}|glpat-[0-9A-Za-z_-]{20,})",
    ),
    (
        "slack_token",
        r"(?-u:\b)xox[abeoprs]-[0-9A-Za-z-]{10,}|hooks\.slack\.com/services/[0-9A-Za-z/]{20,}",
    ),
    (
        "payment_key",
        r"(?-u:\b)(?:[rs]k_(?:live|test)_|whsec_)[0-9A-Za-z]{16,}",
    ),
    (
        "package_token",
        r"(?-u:\b)(?:npm_[0-9A-Za-z]{30,}|pypi-[0-9A-Za-z_-]{30,}|dop_v1_[0-9a-f]{32,}|SG\.[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,})",
    ),
    (
        "jwt",
        r"(?-u:\b)eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}(?:\.[0-9A-Za-z_-]*)?",
    ),
    // One whose end is missing reaches to the end of the text.
    (
        "private_key",
        r"(?s)-----BEGIN [0-9A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [0-9A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\z)",
    ),
];

const BEARER: &str = r"(?i)(?-u:\b)(?:bearer|basic)[ \t]+([0-9A-Za-z._~+/=-]{12,})";
const URL_PASSWORD: &str = r#"(?-u:\b)[A-Za-z][0-9A-Za-z+.-]*://[^\s:@/"']*:([^\s@/"']+)@"#;
const URL_SECRET: &str = r#"(?i)[?&](?:key|token|auth|sig|signature|x-amz-signature|x-amz-security-token|x-goog-signature)=([^&\s"'#<>\\]{8,})"#;
const EMAIL: &str = r"(?-u:\b)[0-9A-Za-z._%+-]+@[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*\.[A-Za-z]{2,}";
const CARD: &str = "[0-9](?:[ -]?[0-9]){12,}";

impl Redactor {
    /// Fails at the first pattern that cannot be used.
    pub fn new(optional: &[Optional], patterns: &[Pattern]) -> Result<Self, BadPattern> {
        let assigned = format!(
            r#"(?i)(?:{SECRET_NAMES})["']?\s*(?:=>|[:=])\s*["']?([^\s"',;&<>\[\\][^\s"',;&<>\\]{{5,}})"#
        );
        let mut forms: Vec<(&str, &str, Take)> = SECRETS
            .iter()
            .map(|(name, form)| (*name, *form, Take::Match))
            .collect();
        forms.push(("bearer_token", BEARER, Take::Group));
        forms.push(("url_password", URL_PASSWORD, Take::Group));
        forms.push(("url_secret", URL_SECRET, Take::Group));
        forms.push(("assigned_secret", &assigned, Take::Group));
        for asked in optional {
            forms.push(match asked {
                Optional::Emails => ("email", EMAIL, Take::Match),
                Optional::Cards => ("card", CARD, Take::Cards),
            });
        }
        let built_in = forms.len();
        let own = patterns
            .iter()
            .map(|pattern| (&*pattern.name, &*pattern.regex, Take::Match));
        forms.extend(own);
        if patterns.len() > PATTERNS_MAX {
            return Err(BadPattern {
                index: PATTERNS_MAX,
                reason: format!("there are more than {PATTERNS_MAX} patterns"),
            });
        }
        let mut detectors = Vec::with_capacity(forms.len());
        for (number, (name, form, take)) in forms.iter().enumerate() {
            let bad = |reason: String| BadPattern {
                index: number.saturating_sub(built_in),
                reason,
            };
            let regex = RegexBuilder::new(form)
                .size_limit(PATTERN_BYTES_MAX)
                .build();
            let regex = regex.map_err(|error| bad(error.to_string()))?;
            if regex.is_match("") {
                return Err(bad(
                    "it finds nothing at all in every text: it matches \"\"".into(),
                ));
            }
            detectors.push(Detector {
                name: (*name).to_owned(),
                regex,
                take: *take,
            });
        }
        let all = RegexSetBuilder::new(forms.iter().map(|(_, form, _)| form))
            .size_limit(PATTERN_BYTES_MAX * (1 + patterns.len()))
            .build();
        let last = patterns.len().saturating_sub(1);
        let bad = |error: regex::Error| BadPattern {
            index: last,
            reason: format!("the patterns are too large together: {error}"),
        };
        let name = Regex::new(&format!(
            "(?i)(?:{SECRET_NAMES}|(?:^|[_.-])(?:{SECRET_FIELDS}))$"
        ));
        Ok(Self {
            which: all.map_err(bad)?,
            detectors,
            secret_name: name.map_err(bad)?,
        })
    }

    /// A text that is no payload, without what the detectors find; `None` if they find nothing.
    #[must_use]
    pub fn clean(&self, text: &str) -> Option<String> {
        self.redact(text, &mut Found::default())
    }

    /// The text of a field without what the detectors find; `None` if they find nothing.
    pub(crate) fn redact_field(
        &self,
        name: Option<&str>,
        text: &str,
        found: &mut Found,
    ) -> Option<String> {
        let is_secret = name.is_some_and(|name| self.secret_name.is_match(name));
        if is_secret && !text.is_empty() {
            found.note("assigned_secret");
            return Some(marker("assigned_secret"));
        }
        self.redact(text, found)
    }

    /// The text without what the detectors find; `None` if they find nothing.
    pub(crate) fn redact(&self, text: &str, found: &mut Found) -> Option<String> {
        let short = without_data(text);
        let text = short.as_deref().unwrap_or(text);
        let mut ranges = Vec::new();
        self.search(text, &|range| range, &mut ranges);
        let mut view = View::default();
        for depth in 0..ESCAPES_MAX {
            let deeper = match depth {
                0 => View::of(text),
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
        found: &mut Found,
    ) -> Option<String> {
        if name.is_some_and(|name| self.secret_name.is_match(name)) {
            found.note("assigned_secret");
            return Some(marker("assigned_secret"));
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
struct View {
    text: String,
    /// Where in the text itself each byte begins, and where the last one ends.
    origins: Vec<usize>,
}

impl View {
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
    found: &mut Found,
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
