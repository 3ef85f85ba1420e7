//! A client's messages request, into the neutral model.

use std::borrow::Cow;

use crate::chat::read_effort;
use crate::json::{Invalid, Object, Path, Text, as_text, each};
use crate::neutral::{
    EMPTY_SCHEMA, Feature, Format, Origin, Part, Proof, Reasoning, Report, Request, Role, Sampling,
    Source, Tool, ToolCall, ToolChoice, Turn, keep_in_place, take_mark, tool_result,
};
use crate::prepare::Refusal;

/// Fields that change nothing about the answer that is asked for, or only help Anthropic.
const HINTS: [&str; 4] = ["context_management", "service_tier", "speed", "diagnostics"];

/// Fields of a tool that only help Anthropic.
const TOOL_HINTS: [&str; 3] = ["eager_input_streaming", "input_examples", "allowed_callers"];

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
            .object("metadata", |mut metadata| {
                let user = metadata.text("user_id")?;
                report.rest_is_bookkeeping(&metadata);
                Ok::<_, Invalid>(user)
            })?
            .flatten(),
        reasoning: read_thinking(&mut object, report)?,
        cache_control: take_mark(&mut object, report.cache_marks.everywhere(), report)?,
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
        read_tool_choice(choice, &mut request, report)
    })?;
    read_system(&mut object, &mut request.turns, report)?;
    let had_messages = object.each("messages", |raw, path| {
        read_message(Object::read(raw, *path)?, &mut request.turns, report)
    })?;
    if !had_messages {
        return Err(object.missing("messages").into());
    }
    request.is_begun = request.turns.last().is_some_and(begins_answer);
    report.rest(&object, &HINTS)?;
    Ok(request)
}

/// Claude goes on with what the last turn begins, if that is the assistant's.
fn begins_answer(turn: &Turn<'_>) -> bool {
    let is_call = |part: &Part<'_>| matches!(part, Part::ToolCall(_));
    turn.role == Role::Assistant && !turn.parts.iter().any(is_call)
}

fn read_thinking(
    object: &mut Object<'_, '_>,
    report: &mut Report,
) -> Result<Option<Reasoning>, Refusal> {
    object.object("thinking", |mut thinking| {
        let kind = thinking.required_text("type")?;
        let enabled = match kind.as_escaped() {
            "enabled" | "adaptive" => true,
            "disabled" => false,
            _ => {
                let reason = "must be enabled, adaptive or disabled";
                return Err(Invalid::new(&thinking.path().key("type"), reason).into());
            }
        };
        let budget_tokens = thinking.count("budget_tokens")?;
        report.rest(&thinking, &["display"])?;
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
    report.rest(&format, &[])?;
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
        cache_control: take_mark(&mut tool, report.cache_marks.everywhere(), report)?,
    };
    tool.take_if("defer_loading", |raw| raw == "false");
    report.rest(&tool, &TOOL_HINTS)?;
    Ok(Some(read))
}

fn read_tool_choice<'a>(
    mut choice: Object<'a, '_>,
    request: &mut Request<'a>,
    report: &mut Report,
) -> Result<(), Refusal> {
    let kind = choice.required_text("type")?;
    request.tool_choice = Some(match kind.as_escaped() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Named(choice.required_text("name")?),
        _ => {
            let reason = "must be auto, any, none or tool";
            return Err(Invalid::new(&choice.path().key("type"), reason).into());
        }
    });
    let disabled = choice.flag("disable_parallel_tool_use")?;
    request.parallel_tools = disabled.map(|disabled| !disabled);
    report.rest(&choice, &[])
}

fn read_system<'a>(
    object: &mut Object<'a, '_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut Report,
) -> Result<(), Refusal> {
    let Some(raw) = object.take("system") else {
        return Ok(());
    };
    let mut parts = read_content(raw, &object.path().key("system"), report)?;
    keep_in_place(&mut parts, Role::System, report)?;
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
    let mut parts = read_content(raw, &message.path().key("content"), report)?;
    keep_in_place(&mut parts, role, report)?;
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
        for part in read_block(Object::read(raw, *path)?, report)? {
            parts.push(match part {
                // Gemini signs its calls, for which tool_use has no place: it stands before the
                // call.
                Part::Reasoning {
                    text,
                    proof: Some(proof),
                } if proof.origin == Origin::Gemini => {
                    waiting = Some(proof);
                    Part::Reasoning { text, proof: None }
                }
                Part::ToolCall(mut call) => {
                    call.proof = waiting.take();
                    Part::ToolCall(call)
                }
                part => part,
            });
        }
        Ok::<_, Refusal>(())
    })?;
    Ok(parts)
}

/// A block, and the cache mark that it carries.
fn read_block<'a>(
    mut block: Object<'a, '_>,
    report: &mut Report,
) -> Result<Vec<Part<'a>>, Refusal> {
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
            proof: None,
        })),
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
            return Ok(Vec::new());
        }
    };
    let mark = take_mark(&mut block, report.cache_marks.in_messages(), report)?;
    // What an answer cited, and who called a tool, is brought back for the record.
    let hints: &[&str] = match kind.as_escaped() {
        "text" => &["citations"],
        "tool_use" => &["caller"],
        _ => &[],
    };
    report.rest(&block, hints)?;
    Ok(part.into_iter().chain(mark.map(Part::CacheMark)).collect())
}

fn read_source<'a>(
    block: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Source<'a>>, Refusal> {
    let source = block.object("source", |mut source| {
        let kind = source.required_text("type")?;
        let read = match kind.as_escaped() {
            "base64" => Source::Data {
                media_type: source.required_text("media_type")?,
                data: source.required_text("data")?,
            },
            "url" => Source::Url(source.required_text("url")?),
            // A file that lies at Anthropic cannot be had by others.
            _ => {
                report.unsupported(source.path().to_string())?;
                return Ok(None);
            }
        };
        report.rest(&source, &[])?;
        Ok::<_, Refusal>(Some(read))
    })?;
    source.ok_or_else(|| block.missing("source").into())
}

fn read_document<'a>(
    block: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Part<'a>>, Refusal> {
    let name = block.text("title")?;
    block.take_if("citations", |raw| raw.contains("false"));
    let text = block.object_if("source", "text", |mut source| {
        source.take("media_type");
        let text = source.required_text("data")?;
        report.rest(&source, &[])?;
        Ok::<_, Refusal>(text)
    })?;
    if let Some(text) = text {
        if name.is_some() {
            report.bends(Feature::FileName);
        }
        return Ok(Some(Part::Text(text)));
    }
    Ok(read_source(block, report)?.map(|source| Part::File { source, name }))
}

/// The result, and the cache mark that it carries.
fn read_tool_result<'a>(
    mut block: Object<'a, '_>,
    report: &mut Report,
) -> Result<Vec<Part<'a>>, Refusal> {
    let call_id = block.required_text("tool_use_id")?;
    let is_error = block.flag("is_error")?.unwrap_or(false);
    let mut content = match block.take("content") {
        Some(raw) => read_content(raw, &block.path().key("content"), report)?,
        None => Vec::new(),
    };
    let mark = take_mark(&mut block, report.cache_marks.in_messages(), report)?;
    content.extend(mark.map(Part::CacheMark));
    report.rest(&block, &[])?;
    Ok(tool_result(call_id, content, is_error))
}
