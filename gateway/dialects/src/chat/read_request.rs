//! A client's chat request, into the neutral model.

use crate::json::{self, InvalidField, Object, Path, Text, as_text, each};
use crate::neutral::{
    EMPTY_SCHEMA, Effort, Format, JsonSchema, LossReport, MediaSource, Part, Reasoning,
    ReasoningSignature, Request, Role, Sampling, SignatureOrigin, Tool, ToolCall, ToolChoice, Turn,
    drop_misplaced_parts, free_text_arguments, free_text_tool, read_arguments, read_parts,
    take_message_mark, take_tool_mark, tool_result,
};

/// How OpenAI's two formats define a thing of a type.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nesting {
    /// `{type, TYPE: {…}}`, as in chat.
    Wrapped,
    /// `{type, …}`, as in responses.
    Flat,
}

/// Fields that do not change the answer.
const IGNORED: [&str; 4] = [
    // OpenAI's chat takes it only with `store`.
    "metadata",
    // It only makes the answer faster.
    "prediction",
    "prompt_cache_options",
    "store",
];

/// Fields of messages that do not change their content.
const IGNORED_IN_MESSAGES: [&str; 3] = [
    "annotations",
    "name",
    // LiteLLM's SDK returns its notes about an answer here.
    "provider_specific_fields",
];

/// Reads a request whose body is known to be a JSON object.
pub(crate) fn read_request<'a>(
    body: &'a str,
    report: &mut LossReport,
) -> json::Result<Request<'a>> {
    let mut object = Object::read(body.trim_ascii(), Path::ROOT)?;
    object.take("model");
    object.object("stream_options", |mut options| {
        // The writer of the answer handles usage; obfuscation is not part of the answer.
        options.take("include_usage");
        options.take("include_obfuscation");
        report.remaining(&options, &[]);
        Ok(())
    })?;
    let mut request = Request {
        shared: report.take_openai_fields(&mut object),
        verbosity: report.take_verbosity(&mut object)?,
        stream: object.flag("stream")?.unwrap_or(false),
        max_tokens: max_tokens(&mut object)?,
        sampling: sampling(&mut object)?,
        stop: stop(&mut object)?,
        user: object.text("user")?,
        parallel_tools: object.flag("parallel_tool_calls")?,
        reasoning: reasoning(&mut object, report)?,
        cache_control: take_tool_mark(&mut object, report)?,
        format: object
            .object("response_format", |format| {
                read_format(format, Nesting::Wrapped, report)
            })?
            .flatten(),
        ..Request::default()
    };
    object.each_object("tools", |tool| {
        request.tools.extend(read_tool(tool, report)?);
        Ok(())
    })?;
    request.tool_choice = read_tool_choice(&mut object, Nesting::Wrapped, report)?;
    let had_messages = object.each_object("messages", |message| {
        read_message(message, &mut request.turns, report)
    })?;
    if !had_messages {
        return Err(object.missing("messages"));
    }
    for key in ["n", "logprobs", "top_logprobs", "logit_bias", "modalities"] {
        object.take_if(key, |raw| is_default(key, raw));
    }
    report.remaining(&object, &IGNORED);
    Ok(request)
}

fn max_tokens(object: &mut Object<'_, '_>) -> json::Result<Option<u64>> {
    let new = object.count("max_completion_tokens")?;
    let old = object.count("max_tokens")?;
    Ok(new.or(old))
}

fn sampling(object: &mut Object<'_, '_>) -> json::Result<Sampling> {
    let is_penalty = |penalty: &f64| *penalty != 0.0;
    Ok(Sampling {
        temperature: object.number("temperature")?,
        top_p: object.number("top_p")?,
        // Not OpenAI's, but the name that vLLM, Qwen and others use.
        top_k: object.count("top_k")?,
        frequency_penalty: object.number("frequency_penalty")?.filter(is_penalty),
        presence_penalty: object.number("presence_penalty")?.filter(is_penalty),
        seed: object.integer("seed")?,
    })
}

/// Whether a field has its default value.
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

fn stop<'a>(object: &mut Object<'a, '_>) -> json::Result<Vec<Text<'a>>> {
    let raw = object.take("stop");
    let path = object.path().key("stop");
    match raw {
        None => Ok(Vec::new()),
        Some(raw) if raw.starts_with('[') => read_texts(raw, &path),
        Some(raw) => Ok(vec![as_text(raw, &path)?]),
    }
}

pub(crate) fn read_texts<'a>(raw: &'a str, path: &Path<'_>) -> json::Result<Vec<Text<'a>>> {
    let mut texts = Vec::new();
    each(raw, path, |raw, path| {
        texts.push(as_text(raw, path)?);
        Ok(())
    })?;
    Ok(texts)
}

/// OpenAI's `reasoning_effort`, or OpenRouter's `reasoning`.
fn reasoning(
    object: &mut Object<'_, '_>,
    report: &mut LossReport,
) -> json::Result<Option<Reasoning>> {
    let mut reasoning = object.object("reasoning", |mut inner| {
        let read = Reasoning {
            enabled: inner.flag("enabled")?,
            effort: read_effort(&mut inner, "effort")?,
            budget_tokens: inner.count("max_tokens")?,
            summary: None,
        };
        report.remaining(&inner, &["exclude", "summary"]);
        Ok(read)
    })?;
    if let Some(effort) = read_effort(object, "reasoning_effort")? {
        reasoning.get_or_insert_default().effort = Some(effort);
    }
    Ok(reasoning)
}

pub(crate) fn read_effort(object: &mut Object<'_, '_>, key: &str) -> json::Result<Option<Effort>> {
    let Some(word) = object.text(key)? else {
        return Ok(None);
    };
    Effort::named(word.as_escaped()).map(Some).ok_or_else(|| {
        let reason = "must be none, minimal, low, medium, high, xhigh or max";
        InvalidField::new(object.path().key(key), reason)
    })
}

pub(crate) fn read_format<'a>(
    mut format: Object<'a, '_>,
    nesting: Nesting,
    report: &mut LossReport,
) -> json::Result<Option<Format<'a>>> {
    let kind = format.required_text("type")?;
    let read = match kind.as_escaped() {
        "text" => None,
        "json_object" => Some(Format::JsonObject),
        "json_schema" if nesting == Nesting::Flat => return read_schema(format, report).map(Some),
        "json_schema" => {
            let schema = format.object("json_schema", |schema| read_schema(schema, report))?;
            Some(schema.ok_or_else(|| format.missing("json_schema"))?)
        }
        _ => {
            report.unsupported_field(format.path().to_string());
            return Ok(None);
        }
    };
    report.remaining(&format, &[]);
    Ok(read)
}

/// Reads `{name, description, schema, strict}`.
fn read_schema<'a>(
    mut object: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Format<'a>> {
    object.take("type");
    let schema = JsonSchema {
        name: object.text("name")?,
        description: object.text("description")?,
        schema: object.required("schema")?,
        strict: object.flag("strict")?,
    };
    report.remaining(&object, &[]);
    Ok(Format::JsonSchema(schema))
}

fn read_tool<'a>(
    mut tool: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<Tool<'a>>> {
    let kind = tool.required_text("type")?;
    let read = match kind.as_escaped() {
        "function" => tool.object("function", |function| read_function(function, report))?,
        "custom" => tool.object("custom", |custom| free_text_tool(custom, report))?,
        _ => {
            report.unsupported_field(tool.path().to_string());
            return Ok(None);
        }
    };
    let mut read = read.ok_or_else(|| tool.missing(kind.as_escaped()))?;
    // OpenRouter has it here, others have it in the function.
    let mark = take_tool_mark(&mut tool, report)?;
    read.cache_control = read.cache_control.or(mark);
    report.remaining(&tool, &[]);
    Ok(Some(read))
}

/// Reads `{name, description, parameters, strict}`.
pub(crate) fn read_function<'a>(
    mut object: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Tool<'a>> {
    object.take("type");
    let tool = Tool {
        name: object.required_text("name")?,
        description: object.text("description")?,
        schema: object.take("parameters").unwrap_or(EMPTY_SCHEMA),
        strict: object.flag("strict")?,
        is_free_text: false,
        cache_control: take_tool_mark(&mut object, report)?,
    };
    report.remaining(&object, &["defer_loading"]);
    Ok(tool)
}

pub(crate) fn read_tool_choice<'a>(
    request: &mut Object<'a, '_>,
    nesting: Nesting,
    report: &mut LossReport,
) -> json::Result<Option<ToolChoice<'a>>> {
    let Some(raw) = request.take("tool_choice") else {
        return Ok(None);
    };
    let path = request.path().key("tool_choice");
    if !raw.starts_with('{') {
        return read_tool_choice_word(raw, &path).map(Some);
    }
    let mut object = Object::read(raw, path)?;
    let kind = object.required_text("type")?;
    if !matches!(kind.as_escaped(), "function" | "custom") {
        report.unsupported_field(path.to_string());
        return Ok(Some(ToolChoice::Auto));
    }
    let name = match nesting {
        Nesting::Flat => Some(object.required_text("name")?),
        Nesting::Wrapped => object.object(kind.as_escaped(), |mut inner| {
            let name = inner.required_text("name")?;
            report.remaining(&inner, &[]);
            Ok(name)
        })?,
    };
    report.remaining(&object, &[]);
    let name = name.ok_or_else(|| object.missing(kind.as_escaped()))?;
    Ok(Some(ToolChoice::Named(name)))
}

fn read_tool_choice_word<'a>(raw: &'a str, path: &Path<'_>) -> json::Result<ToolChoice<'a>> {
    match as_text(raw, path)?.as_escaped() {
        "none" => Ok(ToolChoice::None),
        "auto" => Ok(ToolChoice::Auto),
        // Mistral calls it `any`.
        "required" | "any" => Ok(ToolChoice::Required),
        _ => {
            let reason = "must be none, auto, required or a tool";
            Err(InvalidField::new(path, reason))
        }
    }
}

fn read_message<'a>(
    mut message: Object<'a, '_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut LossReport,
) -> json::Result<()> {
    let role = message.required_text("role")?;
    let (role, mut parts) = match role.as_escaped() {
        "system" | "developer" => (Role::System, read_content(&mut message, report)?),
        "user" => (Role::User, read_content(&mut message, report)?),
        "assistant" => (Role::Assistant, read_assistant(&mut message, report)?),
        "tool" => (Role::User, read_tool_result(&mut message, report)?),
        _ => {
            let reason = "must be system, developer, user, assistant or tool";
            return Err(InvalidField::new(message.path().key("role"), reason));
        }
    };
    drop_misplaced_parts(&mut parts, role, report);
    // LiteLLM's SDK marks whole messages too.
    let mark = take_message_mark(&mut message, report)?;
    parts.extend(mark.map(Part::CacheMark));
    report.remaining(&message, &IGNORED_IN_MESSAGES);
    turns.push(Turn { role, parts });
    Ok(())
}

fn read_content<'a>(
    message: &mut Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Vec<Part<'a>>> {
    let raw = message.take("content");
    let path = message.path().key("content");
    match raw {
        Some(raw) => read_parts(raw, &path, |part, parts| read_part(part, parts, report)),
        None => Ok(Vec::new()),
    }
}

fn read_part<'a>(
    mut part: Object<'a, '_>,
    parts: &mut Vec<Part<'a>>,
    report: &mut LossReport,
) -> json::Result<()> {
    let kind = part.required_text("type")?;
    let read = match kind.as_escaped() {
        "text" => Some(Part::Text(part.required_text("text")?)),
        "refusal" => Some(Part::Refusal(part.required_text("refusal")?)),
        "image_url" => part.object("image_url", |image| read_image(image, report))?,
        "input_audio" => part.object("input_audio", |audio| read_audio(audio, report))?,
        "file" => part
            .object("file", |file| read_file(file, report))?
            .flatten(),
        _ => {
            report.unsupported_field(part.path().to_string());
            return Ok(());
        }
    };
    let mark = take_message_mark(&mut part, report)?;
    report.remaining(&part, &[]);
    parts.extend(read);
    parts.extend(mark.map(Part::CacheMark));
    Ok(())
}

fn read_image<'a>(mut image: Object<'a, '_>, report: &mut LossReport) -> json::Result<Part<'a>> {
    let url = image.required_text("url")?;
    let detail = image.text("detail")?;
    report.remaining(&image, &[]);
    Ok(Part::Image {
        source: MediaSource::from_url(&url),
        detail,
    })
}

/// Reads `{data, format}`.
pub(crate) fn read_audio<'a>(
    mut audio: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Part<'a>> {
    let (data, format) = (audio.required_text("data")?, audio.required_text("format")?);
    report.remaining(&audio, &[]);
    Ok(Part::Audio { data, format })
}

/// Reads `{file_data, filename}`. Other providers cannot fetch a file that is stored at OpenAI.
pub(crate) fn read_file<'a>(
    mut file: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<Part<'a>>> {
    let name = file.text("filename")?;
    let Some(data) = file.text("file_data")? else {
        report.unsupported_field(file.path().to_string());
        return Ok(None);
    };
    report.remaining(&file, &["detail"]);
    match MediaSource::from_url(&data) {
        source @ MediaSource::Data { .. } => Ok(Some(Part::File { source, name })),
        MediaSource::Url(_) => {
            let reason = "must be a data URL: data:application/pdf;base64,…";
            Err(InvalidField::new(file.path().key("file_data"), reason))
        }
    }
}

fn read_assistant<'a>(
    message: &mut Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Vec<Part<'a>>> {
    let mut parts = read_reasoning(message, report)?;
    parts.extend(read_content(message, report)?);
    if let Some(refusal) = message.text("refusal")? {
        parts.push(Part::Refusal(refusal));
    }
    message.each_object("tool_calls", |call| {
        parts.push(Part::ToolCall(read_tool_call(call, report)?));
        Ok(())
    })?;
    Ok(parts)
}

/// The reasoning in an assistant's message: its text as DeepSeek (`reasoning_content`) or OpenRouter
/// (`reasoning`) name it, its signatures in OpenRouter's `reasoning_details`.
fn read_reasoning<'a>(
    message: &mut Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Vec<Part<'a>>> {
    let content = message.text("reasoning_content")?;
    let reasoning = message.text("reasoning")?;
    let mut parts = Vec::new();
    message.each_object("reasoning_details", |detail| {
        parts.extend(read_reasoning_detail(detail, report)?);
        Ok(())
    })?;
    if parts.is_empty()
        && let Some(text) = content.or(reasoning).filter(|text| !text.is_empty())
    {
        parts.push(Part::Reasoning {
            text,
            signature: None,
        });
    }
    Ok(parts)
}

fn read_reasoning_detail<'a>(
    mut detail: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<Part<'a>>> {
    for bookkeeping in ["type", "id", "format", "index"] {
        detail.take(bookkeeping);
    }
    // A field that is not read is reported.
    let text = match detail.text("text")? {
        None => detail.text("summary")?,
        text => text,
    };
    let value = match detail.text("signature")? {
        None => detail.text("data")?,
        signature => signature,
    };
    report.ignore_remaining(&detail);
    let signature = value.as_ref().and_then(ReasoningSignature::from_marked);
    let text = text.unwrap_or_default();
    Ok((!text.is_empty() || signature.is_some()).then_some(Part::Reasoning { text, signature }))
}

fn read_tool_call<'a>(
    mut call: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<ToolCall<'a>> {
    let id = call.required_text("id")?;
    let is_custom = call.text("type")?.is_some_and(|kind| kind.is("custom"));
    let signature = read_google_signature(&mut call, report)?;
    let key = if is_custom { "custom" } else { "function" };
    let read = call.object(key, |mut inner| {
        let name = inner.required_text("name")?;
        let arguments = if is_custom {
            free_text_arguments(&inner.required_text("input")?)
        } else {
            let arguments = inner.text("arguments")?.unwrap_or_default();
            read_arguments(&arguments, &inner.path().key("arguments"))?
        };
        report.ignore_remaining(&inner);
        Ok(ToolCall {
            id,
            name,
            arguments,
            signature,
        })
    })?;
    report.ignore_remaining(&call);
    read.ok_or_else(|| call.missing("function"))
}

/// Reads a call's thought signature, which clients keep where Google's OpenAI-compatible API has it:
/// in `extra_content.google.thought_signature`.
fn read_google_signature<'a>(
    call: &mut Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<ReasoningSignature<'a>>> {
    let signature = call.object("extra_content", |mut extra| {
        let signature = extra.object("google", |mut google| {
            let signature = google.text("thought_signature")?;
            report.ignore_remaining(&google);
            Ok(signature)
        })?;
        report.ignore_remaining(&extra);
        Ok(signature)
    })?;
    let signature = signature.flatten().flatten();
    Ok(signature.map(|value| ReasoningSignature::plain(SignatureOrigin::Gemini, value)))
}

/// Reads a tool's result and the cache mark in it.
fn read_tool_result<'a>(
    message: &mut Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Vec<Part<'a>>> {
    let call_id = message.required_text("tool_call_id")?;
    let content = read_content(message, report)?;
    Ok(tool_result(call_id, content, false))
}
