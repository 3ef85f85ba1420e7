//! What of a provider's words a client may read.
//!
//! A message about the operator's account, key, plan or place is for the operator: it is in the attempt's
//! row. Other messages are quoted, without what identifies the account.

use std::borrow::Cow;
use std::ops::Range;

use super::table::says;

/// Phrases that speak of the operator's account or key, in small letters. They are looked for outside of
/// quotation marks, where names of the client's own stand.
const ABOUT_THE_OPERATOR: &[&str] = &[
    "your organization",
    "this organization",
    "in organization",
    "organization must be",
    "your account",
    "this account",
    "account is not active",
    "account has",
    "your plan",
    "current plan",
    "your subscription",
    "upgrade to",
    "your quota",
    "current quota",
    "allocated quota",
    "quota exceeded",
    "your team",
    "your workspace",
    "your project",
    "your api key",
    "your key",
    "api key provided",
    "api key id",
    "api key not valid",
    "api key expired",
    "invalid api key",
    "invalid x-api-key",
    "incorrect api key",
    "subscription key",
    "credit balance",
    "insufficient balance",
    "insufficient credit",
    "insufficient funds",
    "prepaid credit",
    "purchase credit",
    "more credits",
    "add credit",
    "any credits",
    "available credits",
    "out of credit",
    "enough credits",
    "spend limit",
    "spending limit",
    "usage limits",
    "plans & billing",
    "billing",
    "payment",
    "overdue",
    "recharge",
    "arrears",
    "top up",
    "user location",
    "your country",
    "your region",
    "your location",
    "country, region",
    "ip address",
    "余额",
    "欠费",
];

/// How keys begin.
const KEY_PREFIXES: &[&str] = &[
    "sk-", "sk_", "rk-", "pk-", "gsk_", "xai-", "aiza", "ya29", "eyj", "hf_", "nvapi-", "pplx-",
    "tgp_", "weir_", "akia",
];
/// How words begin that identify an account, if there is a digit among them.
const ID_PREFIXES: &[&str] = &[
    "org-", "org_", "orgid_", "proj_", "proj-", "acct_", "user-", "user_", "key-", "key_",
    "apikey_", "wrkspc_", "team_", "ep-", "xai_", "bearer",
];
const SECRET_CHARS_MIN: usize = 8;
/// Digits in a row that are no count or time: numbers of accounts and projects.
const NUMBER_CHARS_MIN: usize = 12;
/// The largest numbers of common types, which stand in messages as the end of a range.
const NUMBERS_MAX: &[&str] = &[
    "9007199254740991",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
];
/// Parts of tokens that name the operator's project or resource.
const RESOURCES: &[&str] = &[
    "projects/",
    "project_number",
    "subscriptions/",
    ".openai.azure.com",
    ".cognitiveservices.azure.com",
    ".services.ai.azure.com",
];

/// A provider's message as a client may read it; `None` if it is none of the client's business.
pub(super) fn quotable(message: &str) -> Option<Cow<'_, str>> {
    if is_about_operator(message) {
        return None;
    }
    let mut quoted = String::new();
    let mut from = 0;
    for token in tokens(message) {
        if is_secret(&message[token.clone()]) {
            quoted.push_str(&message[from..token.start]);
            quoted.push_str("[redacted]");
            from = token.end;
        }
    }
    if from == 0 {
        return Some(message.into());
    }
    quoted.push_str(&message[from..]);
    Some(quoted.into())
}

/// Whether a whole body can be passed on as it is.
pub(crate) fn is_clean(body: &[u8]) -> bool {
    str::from_utf8(body).is_ok_and(|body| {
        // Between the braces everything is quoted.
        !speaks_of_operator(&body.to_lowercase())
            && !tokens(body).any(|token| is_secret(&body[token]))
    })
}

fn is_about_operator(message: &str) -> bool {
    speaks_of_operator(&without_quotations(&message.to_lowercase()))
}

fn speaks_of_operator(text: &str) -> bool {
    let mut phrases = ABOUT_THE_OPERATOR.iter();
    phrases.any(|phrase| says(text, phrase))
}

/// Leaves out what stands between two of the same quotation marks. An apostrophe begins no quotation.
fn without_quotations(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(at) = rest.find(['\'', '"', '`']) {
        let (before, quoted) = rest.split_at(at);
        let mark = &quoted[..1];
        let is_apostrophe = before.ends_with(char::is_alphanumeric);
        kept.push_str(before);
        rest = &quoted[1..];
        if let Some(end) = rest.find(mark).filter(|_| !is_apostrophe) {
            rest = &rest[end + 1..];
        }
    }
    kept.push_str(rest);
    kept
}

/// Runs of characters without spaces and quotation marks.
fn tokens(text: &str) -> impl Iterator<Item = Range<usize>> {
    let is_edge = |c: char| {
        c.is_whitespace()
            || matches!(
                c,
                '"' | '\'' | '`' | ',' | ';' | '(' | ')' | '<' | '>' | '\\'
            )
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + text[at..].find(|c| !is_edge(c))?;
        let end = text[start..]
            .find(is_edge)
            .map_or(text.len(), |len| start + len);
        at = end;
        Some(start..end)
    })
}

fn is_secret(token: &str) -> bool {
    let small = token.trim_end_matches(['.', ':', '!', '?']).to_lowercase();
    if RESOURCES.iter().any(|part| small.contains(part)) {
        return true;
    }
    if small.contains("://") {
        return names_account_page(&small);
    }
    // A secret may follow a name: `key=sk-…`, `org:org-…`, `projects/123…`.
    let mut parts = small.split(['=', '/', '|', '[', ']', '{', '}', ':', '.']);
    let is_mail = small.contains('@') && small.split('@').nth(1).is_some_and(|d| d.contains('.'));
    is_mail || small.starts_with("arn:") || parts.any(is_secret_part)
}

fn is_secret_part(part: &str) -> bool {
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| part.starts_with(prefix));
    let is_long = part.len() >= SECRET_CHARS_MIN;
    let has_digit = part.bytes().any(|b| b.is_ascii_digit() || b == b'*');
    let is_id = begins(KEY_PREFIXES) || begins(ID_PREFIXES) && has_digit;
    (is_long && is_id) || is_number(part) || is_uuid(part)
}

fn names_account_page(url: &str) -> bool {
    const PAGES: &[&str] = &[
        "billing",
        "account",
        "settings",
        "console",
        "limits",
        "plans",
        "keys",
        "organization",
        "dashboard",
        "credits",
        "top_up",
        "topup",
        "upgrade",
        "portal",
        "/team/",
        "project=",
    ];
    PAGES.iter().any(|page| url.contains(page))
}

fn is_number(part: &str) -> bool {
    part.len() >= NUMBER_CHARS_MIN
        && part.bytes().all(|byte| byte.is_ascii_digit())
        && !NUMBERS_MAX.contains(&part)
}

fn is_uuid(part: &str) -> bool {
    let mut groups = part.split('-').map(str::len);
    part.len() == 36
        && [8, 4, 4, 4, 12]
            .into_iter()
            .all(|len| groups.next() == Some(len))
        && part.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}
