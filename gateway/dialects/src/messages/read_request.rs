//! A client's messages request, into the neutral model.

use std::borrow::Cow;

use crate::chat::{read_effort, read_texts};
use crate::json::{self, InvalidField, Object, Path, Text};
use crate::neutral::{
    EMPTY_SCHEMA, Feature, Format, JsonSchema, LossReport, MediaSource, Part, Reasoning,
    ReasoningSignature, Request, Role, Sampling, SignatureOrigin, Tool, ToolCall, ToolChoice, Turn,
    drop_misplaced_parts, read_parts, take_message_mark, take_tool_mark, tool_result,
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
    let mut object = Object::read(body.trim_ascii(), Path::ROOT)?;
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
            .object("metadata", |mut metadata| {
                let user = metadata.text("user_id")?;
                report.ignore_remaining(&metadata);
                Ok(user)
            })?
            .flatten(),
        reasoning: read_thinking(&mut object, report)?,
        cache_control: take_tool_mark(&mut object, report)?,
        ..Request::default()
    };
    if let Some(raw) = object.take("stop_sequences") {
        request.stop = read_texts(raw, &object.path().key("stop_sequences"))?;
    }
    object.object("output_config", |config| {
        read_output_config(config, &mut request, report)
    })?;
    if let Some(format) = object.object("output_format", |format| read_format(format, report))? {
        request.format = format;
    }
    object.each_object("tools", |tool| {
        request.tools.extend(read_tool(tool, report)?);
        Ok(())
    })?;
    object.object("tool_choice", |choice| {
        read_tool_choice(choice, &mut request, report)
    })?;
    read_system(&mut object, &mut request.turns, report)?;
    let had_messages = object.each_object("messages", |message| {
        read_message(message, &mut request.turns, report)
    })?;
    if !had_messages {
        return Err(object.missing("messages"));
    }
    request.is_prefill = request.turns.last().is_some_and(begins_answer);
    report.remaining(&object, &IGNORED);
    Ok(request)
}

/// Claude continues the last turn if it is the assistant's.
fn begins_answer(turn: &Turn<'_>) -> bool {
    let is_call = |part: &Part<'_>| matches!(part, Part::ToolCall(_));
    turn.role == Role::Assistant && !turn.parts.iter().any(is_call)
}

fn read_thinking(
    object: &mut Object<'_, '_>,
    report: &mut LossReport,
) -> json::Result<Option<Reasoning>> {
    object.object("thinking", |mut thinking| {
        let kind = thinking.required_text("type")?;
        let enabled = match kind.as_escaped() {
            "enabled" | "adaptive" => true,
            "disabled" => false,
            _ => {
                let reason = "must be enabled, adaptive or disabled";
                return Err(InvalidField::new(thinking.path().key("type"), reason));
            }
        };
        let budget_tokens = thinking.count("budget_tokens")?;
        report.remaining(&thinking, &["display"]);
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
    report: &mut LossReport,
) -> json::Result<()> {
    if let Some(effort) = read_effort(&mut config, "effort")? {
        request.reasoning.get_or_insert_default().effort = Some(effort);
    }
    request.format = config
        .object("format", |format| read_format(format, report))?
        .flatten();
    report.remaining(&config, &[]);
    Ok(())
}

fn read_format<'a>(
    mut format: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<Format<'a>>> {
    if !format.required_text("type")?.is("json_schema") {
        report.unsupported_field(format.path().to_string());
        return Ok(None);
    }
    let schema = format.required("schema")?;
    report.remaining(&format, &[]);
    Ok(Some(Format::JsonSchema(JsonSchema {
        name: None,
        description: None,
        schema,
        strict: Some(true),
    })))
}

/// Reads a tool. Tools that Anthropic runs, or whose schema only Claude knows, have another type.
fn read_tool<'a>(
    mut tool: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<Tool<'a>>> {
    if tool.text("type")?.is_some_and(|kind| !kind.is("custom")) {
        report.unsupported_field(tool.path().to_string());
        return Ok(None);
    }
    let read = Tool {
        name: tool.required_text("name")?,
        description: tool.text("description")?,
        schema: tool.take("input_schema").unwrap_or(EMPTY_SCHEMA),
        strict: tool.flag("strict")?,
        is_free_text: false,
        cache_control: take_tool_mark(&mut tool, report)?,
    };
    tool.take_if("defer_loading", |raw| raw == "false");
    report.remaining(&tool, &IGNORED_IN_TOOLS);
    Ok(Some(read))
}

fn read_tool_choice<'a>(
    mut choice: Object<'a, '_>,
    request: &mut Request<'a>,
    report: &mut LossReport,
) -> json::Result<()> {
    let kind = choice.required_text("type")?;
    request.tool_choice = Some(match kind.as_escaped() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.required_text("name")?),
        _ => {
            let reason = "must be auto, any, none or tool";
            return Err(InvalidField::new(choice.path().key("type"), reason));
        }
    });
    let disabled = choice.flag("disable_parallel_tool_use")?;
    request.parallel_tools = disabled.map(|disabled| !disabled);
    report.remaining(&choice, &[]);
    Ok(())
}

fn read_system<'a>(
    object: &mut Object<'a, '_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut LossReport,
) -> json::Result<()> {
    let Some(raw) = object.take("system") else {
        return Ok(());
    };
    let mut parts = read_content(raw, &object.path().key("system"), report)?;
    drop_misplaced_parts(&mut parts, Role::System, report);
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
    report: &mut LossReport,
) -> json::Result<()> {
    let role = message.required_text("role")?;
    let role = match role.as_escaped() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => {
            let reason = "must be user or assistant";
            return Err(InvalidField::new(message.path().key("role"), reason));
        }
    };
    let raw = message.required("content")?;
    let mut parts = read_content(raw, &message.path().key("content"), report)?;
    drop_misplaced_parts(&mut parts, role, report);
    report.remaining(&message, &[]);
    turns.push(Turn { role, parts });
    Ok(())
}

/// Content: a string, or blocks.
fn read_content<'a>(
    raw: &'a str,
    path: &Path<'_>,
    report: &mut LossReport,
) -> json::Result<Vec<Part<'a>>> {
    // The signature of the next tool call.
    let mut waiting = None;
    read_parts(raw, path, |block, parts| {
        for mut part in read_block(block, report)? {
            match &mut part {
                // Gemini signs its calls. `tool_use` has no place for that, so the signature stands
                // before the call.
                Part::Reasoning { signature, .. } => {
                    let is_of_call = |signed: &mut ReasoningSignature<'_>| {
                        signed.origin == SignatureOrigin::Gemini
                    };
                    waiting = signature.take_if(is_of_call).or_else(|| waiting.take());
                }
                Part::ToolCall(call) => call.signature = waiting.take(),
                _ => {}
            }
            parts.push(part);
        }
        Ok(())
    })
}

/// Reads a block and its cache mark.
fn read_block<'a>(
    mut block: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Vec<Part<'a>>> {
    let kind = block.required_text("type")?;
    if kind.is("tool_result") {
        return read_tool_result(block, report);
    }
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
            signature: None,
        })),
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
            report.unsupported_field(format!("{}.type", block.path()));
            return Ok(Vec::new());
        }
    };
    let mark = take_message_mark(&mut block, report)?;
    // Citations and callers are only kept for the record.
    let hints: &[&str] = match kind.as_escaped() {
        "text" => &["citations"],
        "tool_use" => &["caller"],
        _ => &[],
    };
    report.remaining(&block, hints);
    Ok(part.into_iter().chain(mark.map(Part::CacheMark)).collect())
}

fn read_source<'a>(
    block: &mut Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<MediaSource<'a>>> {
    let source = block.object("source", |mut source| {
        let kind = source.required_text("type")?;
        let read = match kind.as_escaped() {
            "base64" => MediaSource::Data {
                media_type: source.required_text("media_type")?,
                data: source.required_text("data")?,
            },
            "url" => MediaSource::Url(source.required_text("url")?),
            // Other providers cannot fetch a file that is stored at Anthropic.
            _ => {
                report.unsupported_field(source.path().to_string());
                return Ok(None);
            }
        };
        report.remaining(&source, &[]);
        Ok(Some(read))
    })?;
    source.ok_or_else(|| block.missing("source"))
}

fn read_document<'a>(
    block: &mut Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<Part<'a>>> {
    let name = block.text("title")?;
    block.take_if("citations", |raw| raw.contains("false"));
    let text = block.object_if("source", "text", |mut source| {
        source.take("media_type");
        let text = source.required_text("data")?;
        report.remaining(&source, &[]);
        Ok(text)
    })?;
    if let Some(text) = text {
        if name.is_some() {
            report.approximated(Feature::FileName);
        }
        return Ok(Some(Part::Text(text)));
    }
    Ok(read_source(block, report)?.map(|source| Part::File { source, name }))
}

/// Reads a tool's result and its cache mark.
fn read_tool_result<'a>(
    mut block: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Vec<Part<'a>>> {
    let call_id = block.required_text("tool_use_id")?;
    let is_error = block.flag("is_error")?.unwrap_or(false);
    let mut content = match block.take("content") {
        Some(raw) => read_content(raw, &block.path().key("content"), report)?,
        None => Vec::new(),
    };
    let mark = take_message_mark(&mut block, report)?;
    content.extend(mark.map(Part::CacheMark));
    report.remaining(&block, &[]);
    Ok(tool_result(call_id, content, is_error))
}
