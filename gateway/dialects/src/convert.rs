//! Answers that are no conversation, and small enough to be turned at once: embeddings and counts.

use bytes::Bytes;

use crate::answer::Identity;
use crate::json::{Invalid, Object, Path, Writer};
use crate::response::{ResponseFacts, StreamError};
use crate::{caps, gemini};

/// What a provider's answer is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// Gemini's embeddings into OpenAI's.
    Embeddings { base64: bool },
    /// Gemini's count of tokens into Anthropic's.
    Count,
}

/// Collects an answer and turns it.
#[derive(Debug)]
pub(crate) struct Converter {
    conversion: Conversion,
    identity: Identity,
    body: Vec<u8>,
}

impl Converter {
    pub(crate) const fn new(conversion: Conversion, identity: Identity) -> Self {
        Self {
            conversion,
            identity,
            body: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, input: &[u8]) -> Result<(), StreamError> {
        let bytes_max = caps::TRANSLATED_BODY_BYTES_MAX;
        if self.body.len() + input.len() > bytes_max {
            return Err(StreamError::TooLarge { bytes_max });
        }
        self.body.extend_from_slice(input);
        Ok(())
    }

    pub(crate) fn finish(&mut self, facts: &mut ResponseFacts) -> Result<Bytes, StreamError> {
        let body = std::mem::take(&mut self.body);
        let text = crate::translate::valid_json(&body)?;
        let turned = match self.conversion {
            Conversion::Embeddings { base64 } => {
                gemini::read_embeddings(text, &self.identity, base64)
            }
            Conversion::Count => read_count(text),
        };
        let turned = turned.map_err(crate::translate::malformed)?;
        facts.first_token_seen = true;
        facts.terminal_seen = true;
        Ok(turned.into())
    }
}

fn read_count(body: &str) -> Result<String, Invalid> {
    let mut count = Object::read(body, Path::ROOT)?;
    let tokens = count
        .count("totalTokens")?
        .ok_or_else(|| count.missing("totalTokens"))?;
    Ok(Writer::document(32, |w| w.put_u64("input_tokens", tokens)))
}
