//! OpenAI embeddings through `batchEmbedContents`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::json::{self, InvalidField, Object, Path, Text, Writer, as_text, each, value_of};
use crate::neutral::{Fields, LossReport};
use crate::response_context::AnswerIdentity;

/// Turns OpenAI's request into Gemini's. Returns it, and whether the client wants base64.
pub(crate) fn write_embeddings_request(
    body: &str,
    model: &str,
    report: &mut LossReport,
) -> json::Result<(String, bool)> {
    let (inputs, dimensions, base64) = Fields::read_body(body, report, |object| {
        object.ignore(&["user"]);
        object.take("model");
        let inputs = read_inputs(object)?;
        let dimensions = object.count("dimensions")?;
        let encoding = object.text("encoding_format")?;
        object.report_rest();
        let encoding = encoding.unwrap_or(Text::escaped("float"));
        let base64 = value_of(&[(false, "float"), (true, "base64")], &encoding)
            .ok_or_else(|| object.invalid("encoding_format", "must be float or base64"))?;
        Ok((inputs, dimensions, base64))
    })?;
    let name = format!("models/{model}");
    let request = Writer::document(body.len() + 128, |w| {
        w.put_array("requests", |w| {
            for input in &inputs {
                w.object(|w| {
                    w.put("model", &*name);
                    w.put_object("content", |w| {
                        w.put_array("parts", |w| w.object(|w| w.put("text", input)));
                    });
                    w.put_some("outputDimensionality", dimensions.as_ref());
                });
            }
        });
    });
    Ok((request, base64))
}

/// Reads texts. Tokens are of no use to another model's tokenizer.
fn read_inputs<'a>(object: &mut Fields<'a, '_>) -> json::Result<Vec<Text<'a>>> {
    if !object.starts_with("input", '[') {
        return Ok(vec![object.required_text("input")?]);
    }
    let mut inputs = Vec::new();
    object.each("input", |raw, path, report| {
        if raw.starts_with('"') {
            inputs.push(as_text(raw, path)?);
        } else {
            report.refused_field(path.to_string());
        }
        Ok(())
    })?;
    Ok(inputs)
}

/// Turns Gemini's answer into OpenAI's.
pub(crate) fn read_embeddings(
    body: &str,
    identity: &AnswerIdentity,
    base64: bool,
) -> json::Result<String> {
    let mut answer = Object::read(body, Path::ROOT)?;
    answer.require("embeddings")?;
    let mut w = Writer::with_capacity(body.len());
    w.object(|w| {
        w.put("object", "list");
        let written = w.put_array("data", |w| {
            let mut index = 0_u64;
            answer.each_object("embeddings", |mut embedding| {
                let values = embedding.required("values")?;
                let path = embedding.path().key("values");
                let packed = base64.then(|| pack(values, &path)).transpose()?;
                w.object(|w| {
                    w.put("object", "embedding");
                    w.put("index", index);
                    match packed {
                        Some(packed) => w.put("embedding", &*packed),
                        None => w.put_raw("embedding", values),
                    }
                });
                index += 1;
                Ok(())
            })
        });
        w.put("model", &*identity.model);
        // Google reports no count here.
        w.put_object("usage", |w| {
            w.put("prompt_tokens", 0_u64);
            w.put("total_tokens", 0_u64);
        });
        written
    })?;
    Ok(w.into_string())
}

/// Base64 of little-endian 32-bit floats, which is what OpenAI's SDKs ask for.
fn pack(values: &str, path: &Path<'_>) -> json::Result<String> {
    let mut bytes = Vec::new();
    each(values, path, |raw, path| {
        let value: f32 = raw
            .parse()
            .map_err(|_| InvalidField::new(path, "must be a number"))?;
        bytes.extend_from_slice(&value.to_le_bytes());
        Ok(())
    })?;
    Ok(STANDARD.encode(bytes))
}
