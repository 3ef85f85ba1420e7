//! A client's messages request, into the neutral model.

use std::borrow::Cow;

use crate::json::{self, Object, Text};
use crate::neutral::{
    Effort, Feature, Fields, Format, JsonSchema, LossReport, MediaSource, Part, Reasoning,
    ReasoningSignature, Request, Role, Sampling, SignatureOrigin, Tool, ToolCall, ToolChoice, Turn,
    is_empty_list, read_arguments_schema, take_message_mark, take_tool_mark, tool_result,
};

/// Fields that do not change the answer, or only help Anthropic.
const IGNORED: [&str; 4] = ["context_management", "service_tier", "speed", "diagnostics"];

/// Fields of a tool that only help Anthropic.
const IGNORED_IN_TOOLS: [&str; 3] = ["eager_input_streaming", "input_examples", "allowed_callers"];

/// Reads a request whose body is known to be a JSON object.
pub(crate) fn read_request<'a>(
    body: &'a str,
    report: &mut LossReport,
) -> json::Result<Request<'a>> {
    Fields::read_body(body, report, |object| {
        object.ignore(&IGNORED);
        object.take("model");
        object.take_harmless("mcp_servers", is_empty_list);
        object.take_harmless("inference_geo", |raw| raw == r#""global""#);
        let mut request = Request {
            stream: object.flag("stream")?.unwrap_or(false),
            max_tokens: object.count("max_tokens")?,
            sampling: Sampling {
                temperature: object.number("temperature")?,
                top_p: object.number("top_p")?,
                top_k: object.count("top_k")?,
                ..Sampling::default()
            },
            user: object
                .object("metadata", |metadata| {
                    metadata.ignore_rest();
                    metadata.text("user_id")
                })?
                .flatten(),
            reasoning: object.object("thinking", read_thinking)?,
            cache_control: take_tool_mark(object)?,
            stop: object.texts("stop_sequences")?,
            ..Request::default()
        };
        object.object("output_config", |config| {
            if let Some(effort) = config.one_of("effort", &Effort::WORDS)? {
                request.reasoning.get_or_insert_default().effort = Some(effort);
            }
            request.format = config.object("format", read_format)?.flatten();
            Ok(())
        })?;
        if let Some(format) = object.object("output_format", read_format)? {
            request.format = format;
        }
        request.tools = object.list("tools", read_tool)?;
        object.object("tool_choice", |choice| {
            request.tool_choice = Some(read_tool_choice(choice)?);
            let disabled = choice.flag("disable_parallel_tool_use")?;
            request.parallel_tools = disabled.map(|disabled| !disabled);
            Ok(())
        })?;
        let system = read_content(object, "system")?;
        let system = Turn::new(Role::System, system, object.report);
        request
            .turns
            .extend(Some(system).filter(|turn| !turn.parts.is_empty()));
        let turns = object.required_list("messages", |turn| read_message(turn).map(Some))?;
        request.turns.extend(turns);
        request.is_prefill = request.turns.last().is_some_and(Turn::begins_answer);
        Ok(request)
    })
}

fn read_thinking(thinking: &mut Fields<'_, '_>) -> json::Result<Reasoning> {
    thinking.ignore(&["display", "block_binding"]);
    let kind = thinking.required_text("type")?;
    let budget_tokens = thinking.count("budget_tokens")?;
    // Only between calls: the least that there is.
    let is_least = kind.is("between_tools");
    thinking
        .report
        .approximated_if(is_least, Feature::Reasoning);
    thinking_of(&kind, budget_tokens).ok_or_else(|| {
        let reason = "must be adaptive, enabled, between_tools or disabled";
        thinking.invalid("type", reason)
    })
}

/// What a type of thinking stands for.
pub(super) fn thinking_of(kind: &Text<'_>, budget_tokens: Option<u64>) -> Option<Reasoning> {
    let (enabled, effort) = match kind.as_escaped() {
        "enabled" => (true, None),
        // What adaptive thinking does unless an effort is set
        // (platform.claude.com/docs/en/build-with-claude/effort).
        "adaptive" => (true, Some(Effort::High)),
        "disabled" | "between_tools" => (false, None),
        _ => return None,
    };
    Some(Reasoning {
        enabled: Some(enabled),
        effort,
        budget_tokens,
        ..Reasoning::default()
    })
}

fn read_format<'a>(format: &mut Fields<'a, '_>) -> json::Result<Option<Format<'a>>> {
    if !format.required_text("type")?.is("json_schema") {
        format.unsupported("");
        return Ok(None);
    }
    Ok(Some(Format::JsonSchema(JsonSchema {
        name: None,
        description: None,
        schema: format.required("schema")?,
        strict: Some(true),
    })))
}

/// Reads a tool. Tools that Anthropic runs, or whose schema only Claude knows, have another type.
fn read_tool<'a>(tool: &mut Fields<'a, '_>) -> json::Result<Option<Tool<'a>>> {
    tool.ignore(&IGNORED_IN_TOOLS);
    if tool.text("type")?.is_some_and(|kind| !kind.is("custom")) {
        tool.unsupported("");
        return Ok(None);
    }
    let read = Tool {
        name: tool.required_text("name")?,
        description: tool.text("description")?,
        schema: read_arguments_schema(tool, "input_schema")?,
        strict: tool.flag("strict")?,
        free_text: None,
        cache_control: take_tool_mark(tool)?,
    };
    tool.take_if("defer_loading", |raw| raw == "false");
    Ok(Some(read))
}

fn read_tool_choice<'a>(choice: &mut Object<'a, '_>) -> json::Result<ToolChoice<'a>> {
    let kind = choice.required_text("type")?;
    Ok(match kind.as_escaped() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.required_text("name")?),
        _ => return Err(choice.invalid("type", "must be auto, any, none or tool")),
    })
}

fn read_message<'a>(message: &mut Fields<'a, '_>) -> json::Result<Turn<'a>> {
    let role = match message.required_text("role")?.as_escaped() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(message.invalid("role", "must be user or assistant")),
    };
    message.require("content")?;
    let parts = read_content(message, "content")?;
    Ok(Turn::new(role, parts, message.report))
}

/// Content: a string, or blocks. Gemini signs its calls. `tool_use` has no place for that, so the
/// signature stands before the call.
fn read_content<'a>(message: &mut Fields<'a, '_>, key: &str) -> json::Result<Vec<Part<'a>>> {
    let mut parts = message.content(key, read_block)?;
    let mut waiting = None;
    for part in &mut parts {
        match part {
            Part::Reasoning { signature, .. } => {
                let is_of_call =
                    |signed: &mut ReasoningSignature<'_>| signed.origin == SignatureOrigin::Gemini;
                waiting = signature.take_if(is_of_call).or_else(|| waiting.take());
            }
            Part::ToolCall(call) => call.signature = waiting.take(),
            _ => {}
        }
    }
    Ok(parts)
}

/// Reads a block and its cache mark.
fn read_block<'a>(block: &mut Fields<'a, '_>, parts: &mut Vec<Part<'a>>) -> json::Result<()> {
    let kind = block.required_text("type")?;
    let part = match kind.as_escaped() {
        "text" => {
            // Citations and callers are only kept for the record.
            block.ignore(&["citations"]);
            Some(Part::Text(block.required_text("text")?))
        }
        "image" => block
            .required_object("source", read_source)?
            .map(|source| Part::Image {
                source,
                detail: None,
            }),
        "document" => read_document(block)?,
        "tool_use" => {
            block.ignore(&["caller"]);
            Some(Part::ToolCall(ToolCall {
                id: block.required_text("id")?,
                name: block.required_text("name")?,
                arguments: Cow::Borrowed(block.take("input").unwrap_or("{}")),
                free_text: None,
                signature: None,
            }))
        }
        "tool_result" => {
            parts.extend(read_tool_result(block)?);
            return Ok(());
        }
        "thinking" => Some(Part::Reasoning {
            text: block.text("thinking")?.unwrap_or_default(),
            signature: block
                .text("signature")?
                .as_ref()
                .and_then(ReasoningSignature::from_marked),
        }),
        // Only what this gateway marked is of use to a provider that is not Anthropic.
        "redacted_thinking" => {
            let signature = ReasoningSignature::from_marked(&block.required_text("data")?);
            signature.map(|signature| Part::Reasoning {
                text: Text::EMPTY,
                signature: Some(signature),
            })
        }
        _ => {
            block.unsupported(".type");
            return Ok(());
        }
    };
    parts.extend(part);
    parts.extend(take_message_mark(block)?.map(Part::CacheMark));
    Ok(())
}

fn read_source<'a>(source: &mut Fields<'a, '_>) -> json::Result<Option<MediaSource<'a>>> {
    match source.required_text("type")?.as_escaped() {
        "base64" => Ok(Some(MediaSource::Data {
            media_type: source.required_text("media_type")?,
            data: source.required_text("data")?,
        })),
        "url" => Ok(Some(MediaSource::from_url(&source.required_text("url")?))),
        // Other providers cannot fetch a file that is stored at Anthropic.
        _ => {
            source.unsupported("");
            Ok(None)
        }
    }
}

fn read_document<'a>(block: &mut Fields<'a, '_>) -> json::Result<Option<Part<'a>>> {
    let name = block.text("title")?;
    let has_name = name.is_some();
    block.take_if("citations", |raw| raw.contains("false"));
    let part = block.required_object("source", |source| {
        if source.required_text("type")?.is("text") {
            source.take("media_type");
            return Ok(Some(Part::Text(source.required_text("data")?)));
        }
        let source = read_source(source)?;
        Ok(source.map(|source| Part::File { source, name }))
    })?;
    if has_name && matches!(part, Some(Part::Text(_))) {
        block.report.approximated(Feature::FileName);
    }
    Ok(part)
}

/// Reads a tool's result and its cache mark.
fn read_tool_result<'a>(block: &mut Fields<'a, '_>) -> json::Result<Vec<Part<'a>>> {
    let call_id = block.required_text("tool_use_id")?;
    let is_error = block.flag("is_error")?.unwrap_or(false);
    let mut content = read_content(block, "content")?;
    content.extend(take_message_mark(block)?.map(Part::CacheMark));
    Ok(tool_result(call_id, content, is_error))
}
