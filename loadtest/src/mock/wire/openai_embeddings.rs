//! `POST /v1/embeddings`, as numbers or, as the official SDKs ask, in base64.
//!
//! A vector is made from a hash of its input: equal inputs have equal vectors, and every vector has length 1.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Embedding, MockAnswer, MockRequest, Overrides, RequestHead, Trouble, Wire};
use super::{invalid, quoted, required};
use crate::chance;
use crate::mock::text::{self, PromptBytes};

#[derive(Debug)]
pub(super) struct OpenAiEmbeddings;

#[derive(Deserialize)]
struct EmbeddingsRequest<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    encoding_format: Option<Cow<'a, str>>,
    dimensions: Option<u32>,
    metadata: Option<Overrides>,
}

const DIMENSIONS_DEFAULT: u32 = 1536;
const DIMENSIONS_MAX: u32 = 3072;
/// OpenAI's own bound on inputs per call.
const INPUTS_MAX: usize = 2048;

impl Wire for OpenAiEmbeddings {
    fn read(&self, _called: &RequestHead<'_>, body: &[u8]) -> Result<MockRequest, Trouble> {
        let request: EmbeddingsRequest<'_> = serde_json::from_slice(body)?;
        let model = required(request.model, "model")?;
        let input = required(request.input, "input")?;
        let base64 = match request.encoding_format.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(other) => {
                let problem = format!("{other:?} is neither 'float' nor 'base64'");
                return Err(invalid("encoding_format", problem));
            }
        };
        let dimensions = request.dimensions.unwrap_or(DIMENSIONS_DEFAULT);
        if !(1..=DIMENSIONS_MAX).contains(&dimensions) {
            let problem = format!("{dimensions} is not in 1..={DIMENSIONS_MAX}");
            return Err(invalid("dimensions", problem));
        }
        let prompt: PromptBytes = serde_json::from_str(input.get())?;
        Ok(MockRequest {
            model: model.into_owned(),
            input_tokens: text::input_tokens_of_text(prompt.0),
            choices: 1,
            embedding: Some(Embedding {
                inputs: inputs(input.get())?,
                dimensions,
                base64,
            }),
            overrides: request.metadata.unwrap_or_default(),
            ..MockRequest::default()
        })
    }

    fn whole(&self, answer: &MockAnswer, out: &mut Vec<u8>) {
        let all: Vec<_> = vectors(answer)
            .enumerate()
            .map(|(index, vector)| {
                format!(r#"{{"object":"embedding","index":{index},"embedding":{vector}}}"#)
            })
            .collect();
        let (all, model) = (all.join(","), quoted(&answer.asked.model));
        let input = answer.usage.input;
        let _ = write!(
            out,
            r#"{{"object":"list","data":[{all}],"model":{model},"usage":{{"prompt_tokens":{input},"total_tokens":{input}}}}}"#
        );
    }
}

/// The vectors of an answer, as JSON.
pub(super) fn vectors(answer: &MockAnswer) -> impl Iterator<Item = String> {
    let embedding = answer.asked.embedding.iter();
    embedding.flat_map(|embedding| embedding.inputs.iter().map(|hash| vector(*hash, embedding)))
}

/// One hash per input. An array of numbers is one input.
fn inputs(json: &str) -> Result<Vec<u64>, Trouble> {
    let json = json.trim();
    if json.starts_with('"') {
        return Ok(vec![hash(json)]);
    }
    if !json.starts_with('[') {
        return Err(invalid("input", "it is neither a string nor an array"));
    }
    let items: Vec<&RawValue> = serde_json::from_str(json)?;
    match items.first() {
        None => Err(invalid("input", "the array is empty")),
        Some(first) if first.get().starts_with(['"', '[']) => {
            if items.len() > INPUTS_MAX {
                return Err(invalid("input", "more than 2048 inputs"));
            }
            Ok(items.iter().map(|item| hash(item.get())).collect())
        }
        Some(_) => Ok(vec![hash(json)]),
    }
}

/// FNV-1a, 64 bits.
pub(super) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn vector(hash: u64, embedding: &Embedding) -> String {
    let raw: Vec<f64> = (0..u64::from(embedding.dimensions))
        .map(|at| chance::unit(hash, at) - 0.5)
        .collect();
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt();
    #[expect(
        clippy::cast_possible_truncation,
        reason = "embeddings are 32-bit floats on the wire"
    )]
    let numbers = raw
        .iter()
        .map(|x| (x / length.max(f64::MIN_POSITIVE)) as f32);
    if embedding.base64 {
        let bytes: Vec<u8> = numbers.flat_map(f32::to_le_bytes).collect();
        return format!("\"{}\"", STANDARD.encode(bytes));
    }
    let mut out = "[".to_owned();
    for (at, number) in numbers.enumerate() {
        let _ = write!(out, "{}{number}", if at > 0 { "," } else { "" });
    }
    out + "]"
}
