//! A client's responses request, into the neutral model.

use std::borrow::Cow;

use crate::chat::{
    Nesting, read_audio, read_effort, read_file, read_format, read_function, read_tool_choice,
};
use crate::json::{self, InvalidField, Object, Path, Text, as_text, each, each_object};
use crate::neutral::{
    Feature, LossReport, MediaSource, Part, Reasoning, ReasoningSignature, Request, Role, Sampling,
    SignatureOrigin, Summary, Tool, ToolCall, Turn, drop_misplaced_parts, free_text_arguments,
    free_text_tool, read_arguments, read_parts, take_message_mark, tool_result,
};

/// Fields that do not change the answer.
const IGNORED: [&str; 7] = [
    "client_metadata",
    // How a provider shortens a long conversation.
    "context_management",
    // A limit on tools that run at OpenAI, which are refused.
    "max_tool_calls",
    // OpenAI's chat takes it only with `store`.
    "metadata",
    "store",
    "stream_options",
    "truncation",
];

/// Reads a request whose body is known to be a JSON object.
pub(crate) fn read_request<'a>(
    body: &'a str,
    report: &mut LossReport,
) -> json::Result<Request<'a>> {
    let root = Path::ROOT;
    let mut object = Object::read(body.trim_ascii(), root)?;
    object.take("model");
    let mut request = Request {
        shared: report.take_openai_fields(&mut object),
        stream: object.flag("stream")?.unwrap_or(false),
        max_tokens: object.count("max_output_tokens")?,
        sampling: Sampling {
            temperature: object.number("temperature")?,
            top_p: object.number("top_p")?,
            ..Sampling::default()
        },
        user: object.text("user")?,
        parallel_tools: object.flag("parallel_tool_calls")?,
        reasoning: object.object("reasoning", |reasoning| {
            read_reasoning_config(reasoning, report)
        })?,
        ..Request::default()
    };
    object.object("text", |text| read_text_config(text, &mut request, report))?;
    object.each_object("tools", |tool| {
        request.tools.extend(read_tool(tool, report)?);
        Ok(())
    })?;
    request.tool_choice = read_tool_choice(&mut object, Nesting::Flat, report)?;
    if let Some(text) = object.text("instructions")? {
        request.turns.push(Turn {
            role: Role::System,
            parts: vec![Part::Text(text)],
        });
    }
    let input = object.required("input")?;
    read_input(input, &root.key("input"), &mut request.turns, report)?;
    read_include(&mut object, report)?;
    read_cache_options(&mut object, report)?;
    object.take_if("background", |raw| raw == "false");
    object.take_if("top_logprobs", |raw| raw == "0");
    report.remaining(&object, &IGNORED);
    Ok(request)
}

/// Options of the cache are OpenAI's own, but a request that only warms it wants no answer.
fn read_cache_options(object: &mut Object<'_, '_>, report: &mut LossReport) -> json::Result<()> {
    object.object("prompt_cache_options", |mut options| {
        options.take_if("prewarm", |raw| raw == "false");
        let ignorable = ["comparison_response_id", "mode", "ttl"];
        report.remaining(&options, &ignorable);
        Ok(())
    })?;
    Ok(())
}

/// What else the answer is to hold. Encrypted reasoning is always there; apart from log
/// probabilities, the rest belongs to tools that run at OpenAI.
fn read_include(object: &mut Object<'_, '_>, report: &mut LossReport) -> json::Result<()> {
    let Some(raw) = object.take("include") else {
        return Ok(());
    };
    each(raw, &object.path().key("include"), |raw, path| {
        match as_text(raw, path)?.as_escaped() {
            "reasoning.encrypted_content" => {}
            word if word.contains("logprobs") => {
                report.unsupported_field(format!("{path} ({word})"));
            }
            _ => report.ignored("include"),
        }
        Ok(())
    })
}

fn read_reasoning_config(
    mut config: Object<'_, '_>,
    report: &mut LossReport,
) -> json::Result<Reasoning> {
    let summary = match config.text("summary")? {
        Some(word) => Some(word),
        None => config.text("generate_summary")?,
    };
    let summary = match summary.as_ref().map(Text::as_escaped) {
        None => None,
        Some("auto") => Some(Summary::Auto),
        Some("concise") => Some(Summary::Concise),
        Some("detailed") => Some(Summary::Detailed),
        Some(_) => {
            let reason = "must be auto, concise or detailed";
            return Err(InvalidField::new(config.path().key("summary"), reason));
        }
    };
    let effort = read_effort(&mut config, "effort")?;
    report.remaining(&config, &[]);
    Ok(Reasoning {
        effort,
        summary,
        ..Reasoning::default()
    })
}

fn read_text_config<'a>(
    mut text: Object<'a, '_>,
    request: &mut Request<'a>,
    report: &mut LossReport,
) -> json::Result<()> {
    request.format = text
        .object("format", |format| {
            read_format(format, Nesting::Flat, report)
        })?
        .flatten();
    request.verbosity = report.take_verbosity(&mut text)?;
    report.remaining(&text, &[]);
    Ok(())
}

fn read_tool<'a>(
    mut tool: Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<Tool<'a>>> {
    let kind = tool.required_text("type")?;
    match kind.as_escaped() {
        "function" => read_function(tool, report).map(Some),
        "custom" => free_text_tool(tool, report).map(Some),
        // Tools that run at OpenAI.
        _ => {
            report.unsupported_field(format!("{} ({})", tool.path(), kind.as_escaped()));
            Ok(None)
        }
    }
}

fn read_input<'a>(
    raw: &'a str,
    path: &Path<'_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut LossReport,
) -> json::Result<()> {
    if !raw.starts_with('[') {
        let parts = vec![Part::Text(as_text(raw, path)?)];
        turns.push(Turn {
            role: Role::User,
            parts,
        });
        return Ok(());
    }
    each_object(raw, path, |item| read_item(item, turns, report))
}

fn read_item<'a>(
    mut item: Object<'a, '_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut LossReport,
) -> json::Result<()> {
    let kind = item.text("type")?.unwrap_or(Text::escaped("message"));
    for bookkeeping in ["id", "status"] {
        item.take(bookkeeping);
    }
    match kind.as_escaped() {
        "message" => return read_message(item, turns, report),
        "function_call" => {
            let arguments = item.text("arguments")?.unwrap_or_default();
            let arguments = read_arguments(&arguments, &item.path().key("arguments"))?;
            push_call(&mut item, arguments, turns)?;
        }
        "custom_tool_call" => {
            let arguments = free_text_arguments(&item.required_text("input")?);
            push_call(&mut item, arguments, turns)?;
        }
        "function_call_output" | "custom_tool_call_output" => {
            let call_id = item.required_text("call_id")?;
            let raw = item.required("output")?;
            let content = read_content(raw, &item.path().key("output"), report)?;
            push(turns, Role::User, tool_result(call_id, content, false));
        }
        "reasoning" => {
            let parts = read_reasoning(&mut item, report)?;
            push(turns, Role::Assistant, parts);
        }
        _ => {
            report.unsupported_field(format!("{} ({})", item.path(), kind.as_escaped()));
            return Ok(());
        }
    }
    report.remaining(&item, &["name"]);
    Ok(())
}

fn push_call<'a>(
    item: &mut Object<'a, '_>,
    arguments: Cow<'a, str>,
    turns: &mut Vec<Turn<'a>>,
) -> json::Result<()> {
    let call = ToolCall {
        id: item.required_text("call_id")?,
        name: item.required_text("name")?,
        arguments,
        // Clients return Gemini's signature of a call as the reasoning before it.
        signature: take_gemini_signature(turns),
    };
    push(turns, Role::Assistant, vec![Part::ToolCall(call)]);
    Ok(())
}

fn take_gemini_signature<'a>(turns: &mut [Turn<'a>]) -> Option<ReasoningSignature<'a>> {
    let last = turns.last_mut()?;
    match last.parts.last_mut()? {
        Part::Reasoning { signature, .. } if last.role == Role::Assistant => {
            signature.take_if(|signature| signature.origin == SignatureOrigin::Gemini)
        }
        _ => None,
    }
}

/// Adds to the last turn if both are the assistant's: its items are one turn in other dialects.
fn push<'a>(turns: &mut Vec<Turn<'a>>, role: Role, parts: Vec<Part<'a>>) {
    match turns.last_mut() {
        Some(last) if last.role == role && role == Role::Assistant => last.parts.extend(parts),
        _ => turns.push(Turn { role, parts }),
    }
}

fn read_message<'a>(
    mut message: Object<'a, '_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut LossReport,
) -> json::Result<()> {
    let role = message.required_text("role")?;
    let role = match role.as_escaped() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => {
            let reason = "must be system, developer, user or assistant";
            return Err(InvalidField::new(message.path().key("role"), reason));
        }
    };
    let raw = message.required("content")?;
    let mut parts = read_content(raw, &message.path().key("content"), report)?;
    drop_misplaced_parts(&mut parts, role, report);
    report.remaining(&message, &["phase"]);
    push(turns, role, parts);
    Ok(())
}

fn read_content<'a>(
    raw: &'a str,
    path: &Path<'_>,
    report: &mut LossReport,
) -> json::Result<Vec<Part<'a>>> {
    read_parts(raw, path, |part, parts| read_part(part, parts, report))
}

fn read_part<'a>(
    mut part: Object<'a, '_>,
    parts: &mut Vec<Part<'a>>,
    report: &mut LossReport,
) -> json::Result<()> {
    let mark = take_message_mark(&mut part, report)?;
    let kind = part.required_text("type")?;
    let read = match kind.as_escaped() {
        "input_text" | "output_text" | "text" => Some(Part::Text(part.required_text("text")?)),
        "refusal" => Some(Part::Refusal(part.required_text("refusal")?)),
        "input_image" => read_image(&mut part, report)?,
        "input_audio" => part.object("input_audio", |audio| read_audio(audio, report))?,
        "input_file" => match part.text("file_url")? {
            Some(url) => Some(Part::File {
                source: MediaSource::Url(url),
                name: part.text("filename")?,
            }),
            None => {
                parts.extend(read_file(part, report)?);
                parts.extend(mark.map(Part::CacheMark));
                return Ok(());
            }
        },
        _ => {
            report.unsupported_field(format!("{} ({})", part.path(), kind.as_escaped()));
            return Ok(());
        }
    };
    report.remaining(&part, &["annotations", "detail", "logprobs"]);
    parts.extend(read);
    parts.extend(mark.map(Part::CacheMark));
    Ok(())
}

fn read_image<'a>(
    part: &mut Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Option<Part<'a>>> {
    let detail = part.text("detail")?;
    match part.text("image_url")? {
        Some(url) => Ok(Some(Part::Image {
            source: MediaSource::from_url(&url),
            detail,
        })),
        // Other providers cannot fetch a file that is stored at OpenAI.
        None => {
            part.take("file_id");
            report.unsupported(Feature::Images);
            Ok(None)
        }
    }
}

/// A reasoning item: its text from `summary` or `content`, its signature from `encrypted_content`.
fn read_reasoning<'a>(
    item: &mut Object<'a, '_>,
    report: &mut LossReport,
) -> json::Result<Vec<Part<'a>>> {
    let mut text = Text::EMPTY;
    for key in ["summary", "content"] {
        item.each_object(key, |mut part| {
            part.take("type");
            if let Some(part) = part.text("text")? {
                text.push(&part);
            }
            report.ignore_remaining(&part);
            Ok(())
        })?;
    }
    let signature = item
        .text("encrypted_content")?
        .as_ref()
        .and_then(ReasoningSignature::from_marked);
    Ok(vec![Part::Reasoning { text, signature }])
}
