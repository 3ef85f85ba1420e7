//! Answers that are not conversations, converted as a whole: embeddings and token counts.

use bytes::Bytes;

use crate::facts::{ResponseFacts, StreamError};
use crate::json::{self, Object, Path, Writer};
use crate::response_context::{AnswerIdentity, Conversion};
use crate::{caps, gemini};

/// Collects an answer and converts it.
#[derive(Debug)]
pub(crate) struct Converter {
    conversion: Conversion,
    identity: AnswerIdentity,
    body: Vec<u8>,
}

impl Converter {
    pub(crate) const fn new(conversion: Conversion, identity: AnswerIdentity) -> Self {
        Self {
            conversion,
            identity,
            body: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, input: &[u8]) -> Result<(), StreamError> {
        collect(&mut self.body, input)
    }

    pub(crate) fn finish(&mut self, facts: &mut ResponseFacts) -> Result<Bytes, StreamError> {
        let body = std::mem::take(&mut self.body);
        let text = json::valid(&body).map_err(StreamError::malformed)?;
        let converted = match self.conversion {
            Conversion::Embeddings { base64 } => {
                gemini::read_embeddings(text, &self.identity, base64)
            }
            Conversion::Count => read_count(text),
        };
        let converted = converted.map_err(StreamError::malformed)?;
        facts.first_token_seen = true;
        facts.terminal_seen = true;
        Ok(converted.into())
    }
}

/// Adds a piece to an answer that is translated as a whole.
pub(crate) fn collect(body: &mut Vec<u8>, piece: &[u8]) -> Result<(), StreamError> {
    if body.len() + piece.len() > caps::TRANSLATED_BODY_BYTES_MAX {
        return Err(StreamError::TOO_LARGE);
    }
    body.extend_from_slice(piece);
    Ok(())
}

fn read_count(body: &str) -> json::Result<String> {
    let mut count = Object::read(body, Path::ROOT)?;
    let tokens = count
        .count("totalTokens")?
        .ok_or_else(|| count.missing("totalTokens"))?;
    Ok(Writer::document(32, |w| w.put("input_tokens", tokens)))
}
