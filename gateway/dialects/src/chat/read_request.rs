//! A client's chat request, into the neutral model.

use crate::json::{self, Object, Text};
use crate::neutral::{
    Effort, Feature, Fields, Format, JsonSchema, LossReport, MediaSource, Part, Reasoning,
    ReasoningSignature, Request, RequestWriter, Role, Sampling, SignatureOrigin, Tool, ToolCall,
    ToolChoice, Turn, free_text_arguments, free_text_tool, read_arguments, read_arguments_schema,
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

impl Nesting {
    /// Writes the entries of a thing.
    pub(crate) fn put<'r>(
        self,
        w: &mut RequestWriter<'r>,
        kind: &str,
        fill: impl FnOnce(&mut RequestWriter<'r>),
    ) {
        w.put("type", kind);
        match self {
            Self::Wrapped => w.put_object(kind, fill),
            Self::Flat => fill(w),
        }
    }
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
    Fields::read_body(body, report, |object| {
        object.ignore(&IGNORED);
        object.take("model");
        object.object("stream_options", |options| {
            // The writer of the answer handles usage; obfuscation is not part of the answer.
            options.take("include_usage");
            options.take("include_obfuscation");
            Ok(())
        })?;
        let mut request = Request {
            shared: object.openai_fields(),
            verbosity: object.verbosity()?,
            stream: object.flag("stream")?.unwrap_or(false),
            max_tokens: max_tokens(object)?,
            choices: object.count("n")?,
            sampling: sampling(object)?,
            stop: stop(object)?,
            user: object.text("user")?,
            parallel_tools: object.flag("parallel_tool_calls")?,
            reasoning: reasoning(object)?,
            cache_control: take_tool_mark(object)?,
            format: object
                .object("response_format", |format| {
                    read_format(format, Nesting::Wrapped)
                })?
                .flatten(),
            tools: object.list("tools", read_tool)?,
            turns: object.required_list("messages", |turn| read_message(turn).map(Some))?,
            ..Request::default()
        };
        request.tool_choice = read_tool_choice(object, Nesting::Wrapped, &mut request.tools)?;
        for key in ["logprobs", "top_logprobs", "logit_bias", "modalities"] {
            object.take_if(key, |raw| is_default(key, raw));
        }
        Ok(request)
    })
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
    if object.starts_with("stop", '[') {
        return object.texts("stop");
    }
    Ok(object.text("stop")?.into_iter().collect())
}

/// OpenAI's `reasoning_effort`, or OpenRouter's `reasoning`.
fn reasoning(object: &mut Fields<'_, '_>) -> json::Result<Option<Reasoning>> {
    let mut reasoning = object.object("reasoning", |inner| {
        inner.ignore(&["exclude", "summary"]);
        Ok(Reasoning {
            enabled: inner.flag("enabled")?,
            effort: inner.one_of("effort", &Effort::WORDS)?,
            budget_tokens: inner.count("max_tokens")?,
            summary: None,
        })
    })?;
    if let Some(effort) = object.one_of("reasoning_effort", &Effort::WORDS)? {
        reasoning.get_or_insert_default().effort = Some(effort);
    }
    Ok(reasoning)
}

pub(crate) fn read_format<'a>(
    format: &mut Fields<'a, '_>,
    nesting: Nesting,
) -> json::Result<Option<Format<'a>>> {
    let kind = format.required_text("type")?;
    match (kind.as_escaped(), nesting) {
        ("text", _) => Ok(None),
        ("json_object", _) => Ok(Some(Format::JsonObject)),
        ("json_schema", Nesting::Flat) => read_schema(format).map(Some),
        ("json_schema", Nesting::Wrapped) => {
            format.required_object("json_schema", read_schema).map(Some)
        }
        _ => {
            format.unsupported("");
            Ok(None)
        }
    }
}

/// Reads `{name, description, schema, strict}`.
fn read_schema<'a>(object: &mut Fields<'a, '_>) -> json::Result<Format<'a>> {
    object.take("type");
    Ok(Format::JsonSchema(JsonSchema {
        name: object.text("name")?,
        description: object.text("description")?,
        schema: object.required("schema")?,
        strict: object.flag("strict")?,
    }))
}

fn read_tool<'a>(tool: &mut Fields<'a, '_>) -> json::Result<Option<Tool<'a>>> {
    let kind = tool.required_text("type")?;
    let mut read = match kind.as_escaped() {
        "function" => tool.required_object("function", read_function)?,
        "custom" => tool.required_object("custom", free_text_tool)?,
        _ => {
            tool.unsupported("");
            return Ok(None);
        }
    };
    // OpenRouter has it here, others have it in the function.
    let mark = take_tool_mark(tool)?;
    read.cache_control = read.cache_control.or(mark);
    Ok(Some(read))
}

/// Reads `{name, description, parameters, strict}`.
pub(crate) fn read_function<'a>(object: &mut Fields<'a, '_>) -> json::Result<Tool<'a>> {
    object.ignore(&["defer_loading"]);
    object.take("type");
    Ok(Tool {
        name: object.required_text("name")?,
        description: object.text("description")?,
        schema: read_arguments_schema(object, "parameters")?,
        strict: object.flag("strict")?,
        free_text: None,
        cache_control: take_tool_mark(object)?,
    })
}

pub(crate) fn read_tool_choice<'a>(
    request: &mut Fields<'a, '_>,
    nesting: Nesting,
    tools: &mut Vec<Tool<'a>>,
) -> json::Result<Option<ToolChoice<'a>>> {
    if !request.starts_with("tool_choice", '{') {
        return read_tool_choice_word(request);
    }
    request.object("tool_choice", |choice| {
        let kind = choice.required_text("type")?;
        if kind.is("allowed_tools") {
            return match nesting {
                Nesting::Flat => read_allowed_tools(choice, nesting, tools),
                Nesting::Wrapped => choice.required_object("allowed_tools", |allowed| {
                    read_allowed_tools(allowed, nesting, tools)
                }),
            };
        }
        if !matches!(kind.as_escaped(), "function" | "custom") {
            choice.unsupported("");
            return Ok(ToolChoice::Auto);
        }
        let name = read_tool_name(choice, &kind, nesting)?;
        choice.report_rest();
        Ok(ToolChoice::Named(name))
    })
}

fn read_tool_name<'a>(
    tool: &mut Fields<'a, '_>,
    kind: &Text<'_>,
    nesting: Nesting,
) -> json::Result<Text<'a>> {
    match nesting {
        Nesting::Flat => tool.required_text("name"),
        Nesting::Wrapped => {
            tool.required_object(kind.as_escaped(), |inner| inner.required_text("name"))
        }
    }
}

/// Reads `{mode, tools}`: the tools that the model may call. Only OpenAI has a field for them, to
/// keep the others in its cache; without them the request means the same.
fn read_allowed_tools<'a>(
    allowed: &mut Fields<'a, '_>,
    nesting: Nesting,
    tools: &mut Vec<Tool<'a>>,
) -> json::Result<ToolChoice<'a>> {
    let modes = [
        (ToolChoice::Auto, "auto"),
        (ToolChoice::Required, "required"),
    ];
    let mode = allowed.text("mode")?.unwrap_or(Text::escaped("auto"));
    let mode = modes.into_iter().find(|(_, word)| mode.is(word));
    let (mode, _) = mode.ok_or_else(|| allowed.invalid("mode", "must be auto or required"))?;
    let names = allowed.required_list("tools", |tool| {
        let kind = tool.required_text("type")?;
        if !matches!(kind.as_escaped(), "function" | "custom") {
            tool.unsupported_type(kind.as_escaped());
            return Ok(None);
        }
        read_tool_name(tool, &kind, nesting).map(Some)
    })?;
    tools.retain(|tool| names.contains(&tool.name));
    allowed
        .report
        .approximated_kind(Feature::ToolChoice, "allowed_tools");
    Ok(mode)
}

fn read_tool_choice_word<'a>(request: &mut Object<'a, '_>) -> json::Result<Option<ToolChoice<'a>>> {
    let Some(word) = request.text("tool_choice")? else {
        return Ok(None);
    };
    Ok(Some(match word.as_escaped() {
        "none" => ToolChoice::None,
        "auto" => ToolChoice::Auto,
        // Mistral calls it `any`.
        "required" | "any" => ToolChoice::Required,
        _ => {
            let reason = "must be none, auto, required or a tool";
            return Err(request.invalid("tool_choice", reason));
        }
    }))
}

fn read_message<'a>(message: &mut Fields<'a, '_>) -> json::Result<Turn<'a>> {
    message.ignore(&IGNORED_IN_MESSAGES);
    let role = message.required_text("role")?;
    let (role, parts) = match role.as_escaped() {
        "system" | "developer" => (Role::System, message.content("content", read_part)?),
        "user" => (Role::User, message.content("content", read_part)?),
        "assistant" => (Role::Assistant, read_assistant(message)?),
        "tool" => (Role::User, read_tool_result(message)?),
        _ => {
            let reason = "must be system, developer, user, assistant or tool";
            return Err(message.invalid("role", reason));
        }
    };
    let mut turn = Turn::new(role, parts, message.report);
    // LiteLLM's SDK marks whole messages too.
    let mark = take_message_mark(message)?;
    turn.parts.extend(mark.map(Part::CacheMark));
    Ok(turn)
}

fn read_part<'a>(part: &mut Fields<'a, '_>, parts: &mut Vec<Part<'a>>) -> json::Result<()> {
    let kind = part.required_text("type")?;
    let read = match kind.as_escaped() {
        "text" => Some(Part::Text(part.required_text("text")?)),
        "refusal" => Some(Part::Refusal(part.required_text("refusal")?)),
        "image_url" => part.object("image_url", read_image)?,
        "input_audio" => part.object("input_audio", read_audio)?,
        "file" => part.object("file", read_file)?.flatten(),
        _ => {
            part.unsupported("");
            return Ok(());
        }
    };
    parts.extend(read);
    parts.extend(take_message_mark(part)?.map(Part::CacheMark));
    Ok(())
}

fn read_image<'a>(image: &mut Fields<'a, '_>) -> json::Result<Part<'a>> {
    Ok(Part::Image {
        source: MediaSource::from_url(&image.required_text("url")?),
        detail: image.text("detail")?,
    })
}

/// Reads `{data, format}`.
pub(crate) fn read_audio<'a>(audio: &mut Fields<'a, '_>) -> json::Result<Part<'a>> {
    Ok(Part::Audio {
        data: audio.required_text("data")?,
        format: audio.required_text("format")?,
    })
}

/// Reads `{file_data, filename}`. Other providers cannot fetch a file that is stored at OpenAI.
pub(crate) fn read_file<'a>(file: &mut Fields<'a, '_>) -> json::Result<Option<Part<'a>>> {
    file.ignore(&["detail"]);
    let name = file.text("filename")?;
    let Some(data) = file.text("file_data")? else {
        file.unsupported("");
        return Ok(None);
    };
    file.report_rest();
    match MediaSource::from_url(&data) {
        source @ MediaSource::Data { .. } => Ok(Some(Part::File { source, name })),
        MediaSource::Url(_) | MediaSource::Text(_) => {
            let reason = "must be a data URL: data:application/pdf;base64,…";
            Err(file.invalid("file_data", reason))
        }
    }
}

fn read_assistant<'a>(message: &mut Fields<'a, '_>) -> json::Result<Vec<Part<'a>>> {
    let mut parts = read_reasoning(message)?;
    parts.extend(message.content("content", read_part)?);
    parts.extend(message.text("refusal")?.map(Part::Refusal));
    message.each_object("tool_calls", |call| {
        parts.push(Part::ToolCall(read_tool_call(call)?));
        Ok(())
    })?;
    Ok(parts)
}

/// The reasoning in an assistant's message: its text as DeepSeek (`reasoning_content`) or OpenRouter
/// (`reasoning`) name it, its signatures in OpenRouter's `reasoning_details`.
fn read_reasoning<'a>(message: &mut Fields<'a, '_>) -> json::Result<Vec<Part<'a>>> {
    let content = message.text("reasoning_content")?;
    let reasoning = message.text("reasoning")?;
    let mut parts = message.list("reasoning_details", read_reasoning_detail)?;
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

fn read_reasoning_detail<'a>(detail: &mut Fields<'a, '_>) -> json::Result<Option<Part<'a>>> {
    detail.ignore_rest();
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
    let signature = value.as_ref().and_then(ReasoningSignature::from_marked);
    let text = text.unwrap_or_default();
    Ok((!text.is_empty() || signature.is_some()).then_some(Part::Reasoning { text, signature }))
}

fn read_tool_call<'a>(call: &mut Fields<'a, '_>) -> json::Result<ToolCall<'a>> {
    call.ignore_rest();
    let id = call.required_text("id")?;
    let is_custom = call.text("type")?.is_some_and(|kind| kind.is("custom"));
    let signature = read_google_signature(call)?;
    let key = if is_custom { "custom" } else { "function" };
    let read = call.object(key, |inner| {
        inner.ignore_rest();
        let name = inner.required_text("name")?;
        let free_text = match is_custom {
            true => Some(inner.required_text("input")?),
            false => None,
        };
        Ok(ToolCall {
            id,
            name,
            arguments: match &free_text {
                Some(input) => free_text_arguments(input),
                None => read_arguments(inner)?,
            },
            free_text,
            signature,
        })
    })?;
    read.ok_or_else(|| call.missing("function"))
}

/// Reads a call's thought signature, which clients keep where Google's OpenAI-compatible API has it:
/// in `extra_content.google.thought_signature`.
fn read_google_signature<'a>(
    call: &mut Fields<'a, '_>,
) -> json::Result<Option<ReasoningSignature<'a>>> {
    let signature = call.object("extra_content", |extra| {
        extra.ignore_rest();
        extra.object("google", |google| {
            google.ignore_rest();
            google.text("thought_signature")
        })
    })?;
    let signature = signature.flatten().flatten();
    Ok(signature.map(|value| ReasoningSignature::plain(SignatureOrigin::Gemini, value)))
}

/// Reads a tool's result and the cache mark in it.
fn read_tool_result<'a>(message: &mut Fields<'a, '_>) -> json::Result<Vec<Part<'a>>> {
    let call_id = message.required_text("tool_call_id")?;
    let content = message.content("content", read_part)?;
    Ok(tool_result(call_id, content, false))
}
