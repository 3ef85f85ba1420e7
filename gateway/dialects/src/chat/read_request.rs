//! A client's chat request, into the neutral model.

use std::borrow::Cow;

use crate::json::{Invalid, Object, Path, Text, as_text, each};
use crate::neutral::{
    EMPTY_SCHEMA, Effort, Format, Origin, Part, Proof, Reasoning, Report, Request, Role, Sampling,
    Source, Tool, ToolCall, ToolChoice, Turn, arguments_object, free_text_arguments,
    free_text_tool, keep_in_place, take_mark, tool_result,
};
use crate::prepare::Refusal;

/// Fields that change nothing about the answer that is asked for.
const HINTS: [&str; 4] = [
    // OpenAI's chat takes it only with what it stores.
    "metadata",
    // It makes the answer come sooner, and no other.
    "prediction",
    "prompt_cache_options",
    "store",
];

/// Fields of messages that change nothing about what is said.
const MESSAGE_HINTS: [&str; 3] = [
    "annotations",
    "name",
    // LiteLLM's SDK brings back in it what it noted about an answer.
    "provider_specific_fields",
];

/// Reads a request whose body is known to be a JSON object.
pub(crate) fn read_request<'a>(body: &'a str, report: &mut Report) -> Result<Request<'a>, Refusal> {
    let root = Path::ROOT;
    let mut object = Object::read(body.trim_ascii(), root)?;
    object.take("model");
    object.object("stream_options", |mut options| {
        // Usage is seen to where the answer is written; obfuscation is no part of it.
        options.take("include_usage");
        options.take("include_obfuscation");
        report.rest(&options, &[])
    })?;
    let mut request = Request {
        shared: report.take_shared(&mut object),
        verbosity: report.take_verbosity(&mut object)?,
        stream: object.flag("stream")?.unwrap_or(false),
        max_tokens: max_tokens(&mut object)?,
        sampling: sampling(&mut object)?,
        stop: stop(&mut object)?,
        user: object.text("user")?,
        parallel_tools: object.flag("parallel_tool_calls")?,
        reasoning: reasoning(&mut object, report)?,
        cache_control: take_mark(&mut object, report.cache_marks.everywhere(), report)?,
        format: object
            .object("response_format", |format| read_format(format, report))?
            .flatten(),
        ..Request::default()
    };
    object.each("tools", |raw, path| {
        request
            .tools
            .extend(read_tool(Object::read(raw, *path)?, report)?);
        Ok::<_, Refusal>(())
    })?;
    if let Some(raw) = object.take("tool_choice") {
        request.tool_choice = Some(read_tool_choice(raw, &root.key("tool_choice"), report)?);
    }
    let had_messages = object.each("messages", |raw, path| {
        read_message(Object::read(raw, *path)?, &mut request.turns, report)
    })?;
    if !had_messages {
        return Err(object.missing("messages").into());
    }
    for key in ["n", "logprobs", "top_logprobs", "logit_bias", "modalities"] {
        object.take_if(key, |raw| is_default(key, raw));
    }
    report.rest(&object, &HINTS)?;
    Ok(request)
}

fn max_tokens(object: &mut Object<'_, '_>) -> Result<Option<u64>, Invalid> {
    let (new, old) = (
        object.count("max_completion_tokens")?,
        object.count("max_tokens")?,
    );
    Ok(new.or(old))
}

fn sampling(object: &mut Object<'_, '_>) -> Result<Sampling, Invalid> {
    Ok(Sampling {
        temperature: object.number("temperature")?,
        top_p: object.number("top_p")?,
        // Not OpenAI's, but what vLLM, Qwen and others call it.
        top_k: object.count("top_k")?,
        frequency_penalty: object
            .number("frequency_penalty")?
            .filter(|penalty| *penalty != 0.0),
        presence_penalty: object
            .number("presence_penalty")?
            .filter(|penalty| *penalty != 0.0),
        seed: object.integer("seed")?,
    })
}

/// Whether a field says what would be so without it.
pub(super) fn is_default(key: &str, raw: &str) -> bool {
    match key {
        "n" => raw == "1",
        "logprobs" => raw == "false",
        "top_logprobs" | "frequency_penalty" | "presence_penalty" => raw.parse() == Ok(0.0),
        "logit_bias" => raw == "{}",
        "modalities" => raw.split_ascii_whitespace().collect::<String>() == r#"["text"]"#,
        _ => false,
    }
}

fn stop<'a>(object: &mut Object<'a, '_>) -> Result<Vec<Text<'a>>, Invalid> {
    let Some(raw) = object.take("stop") else {
        return Ok(Vec::new());
    };
    let path = object.path().key("stop");
    let mut stop = Vec::new();
    if raw.starts_with('[') {
        each(raw, &path, |raw, path| {
            stop.push(as_text(raw, path)?);
            Ok::<_, Invalid>(())
        })?;
    } else {
        stop.push(as_text(raw, &path)?);
    }
    Ok(stop)
}

/// OpenAI's `reasoning_effort`, or OpenRouter's `reasoning`.
fn reasoning(
    object: &mut Object<'_, '_>,
    report: &mut Report,
) -> Result<Option<Reasoning>, Refusal> {
    let mut reasoning = object.object("reasoning", |mut inner| {
        let read = Reasoning {
            enabled: inner.flag("enabled")?,
            effort: read_effort(&mut inner, "effort")?,
            budget_tokens: inner.count("max_tokens")?,
            summary: None,
        };
        report.rest(&inner, &["exclude", "summary"])?;
        Ok::<_, Refusal>(read)
    })?;
    if let Some(effort) = read_effort(object, "reasoning_effort")? {
        reasoning.get_or_insert_default().effort = Some(effort);
    }
    Ok(reasoning)
}

pub(crate) fn read_effort(
    object: &mut Object<'_, '_>,
    key: &str,
) -> Result<Option<Effort>, Invalid> {
    let Some(word) = object.text(key)? else {
        return Ok(None);
    };
    Effort::named(word.as_escaped()).map(Some).ok_or_else(|| {
        let reason = "must be none, minimal, low, medium, high, xhigh or max";
        Invalid::new(&object.path().key(key), reason)
    })
}

fn read_format<'a>(
    mut format: Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Format<'a>>, Refusal> {
    let kind = format.required_text("type")?;
    let read = match kind.as_escaped() {
        "text" => None,
        "json_object" => Some(Format::JsonObject),
        "json_schema" => {
            let schema = format.object("json_schema", |schema| read_schema(schema, report))?;
            Some(schema.ok_or_else(|| format.missing("json_schema"))?)
        }
        _ => {
            report.unsupported(format.path().to_string())?;
            return Ok(None);
        }
    };
    report.rest(&format, &[])?;
    Ok(read)
}

/// Reads `{name, description, schema, strict}`.
pub(crate) fn read_schema<'a>(
    mut object: Object<'a, '_>,
    report: &mut Report,
) -> Result<Format<'a>, Refusal> {
    object.take("type");
    let format = Format::JsonSchema {
        name: object.text("name")?,
        description: object.text("description")?,
        schema: object.required("schema")?,
        strict: object.flag("strict")?,
    };
    report.rest(&object, &[])?;
    Ok(format)
}

fn read_tool<'a>(
    mut tool: Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Tool<'a>>, Refusal> {
    let kind = tool.required_text("type")?;
    let read = match kind.as_escaped() {
        "function" => tool.object("function", |function| read_function(function, report))?,
        "custom" => tool.object("custom", |custom| free_text_tool(custom, report))?,
        _ => {
            report.unsupported(tool.path().to_string())?;
            return Ok(None);
        }
    };
    let mut read = read.ok_or_else(|| tool.missing(kind.as_escaped()))?;
    // OpenRouter has it here, others have it in the function.
    let mark = take_mark(&mut tool, report.cache_marks.everywhere(), report)?;
    read.cache_control = read.cache_control.or(mark);
    report.rest(&tool, &[])?;
    Ok(Some(read))
}

/// Reads `{name, description, parameters, strict}`.
pub(crate) fn read_function<'a>(
    mut object: Object<'a, '_>,
    report: &mut Report,
) -> Result<Tool<'a>, Refusal> {
    object.take("type");
    let tool = Tool {
        name: object.required_text("name")?,
        description: object.text("description")?,
        schema: Cow::Borrowed(object.take("parameters").unwrap_or(EMPTY_SCHEMA)),
        strict: object.flag("strict")?,
        is_free_text: false,
        cache_control: take_mark(&mut object, report.cache_marks.everywhere(), report)?,
    };
    report.rest(&object, &["defer_loading"])?;
    Ok(tool)
}

fn read_tool_choice<'a>(
    raw: &'a str,
    path: &Path<'_>,
    report: &mut Report,
) -> Result<ToolChoice<'a>, Refusal> {
    if let Some(choice) = read_tool_choice_word(raw, path)? {
        return Ok(choice);
    }
    let mut object = Object::read(raw, *path)?;
    let kind = object.required_text("type")?;
    if !matches!(kind.as_escaped(), "function" | "custom") {
        report.unsupported(path.to_string())?;
        return Ok(ToolChoice::Auto);
    }
    let name = object.object(kind.as_escaped(), |mut inner| {
        let name = inner.required_text("name")?;
        report.rest(&inner, &[])?;
        Ok::<_, Refusal>(name)
    })?;
    report.rest(&object, &[])?;
    Ok(ToolChoice::Named(
        name.ok_or_else(|| object.missing(kind.as_escaped()))?,
    ))
}

/// `"none"`, `"auto"` or `"required"`; `None` for an object.
pub(crate) fn read_tool_choice_word<'a>(
    raw: &'a str,
    path: &Path<'_>,
) -> Result<Option<ToolChoice<'a>>, Invalid> {
    if raw.starts_with('{') {
        return Ok(None);
    }
    match as_text(raw, path)?.as_escaped() {
        "none" => Ok(Some(ToolChoice::None)),
        "auto" => Ok(Some(ToolChoice::Auto)),
        // Mistral calls it `any`.
        "required" | "any" => Ok(Some(ToolChoice::Required)),
        _ => Err(Invalid::new(path, "must be none, auto, required or a tool")),
    }
}

fn read_message<'a>(
    mut message: Object<'a, '_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut Report,
) -> Result<(), Refusal> {
    let role = message.required_text("role")?;
    let (role, mut parts) = match role.as_escaped() {
        "system" | "developer" => (Role::System, read_content(&mut message, report)?),
        "user" => (Role::User, read_content(&mut message, report)?),
        "assistant" => (Role::Assistant, read_assistant(&mut message, report)?),
        "tool" => (Role::User, read_tool_result(&mut message, report)?),
        _ => {
            let reason = "must be system, developer, user, assistant or tool";
            return Err(Invalid::new(&message.path().key("role"), reason).into());
        }
    };
    keep_in_place(&mut parts, role, report)?;
    // LiteLLM's SDK marks whole messages too.
    let mark = take_mark(&mut message, report.cache_marks.in_messages(), report)?;
    parts.extend(mark.map(Part::CacheMark));
    report.rest(&message, &MESSAGE_HINTS)?;
    turns.push(Turn { role, parts });
    Ok(())
}

/// `content`: text, or parts.
fn read_content<'a>(
    message: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Vec<Part<'a>>, Refusal> {
    let mut parts = Vec::new();
    let Some(raw) = message.take("content") else {
        return Ok(parts);
    };
    let path = message.path().key("content");
    if raw.starts_with('[') {
        each(raw, &path, |raw, path| {
            read_part(Object::read(raw, *path)?, &mut parts, report)
        })?;
    } else {
        parts.push(Part::Text(as_text(raw, &path)?));
    }
    Ok(parts)
}

fn read_part<'a>(
    mut part: Object<'a, '_>,
    parts: &mut Vec<Part<'a>>,
    report: &mut Report,
) -> Result<(), Refusal> {
    let kind = part.required_text("type")?;
    let read = match kind.as_escaped() {
        "text" => Some(Part::Text(part.required_text("text")?)),
        "refusal" => Some(Part::Refusal(part.required_text("refusal")?)),
        "image_url" => part.object("image_url", |image| read_image(image, report))?,
        "input_audio" => part.object("input_audio", |audio| read_audio(audio, report))?,
        "file" => part
            .object("file", |file| read_file(file, report))?
            .flatten(),
        _ => return report.unsupported(part.path().to_string()),
    };
    let mark = take_mark(&mut part, report.cache_marks.in_messages(), report)?;
    report.rest(&part, &[])?;
    parts.extend(read);
    parts.extend(mark.map(Part::CacheMark));
    Ok(())
}

fn read_image<'a>(mut image: Object<'a, '_>, report: &mut Report) -> Result<Part<'a>, Refusal> {
    let url = image.required_text("url")?;
    let detail = image.text("detail")?;
    report.rest(&image, &[])?;
    Ok(Part::Image {
        source: Source::from_url(&url),
        detail,
    })
}

/// Reads `{data, format}`.
pub(crate) fn read_audio<'a>(
    mut audio: Object<'a, '_>,
    report: &mut Report,
) -> Result<Part<'a>, Refusal> {
    let (data, format) = (audio.required_text("data")?, audio.required_text("format")?);
    report.rest(&audio, &[])?;
    Ok(Part::Audio { data, format })
}

/// Reads `{file_data, filename}`. A file that lies at OpenAI cannot be had by others.
pub(crate) fn read_file<'a>(
    mut file: Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Part<'a>>, Refusal> {
    let name = file.text("filename")?;
    let Some(data) = file.text("file_data")? else {
        report.unsupported(file.path().to_string())?;
        return Ok(None);
    };
    report.rest(&file, &["detail"])?;
    match Source::from_url(&data) {
        source @ Source::Data { .. } => Ok(Some(Part::File { source, name })),
        Source::Url(_) => {
            let reason = "must be a data URL: data:application/pdf;base64,…";
            Err(Invalid::new(&file.path().key("file_data"), reason).into())
        }
    }
}

fn read_assistant<'a>(
    message: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Vec<Part<'a>>, Refusal> {
    let mut parts = read_reasoning(message, report)?;
    parts.extend(read_content(message, report)?);
    if let Some(refusal) = message.text("refusal")? {
        parts.push(Part::Refusal(refusal));
    }
    message.each("tool_calls", |raw, path| {
        let call = read_tool_call(Object::read(raw, *path)?, report)?;
        parts.push(Part::ToolCall(call));
        Ok::<_, Refusal>(())
    })?;
    Ok(parts)
}

/// Reasoning that an assistant's message brings back: its text as DeepSeek (`reasoning_content`) or
/// OpenRouter (`reasoning`) name it, its proofs in OpenRouter's `reasoning_details`.
fn read_reasoning<'a>(
    message: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Vec<Part<'a>>, Invalid> {
    let (content, reasoning) = (
        message.text("reasoning_content")?,
        message.text("reasoning")?,
    );
    let mut parts = Vec::new();
    message.each("reasoning_details", |raw, path| {
        parts.extend(read_reasoning_detail(Object::read(raw, *path)?, report)?);
        Ok::<_, Invalid>(())
    })?;
    if parts.is_empty()
        && let Some(text) = content.or(reasoning).filter(|text| !text.is_empty())
    {
        parts.push(Part::Reasoning { text, proof: None });
    }
    Ok(parts)
}

fn read_reasoning_detail<'a>(
    mut detail: Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Part<'a>>, Invalid> {
    for bookkeeping in ["type", "id", "format", "index"] {
        detail.take(bookkeeping);
    }
    let text = match detail.text("text")? {
        Some(text) => Some(text),
        None => detail.text("summary")?,
    };
    let value = match detail.text("signature")? {
        Some(signature) => Some(signature),
        None => detail.text("data")?,
    };
    report.rest_is_bookkeeping(&detail);
    let proof = value.as_ref().and_then(Proof::from_marked);
    let text = text.unwrap_or_default();
    Ok((!text.is_empty() || proof.is_some()).then_some(Part::Reasoning { text, proof }))
}

fn read_tool_call<'a>(
    mut call: Object<'a, '_>,
    report: &mut Report,
) -> Result<ToolCall<'a>, Invalid> {
    let id = call.required_text("id")?;
    let kind = call.text("type")?.unwrap_or(Text::escaped("function"));
    let proof = read_google_signature(&mut call, report)?;
    let is_custom = kind.is("custom");
    let read = call.object(
        if is_custom { "custom" } else { "function" },
        |mut inner| {
            let name = inner.required_text("name")?;
            let arguments = if is_custom {
                free_text_arguments(&inner.required_text("input")?)
            } else {
                let arguments = inner.text("arguments")?.unwrap_or_default();
                read_arguments(&arguments, &inner.path().key("arguments"))?
            };
            report.rest_is_bookkeeping(&inner);
            Ok::<_, Invalid>(ToolCall {
                id,
                name,
                arguments,
                proof,
            })
        },
    )?;
    report.rest_is_bookkeeping(&call);
    read.ok_or_else(|| call.missing("function"))
}

/// Google's OpenAI-compatible API keeps a call's thought signature in
/// `extra_content.google.thought_signature`; so do we.
fn read_google_signature(
    call: &mut Object<'_, '_>,
    report: &mut Report,
) -> Result<Option<Proof<'static>>, Invalid> {
    let signature = call.object("extra_content", |mut extra| {
        let signature = extra.object("google", |mut google| {
            let signature = google.text("thought_signature")?;
            report.rest_is_bookkeeping(&google);
            Ok::<_, Invalid>(signature)
        })?;
        report.rest_is_bookkeeping(&extra);
        Ok::<_, Invalid>(signature)
    })?;
    let signature = signature.flatten().flatten();
    Ok(signature.map(|value| Proof::signature(Origin::Gemini, value.into_owned())))
}

/// Arguments are JSON inside of text. A model may have written something else, and been told so:
/// then that text is quoted, because others can only show an object.
pub(crate) fn read_arguments<'a>(
    text: &Text<'a>,
    path: &Path<'_>,
) -> Result<Cow<'a, str>, Invalid> {
    let arguments = text
        .unescape()
        .ok_or_else(|| Invalid::new(path, "holds an invalid escape"))?;
    Ok(Cow::Owned(arguments_object(&arguments, text)))
}

/// The result, and the cache mark that stood in it.
fn read_tool_result<'a>(
    message: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Vec<Part<'a>>, Refusal> {
    let call_id = message.required_text("tool_call_id")?;
    let content = read_content(message, report)?;
    Ok(tool_result(call_id, content, false))
}
