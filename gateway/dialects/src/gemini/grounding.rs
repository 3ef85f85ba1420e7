//! The sources that Google names for an answer.
//!
//! ai.google.dev/gemini-api/docs/google-search: chunks are sources, and supports say which part of the
//! text each is for, in bytes.

use crate::json::{self, Object, Path};
use crate::neutral::{AnswerEvent, Citation, CitedText, EventSink};

/// Reads `groundingMetadata`. Its places are of use only where a byte is a character.
pub(super) fn read(raw: &str, is_ascii: bool, sink: &mut EventSink<'_>) -> json::Result<()> {
    if !raw.starts_with('{') {
        return Ok(());
    }
    let mut grounding = Object::read(raw, Path::ROOT)?;
    let mut chunks = Vec::new();
    read_each(&mut grounding, "groundingChunks", |mut chunk| {
        let mut source = None;
        for kind in ["web", "retrievedContext", "maps"] {
            let found = chunk.object(kind, |mut of| {
                Ok((of.some_text("uri"), of.some_text("title")))
            });
            if source.is_none() {
                source = found.ok().flatten();
            }
        }
        chunks.push(source.and_then(|(uri, title)| Some(Citation::of_all(uri?, title))));
    })?;
    if chunks.iter().any(Option::is_none) {
        sink(AnswerEvent::Lost("groundingChunks"));
    }
    read_each(&mut grounding, "groundingSupports", |mut support| {
        let segment = support.object("segment", |mut segment| {
            let start = segment.count("startIndex")?.unwrap_or(0);
            Ok((start, segment.count("endIndex")?))
        });
        let (start, end) = segment.ok().flatten().unwrap_or_default();
        let of = match end {
            Some(end) if is_ascii && end > start => CitedText::Span(start, end),
            _ => CitedText::All,
        };
        let _ = support.each("groundingChunkIndices", |index, _| {
            let source = index
                .parse()
                .ok()
                .and_then(|index: usize| chunks.get(index));
            if let Some(Some(source)) = source {
                sink(AnswerEvent::Citation(Citation {
                    of,
                    ..source.clone()
                }));
            }
            Ok(())
        });
    })?;
    for source in chunks.into_iter().flatten() {
        sink(AnswerEvent::Citation(source));
    }
    // Google asks for it to be shown.
    if grounding.take("searchEntryPoint").is_some() {
        sink(AnswerEvent::Lost("searchEntryPoint"));
    }
    Ok(())
}

fn read_each<'a>(
    object: &mut Object<'a, '_>,
    key: &str,
    mut read: impl FnMut(Object<'a, '_>),
) -> json::Result<()> {
    if !object.starts_with(key, '[') {
        return Ok(());
    }
    object.each_object(key, |item| {
        read(item);
        Ok(())
    })
}
