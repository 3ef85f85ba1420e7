//! Reasoning of another provider in a request that passes unchanged.
//!
//! A conversation may move from one provider to another: an alias changes, or a target fails. A
//! provider that checks signatures would refuse reasoning that the gateway marked as another
//! provider's (see [`ReasoningSignature`](crate::neutral::ReasoningSignature)), so it is removed. A
//! provider's own reasoning is not marked and stays.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::{self, Object, Path, each};
use crate::neutral::{CITATION_MARK, SIGNATURE_MARK};
use crate::splice::{Edit, remove};

/// The edits that remove marked reasoning from a messages request.
pub(crate) fn edits_of_messages(body: &str) -> json::Result<Vec<Edit>> {
    if !has_mark(body) {
        return Ok(Vec::new());
    }
    let mut edits = Vec::new();
    let mut object = Object::read(body.trim_ascii(), Path::ROOT)?;
    object.each_object("messages", |mut message| {
        if let Some(raw) = message.take("content").filter(|raw| raw.starts_with('[')) {
            edits.extend(edits_of_list(body, raw, &message.path().key("content"))?);
        }
        Ok(())
    })?;
    Ok(edits)
}

/// The edits that remove marked reasoning from a responses request.
pub(crate) fn edits_of_responses(body: &str) -> json::Result<Vec<Edit>> {
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

fn edits_of_list(body: &str, raw: &str, path: &Path<'_>) -> json::Result<Vec<Edit>> {
    let (mut elements, mut marked) = (Vec::new(), Vec::new());
    let mut citations = Vec::new();
    each(raw, path, |raw, path| {
        elements.push(json::span_in(body, raw));
        if raw.starts_with('{') {
            citations.extend(edits_of_citations(body, Object::read(raw, *path)?)?);
        }
        marked.push(raw.starts_with('{') && is_marked(Object::read(raw, *path)?));
        Ok(())
    })?;
    // Without the marked blocks the turn would be empty, which providers refuse too: leave it as it
    // is.
    if marked.iter().all(|marked| *marked) {
        return Ok(Vec::new());
    }
    let mut edits = remove(&elements, &marked);
    edits.extend(citations);
    Ok(edits)
}

/// Citations of another provider have no index that Anthropic knows. Marked reasoning has none.
fn edits_of_citations(body: &str, mut block: Object<'_, '_>) -> json::Result<Vec<Edit>> {
    let raw = block.take("citations");
    let Some(raw) = raw.filter(|raw| raw.starts_with('[')) else {
        return Ok(Vec::new());
    };
    let path = block.path().key("citations");
    let (mut elements, mut marked) = (Vec::new(), Vec::new());
    each(raw, &path, |raw, path| {
        elements.push(json::span_in(body, raw));
        let is_marked = raw.starts_with('{') && {
            let index = Object::read(raw, *path)?.lenient_text("encrypted_index");
            index.is_some_and(|index| index.is(CITATION_MARK))
        };
        marked.push(is_marked);
        Ok(())
    })?;
    Ok(remove(&elements, &marked))
}

fn is_marked(mut block: Object<'_, '_>) -> bool {
    ["signature", "data", "encrypted_content"]
        .into_iter()
        .filter_map(|key| block.lenient_text(key))
        .any(|text| text.as_escaped().starts_with(SIGNATURE_MARK))
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
    fn citations_of_other_providers_are_taken_out_of_messages() {
        let body = r#"{"messages":[{"role":"assistant","content":[{"type":"text","text":"a","citations":[
            {"type":"web_search_result_location","url":"u","encrypted_index":"weir.citation"},
            {"type":"web_search_result_location","url":"v","encrypted_index":"Eo8B"}]},
            {"type":"text","text":"b","citations":[{"encrypted_index":"weir.citation"}]}]}]}"#;
        let expect = r#"{"messages":[{"role":"assistant","content":[{"type":"text","text":"a","citations":[
            {"type":"web_search_result_location","url":"v","encrypted_index":"Eo8B"}]},
            {"type":"text","text":"b","citations":[]}]}]}"#;
        check(edits_of_messages(body).unwrap(), body, expect);
    }

    #[test]
    fn what_is_not_marked_is_not_touched() {
        let body = r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]}]}"#;
        assert_eq!(edits_of_messages(body).unwrap(), []);
    }
}
