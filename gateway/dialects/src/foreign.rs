//! Reasoning of another provider in a request that passes as it is.
//!
//! A conversation may move from one provider to another: an alias changes, or a target fails. What
//! the gateway marked as another's reasoning (see [`Proof`](crate::neutral::Proof)) would be
//! refused by a provider that checks signatures, and is taken out. A provider's own is not marked
//! and stays.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::{self, Invalid, Object, Path, each};
use crate::neutral::PROOF_MARK;
use crate::splice::{Edit, remove};

/// The edits that take marked reasoning out of a messages request.
pub(crate) fn edits_of_messages(body: &str) -> Result<Vec<Edit>, Invalid> {
    if !has_mark(body) {
        return Ok(Vec::new());
    }
    let mut edits = Vec::new();
    let mut object = Object::read(body.trim_ascii(), Path::ROOT)?;
    object.each("messages", |raw, path| {
        let mut message = Object::read(raw, *path)?;
        if let Some(raw) = message.take("content").filter(|raw| raw.starts_with('[')) {
            edits.extend(edits_of_list(body, raw, &message.path().key("content"))?);
        }
        Ok::<_, Invalid>(())
    })?;
    Ok(edits)
}

/// The edits that take marked reasoning out of a responses request.
pub(crate) fn edits_of_responses(body: &str) -> Result<Vec<Edit>, Invalid> {
    if !has_mark(body) {
        return Ok(Vec::new());
    }
    let mut object = Object::read(body.trim_ascii(), Path::ROOT)?;
    match object.take("input").filter(|raw| raw.starts_with('[')) {
        Some(raw) => edits_of_list(body, raw, &Path::ROOT.key("input")),
        None => Ok(Vec::new()),
    }
}

fn has_mark(body: &str) -> bool {
    static MARK: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("\"weir."));
    MARK.find(body.as_bytes()).is_some()
}

struct Element(Range<usize>);

impl AsRef<Range<usize>> for Element {
    fn as_ref(&self) -> &Range<usize> {
        &self.0
    }
}

fn edits_of_list(body: &str, raw: &str, path: &Path<'_>) -> Result<Vec<Edit>, Invalid> {
    let (mut elements, mut marked) = (Vec::new(), Vec::new());
    each(raw, path, |raw, path| {
        elements.push(Element(json::span_in(body, raw)));
        marked.push(raw.starts_with('{') && is_marked(Object::read(raw, *path)?)?);
        Ok::<_, Invalid>(())
    })?;
    // A turn that is nothing else would be empty, which is refused too: then it is left to the
    // provider to say what is wrong.
    if marked.iter().all(|marked| *marked) {
        return Ok(Vec::new());
    }
    Ok(remove(&elements, &marked))
}

fn is_marked(mut block: Object<'_, '_>) -> Result<bool, Invalid> {
    for key in ["signature", "data", "encrypted_content"] {
        if let Some(raw) = block.take(key)
            && raw
                .strip_prefix('"')
                .is_some_and(|text| text.starts_with(PROOF_MARK))
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::splice::splice;

    fn check(edits: Vec<Edit>, body: &str, expect: &str) {
        assert_eq!(
            splice(&Bytes::from(body.to_owned()), edits).to_bytes(),
            expect
        );
    }

    #[test]
    fn marked_blocks_are_taken_out_of_messages() {
        let body = r#"{"messages":[{"role":"assistant","content":[
            {"type":"thinking","thinking":"hm","signature":"weir.unsigned.s."},
            {"type":"thinking","thinking":"own","signature":"EqQB"},
            {"type":"redacted_thinking","data":"weir.gemini.e.x"}, {"type":"text","text":"weir."}]},
            {"role":"user","content":"\"weir."}]}"#;
        let expect = r#"{"messages":[{"role":"assistant","content":[
            {"type":"thinking","thinking":"own","signature":"EqQB"}, {"type":"text","text":"weir."}]},
            {"role":"user","content":"\"weir."}]}"#;
        check(edits_of_messages(body).unwrap(), body, expect);
    }

    #[test]
    fn marked_items_are_taken_out_of_responses() {
        let body = r#"{"input":[{"role":"user","content":"x"},
            {"type":"reasoning","id":"r","summary":[],"encrypted_content":"weir.anthropic.s.y"}]}"#;
        let expect = r#"{"input":[{"role":"user","content":"x"}]}"#;
        check(edits_of_responses(body).unwrap(), body, expect);
    }

    #[test]
    fn what_is_not_marked_is_not_touched() {
        let body = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}"#;
        assert_eq!(edits_of_messages(body).unwrap(), []);
    }
}
