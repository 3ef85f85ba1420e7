//! OpenAI embeddings through `batchEmbedContents`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::answer::Identity;
use crate::json::{Invalid, Object, Path, Text, Writer, as_text, each};
use crate::neutral::Report;
use crate::prepare::Refusal;

/// Turns OpenAI's request into Gemini's. Returns it, and whether the client wants base64.
pub(crate) fn write_embeddings_request(
    body: &str,
    model: &str,
    report: &mut Report,
) -> Result<(String, bool), Refusal> {
    let mut object = Object::read(body.trim_ascii(), Path::ROOT)?;
    object.take("model");
    let inputs = read_inputs(&mut object, report)?;
    let dimensions = object.count("dimensions")?;
    let encoding = object.text("encoding_format")?;
    report.rest(&object, &["user"])?;
    let base64 = match encoding.as_ref().map(Text::as_escaped) {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            let reason = "must be float or base64";
            return Err(Invalid::new(&object.path().key("encoding_format"), reason).into());
        }
    };
    let name = format!("models/{model}");
    let request = Writer::document(body.len() + 128, |w| {
        w.put_array("requests", |w| {
            for input in &inputs {
                w.object(|w| {
                    w.put_str("model", &name);
                    w.put_object("content", |w| {
                        w.put_array("parts", |w| w.object(|w| w.put_text("text", input)));
                    });
                    if let Some(dimensions) = dimensions {
                        w.put_u64("outputDimensionality", dimensions);
                    }
                });
            }
        });
    });
    Ok((request, base64))
}

/// Texts. Tokens mean nothing to another model's tokenizer.
fn read_inputs<'a>(
    object: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Vec<Text<'a>>, Refusal> {
    let raw = object.required("input")?;
    let path = object.path().key("input");
    if !raw.starts_with('[') {
        return Ok(vec![as_text(raw, &path)?]);
    }
    let mut inputs = Vec::new();
    each(raw, &path, |raw, path| {
        if raw.starts_with('"') {
            inputs.push(as_text(raw, path)?);
            return Ok(());
        }
        report.unsupported(path.to_string())
    })?;
    Ok(inputs)
}

/// Turns Gemini's answer into OpenAI's.
pub(crate) fn read_embeddings(
    body: &str,
    identity: &Identity,
    base64: bool,
) -> Result<String, Invalid> {
    let mut answer = Object::read(body, Path::ROOT)?;
    let mut w = Writer::with_capacity(body.len());
    let mut read = Ok(false);
    w.object(|w| {
        w.put_str("object", "list");
        w.put_array("data", |w| {
            let mut index = 0;
            read = answer.each("embeddings", |raw, path| {
                let values = Object::read(raw, *path)?.required("values")?;
                write_embedding(w, index, values, base64, path)?;
                index += 1;
                Ok::<_, Invalid>(())
            });
        });
        w.put_str("model", &identity.model);
        // Google counts no tokens here.
        w.put_object("usage", |w| {
            w.put_u64("prompt_tokens", 0);
            w.put_u64("total_tokens", 0);
        });
    });
    if !read? {
        return Err(answer.missing("embeddings"));
    }
    Ok(w.into_string())
}

fn write_embedding(
    w: &mut Writer,
    index: u64,
    values: &str,
    base64: bool,
    path: &Path<'_>,
) -> Result<(), Invalid> {
    let packed = if base64 {
        Some(pack(values, path)?)
    } else {
        None
    };
    w.object(|w| {
        w.put_str("object", "embedding");
        w.put_u64("index", index);
        match packed {
            Some(packed) => w.put_str("embedding", &packed),
            None => w.put_raw("embedding", values),
        }
    });
    Ok(())
}

/// Base64 of little-endian 32-bit floats, which is what OpenAI's SDKs ask for.
fn pack(values: &str, path: &Path<'_>) -> Result<String, Invalid> {
    let mut bytes = Vec::new();
    each(values, &path.key("values"), |raw, path| {
        let value: f32 = raw
            .parse()
            .map_err(|_| Invalid::new(path, "must be a number"))?;
        bytes.extend_from_slice(&value.to_le_bytes());
        Ok::<_, Invalid>(())
    })?;
    Ok(STANDARD.encode(bytes))
}
