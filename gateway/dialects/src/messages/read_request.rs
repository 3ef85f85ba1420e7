//! A client's messages request, into the neutral model.

use std::borrow::Cow;

use crate::chat::read_effort;
use crate::json::{Invalid, Object, Path, Text, as_text, each};
use crate::neutral::{
    EMPTY_SCHEMA, Feature, Format, Origin, Part, Proof, Reasoning, Report, Request, Role, Sampling,
    Source, Tool, ToolCall, ToolChoice, Turn,
};
use crate::prepare::Refusal;

/// Fields that change nothing about the answer that is asked for, or only help Anthropic.
const HINTS: [&str; 5] = [
    "cache_control",
    "context_management",
    "service_tier",
    "speed",
    "diagnostics",
];

/// Fields of a tool that only help Anthropic.
const TOOL_HINTS: [&str; 4] = [
    "cache_control",
    "eager_input_streaming",
    "input_examples",
    "allowed_callers",
];

/// Reads a request whose body is known to be a JSON object.
pub(crate) fn read_request<'a>(body: &'a str, report: &mut Report) -> Result<Request<'a>, Refusal> {
    let root = Path::ROOT;
    let mut object = Object::read(body.trim_ascii(), root)?;
    object.take("model");
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
            .object("metadata", |mut metadata| metadata.text("user_id"))?
            .flatten(),
        reasoning: read_thinking(&mut object)?,
        ..Request::default()
    };
    object.each("stop_sequences", |raw, path| {
        request.stop.push(as_text(raw, path)?);
        Ok::<_, Invalid>(())
    })?;
    object.object("output_config", |config| {
        read_output_config(config, &mut request, report)
    })?;
    if let Some(format) = object.object("output_format", |format| read_format(format, report))? {
        request.format = format;
    }
    object.each("tools", |raw, path| {
        request
            .tools
            .extend(read_tool(Object::read(raw, *path)?, report)?);
        Ok::<_, Refusal>(())
    })?;
    object.object("tool_choice", |choice| {
        read_tool_choice(choice, &mut request)
    })?;
    read_system(&mut object, &mut request.turns, report)?;
    let had_messages = object.each("messages", |raw, path| {
        read_message(Object::read(raw, *path)?, &mut request.turns, report)
    })?;
    if !had_messages {
        return Err(object.missing("messages").into());
    }
    report.rest(&object, &HINTS)?;
    Ok(request)
}

fn read_thinking(object: &mut Object<'_, '_>) -> Result<Option<Reasoning>, Invalid> {
    object.object("thinking", |mut thinking| {
        let kind = thinking.required_text("type")?;
        let enabled = match kind.as_escaped() {
            "enabled" | "adaptive" => true,
            "disabled" => false,
            _ => {
                let reason = "must be enabled, adaptive or disabled";
                return Err(Invalid::new(&thinking.path().key("type"), reason));
            }
        };
        let budget_tokens = thinking.count("budget_tokens")?;
        Ok(Reasoning {
            enabled: Some(enabled),
            budget_tokens,
            ..Reasoning::default()
        })
    })
}

fn read_output_config<'a>(
    mut config: Object<'a, '_>,
    request: &mut Request<'a>,
    report: &mut Report,
) -> Result<(), Refusal> {
    if let Some(effort) = read_effort(&mut config, "effort")? {
        request.reasoning.get_or_insert_default().effort = Some(effort);
    }
    request.format = config
        .object("format", |format| read_format(format, report))?
        .flatten();
    report.rest(&config, &[])
}

fn read_format<'a>(
    mut format: Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Format<'a>>, Refusal> {
    if !format.required_text("type")?.is("json_schema") {
        report.unsupported(format.path().to_string())?;
        return Ok(None);
    }
    let schema = format.required("schema")?;
    Ok(Some(Format::JsonSchema {
        name: None,
        description: None,
        schema,
        strict: Some(true),
    }))
}

/// Tools that Anthropic itself runs, or whose schema only Claude knows, have a type of their own.
fn read_tool<'a>(
    mut tool: Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Tool<'a>>, Refusal> {
    if tool.text("type")?.is_some_and(|kind| !kind.is("custom")) {
        report.unsupported(tool.path().to_string())?;
        return Ok(None);
    }
    let read = Tool {
        name: tool.required_text("name")?,
        description: tool.text("description")?,
        schema: Cow::Borrowed(tool.take("input_schema").unwrap_or(EMPTY_SCHEMA)),
        strict: tool.flag("strict")?,
        is_free_text: false,
    };
    tool.take_if("defer_loading", |raw| raw == "false");
    report.rest(&tool, &TOOL_HINTS)?;
    Ok(Some(read))
}

fn read_tool_choice<'a>(
    mut choice: Object<'a, '_>,
    request: &mut Request<'a>,
) -> Result<(), Invalid> {
    let kind = choice.required_text("type")?;
    request.tool_choice = Some(match kind.as_escaped() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.required_text("name")?),
        _ => {
            let reason = "must be auto, any, none or tool";
            return Err(Invalid::new(&choice.path().key("type"), reason));
        }
    });
    let disabled = choice.flag("disable_parallel_tool_use")?;
    request.parallel_tools = disabled.map(|disabled| !disabled);
    Ok(())
}

fn read_system<'a>(
    object: &mut Object<'a, '_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut Report,
) -> Result<(), Refusal> {
    let Some(raw) = object.take("system") else {
        return Ok(());
    };
    let parts = read_content(raw, &object.path().key("system"), report)?;
    if !parts.is_empty() {
        turns.push(Turn {
            role: Role::System,
            parts,
        });
    }
    Ok(())
}

fn read_message<'a>(
    mut message: Object<'a, '_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut Report,
) -> Result<(), Refusal> {
    let role = message.required_text("role")?;
    let role = match role.as_escaped() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => {
            let reason = "must be user or assistant";
            return Err(Invalid::new(&message.path().key("role"), reason).into());
        }
    };
    let raw = message.required("content")?;
    let parts = read_content(raw, &message.path().key("content"), report)?;
    report.rest(&message, &[])?;
    turns.push(Turn { role, parts });
    Ok(())
}

/// Content: text, or blocks.
fn read_content<'a>(
    raw: &'a str,
    path: &Path<'_>,
    report: &mut Report,
) -> Result<Vec<Part<'a>>, Refusal> {
    let mut parts = Vec::new();
    if !raw.starts_with('[') {
        parts.push(Part::Text(as_text(raw, path)?));
        return Ok(parts);
    }
    // A signature of a tool call waits here for the call that it belongs to.
    let mut waiting = None;
    each(raw, path, |raw, path| {
        let part = read_block(Object::read(raw, *path)?, report)?;
        match part {
            // Gemini signs its calls, for which tool_use has no place: it stands before the call.
            Some(Part::Reasoning {
                text,
                proof: Some(proof),
            }) if proof.origin == Origin::Gemini => {
                waiting = Some(proof);
                parts.push(Part::Reasoning { text, proof: None });
            }
            Some(Part::ToolCall(mut call)) => {
                call.proof = waiting.take();
                parts.push(Part::ToolCall(call));
            }
            Some(part) => parts.push(part),
            None => {}
        }
        Ok::<_, Refusal>(())
    })?;
    Ok(parts)
}

fn read_block<'a>(
    mut block: Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Part<'a>>, Refusal> {
    let kind = block.required_text("type")?;
    let part = match kind.as_escaped() {
        "text" => Some(Part::Text(block.required_text("text")?)),
        "image" => read_source(&mut block, report)?.map(|source| Part::Image {
            source,
            detail: None,
        }),
        "document" => read_document(&mut block, report)?,
        "tool_use" => Some(Part::ToolCall(ToolCall {
            id: block.required_text("id")?,
            name: block.required_text("name")?,
            arguments: Cow::Borrowed(block.take("input").unwrap_or("{}")),
            proof: None,
        })),
        "tool_result" => Some(read_tool_result(&mut block, report)?),
        "thinking" => Some(Part::Reasoning {
            text: block.text("thinking")?.unwrap_or_default(),
            proof: block
                .text("signature")?
                .as_ref()
                .and_then(Proof::from_marked),
        }),
        // Only what this gateway marked means anything to a provider that is not Anthropic.
        "redacted_thinking" => {
            let proof = Proof::from_marked(&block.required_text("data")?);
            proof.map(|proof| Part::Reasoning {
                text: Text::EMPTY,
                proof: Some(proof),
            })
        }
        _ => {
            report.unsupported(format!("{}.type", block.path()))?;
            return Ok(None);
        }
    };
    report.rest(&block, &["cache_control", "citations", "caller"])?;
    Ok(part)
}

fn read_source<'a>(
    block: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Source<'a>>, Refusal> {
    let source = block.object("source", |mut source| {
        let kind = source.required_text("type")?;
        Ok::<_, Refusal>(match kind.as_escaped() {
            "base64" => Some(Source::Data {
                media_type: source.required_text("media_type")?,
                data: source.required_text("data")?,
            }),
            "url" => Some(Source::Url(source.required_text("url")?)),
            // A file that lies at Anthropic cannot be had by others.
            _ => {
                report.unsupported(source.path().to_string())?;
                None
            }
        })
    })?;
    source.ok_or_else(|| block.missing("source").into())
}

fn read_document<'a>(
    block: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Part<'a>>, Refusal> {
    let name = block.text("title")?;
    block.take_if("citations", |raw| raw.contains("false"));
    let context = block.text("context")?;
    if context.is_some() {
        report.lacks(Feature::Files)?;
    }
    let text = block.object_if("source", "text", |mut source| source.required_text("data"))?;
    if let Some(text) = text {
        return Ok(Some(Part::Text(text)));
    }
    Ok(read_source(block, report)?.map(|source| Part::File { source, name }))
}

fn read_tool_result<'a>(
    block: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Part<'a>, Refusal> {
    let call_id = block.required_text("tool_use_id")?;
    let is_error = block.flag("is_error")?.unwrap_or(false);
    let content = match block.take("content") {
        Some(raw) => read_content(raw, &block.path().key("content"), report)?,
        None => Vec::new(),
    };
    Ok(Part::ToolResult {
        call_id,
        content,
        is_error,
    })
}
