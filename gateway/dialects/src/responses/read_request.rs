//! A client's responses request, into the neutral model.

use std::borrow::Cow;

use crate::chat::{Nesting, read_audio, read_file, read_format, read_function, read_tool_choice};
use crate::json::{self, Object, Text, as_text, value_of};
use crate::neutral::{
    Effort, Feature, Fields, LossReport, MediaSource, Part, Reasoning, ReasoningSignature, Request,
    Role, Sampling, SignatureOrigin, Summary, Tool, ToolCall, Turn, free_text_arguments,
    free_text_tool, read_arguments, take_message_mark, tool_result,
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
    Fields::read_body(body, report, |object| {
        object.ignore(&IGNORED);
        object.take("model");
        let mut request = Request {
            shared: object.openai_fields(),
            stream: object.flag("stream")?.unwrap_or(false),
            max_tokens: object.count("max_output_tokens")?,
            sampling: Sampling {
                temperature: object.number("temperature")?,
                top_p: object.number("top_p")?,
                ..Sampling::default()
            },
            user: object.text("user")?,
            parallel_tools: object.flag("parallel_tool_calls")?,
            reasoning: object.object("reasoning", read_reasoning_config)?,
            ..Request::default()
        };
        object.object("text", |text| {
            let format = text.object("format", |format| read_format(format, Nesting::Flat))?;
            request.format = format.flatten();
            request.verbosity = text.verbosity()?;
            Ok(())
        })?;
        request.tools = object.list("tools", read_tool)?;
        request.tool_choice = read_tool_choice(object, Nesting::Flat, &mut request.tools)?;
        let instructions = object.text("instructions")?;
        request.turns.extend(instructions.map(|text| Turn {
            role: Role::System,
            parts: vec![Part::Text(text)],
        }));
        read_input(object, &mut request.turns)?;
        read_include(object)?;
        // Options of the cache are OpenAI's own, but a request that only warms it wants no answer.
        object.object("prompt_cache_options", |options| {
            options.ignore(&["comparison_response_id", "mode", "ttl"]);
            options.take_if("prewarm", |raw| raw == "false");
            Ok(())
        })?;
        object.take_if("background", |raw| raw == "false");
        object.take_if("top_logprobs", |raw| raw == "0");
        Ok(request)
    })
}

/// What else the answer is to hold. Encrypted reasoning is always there; apart from log
/// probabilities, the rest belongs to tools that run at OpenAI.
fn read_include(object: &mut Fields<'_, '_>) -> json::Result<()> {
    object.each("include", |raw, path, report| {
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

fn read_reasoning_config(config: &mut Fields<'_, '_>) -> json::Result<Reasoning> {
    // Which earlier reasoning the model sees again. Others see what the client returns.
    config.ignore(&["context"]);
    config.take_harmless("mode", |raw| raw == r#""standard""#);
    let summary = match config.text("summary")? {
        Some(word) => Some(word),
        None => config.text("generate_summary")?,
    };
    let invalid = || config.invalid("summary", "must be auto, concise or detailed");
    let summary = summary.map(|word| value_of(&Summary::WORDS, &word).ok_or_else(invalid));
    Ok(Reasoning {
        summary: summary.transpose()?,
        effort: config.one_of("effort", &Effort::WORDS)?,
        ..Reasoning::default()
    })
}

fn read_tool<'a>(tool: &mut Fields<'a, '_>) -> json::Result<Option<Tool<'a>>> {
    let kind = tool.required_text("type")?;
    match kind.as_escaped() {
        "function" => read_function(tool).map(Some),
        "custom" => free_text_tool(tool).map(Some),
        // Tools that run at OpenAI.
        kind => {
            tool.unsupported_type(kind);
            Ok(None)
        }
    }
}

fn read_input<'a>(object: &mut Fields<'a, '_>, turns: &mut Vec<Turn<'a>>) -> json::Result<()> {
    object.require("input")?;
    if object.starts_with("input", '[') {
        return object.each_object("input", |item| read_item(item, turns));
    }
    let text = object.text("input")?;
    turns.push(Turn {
        role: Role::User,
        parts: text.map(Part::Text).into_iter().collect(),
    });
    Ok(())
}

fn read_item<'a>(item: &mut Fields<'a, '_>, turns: &mut Vec<Turn<'a>>) -> json::Result<()> {
    item.ignore(&["name"]);
    let kind = item.text("type")?.unwrap_or(Text::escaped("message"));
    for bookkeeping in ["id", "status"] {
        item.take(bookkeeping);
    }
    match kind.as_escaped() {
        "message" => read_message(item, turns)?,
        "function_call" => {
            let arguments = read_arguments(item)?;
            push_call(item, arguments, None, turns)?;
        }
        "custom_tool_call" => {
            let input = item.required_text("input")?;
            push_call(item, free_text_arguments(&input), Some(input), turns)?;
        }
        "function_call_output" | "custom_tool_call_output" => {
            let call_id = item.required_text("call_id")?;
            item.require("output")?;
            let content = item.content("output", read_part)?;
            push(turns, Role::User, tool_result(call_id, content, false));
        }
        "reasoning" => {
            let reasoning = read_reasoning(item)?;
            push(turns, Role::Assistant, vec![reasoning]);
        }
        kind => item.unsupported_type(kind),
    }
    Ok(())
}

fn push_call<'a>(
    item: &mut Object<'a, '_>,
    arguments: Cow<'a, str>,
    free_text: Option<Text<'a>>,
    turns: &mut Vec<Turn<'a>>,
) -> json::Result<()> {
    let call = ToolCall {
        id: item.required_text("call_id")?,
        name: item.required_text("name")?,
        arguments,
        free_text,
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

fn read_message<'a>(message: &mut Fields<'a, '_>, turns: &mut Vec<Turn<'a>>) -> json::Result<()> {
    message.ignore(&["phase"]);
    let roles = [
        (Role::System, "system"),
        (Role::System, "developer"),
        (Role::User, "user"),
        (Role::Assistant, "assistant"),
    ];
    let role = message.required_one_of("role", &roles)?;
    message.require("content")?;
    let parts = message.content("content", read_part)?;
    push(turns, role, Turn::new(role, parts, message.report).parts);
    Ok(())
}

fn read_part<'a>(part: &mut Fields<'a, '_>, parts: &mut Vec<Part<'a>>) -> json::Result<()> {
    part.ignore(&["annotations", "detail", "logprobs"]);
    let mark = take_message_mark(part)?;
    let kind = part.required_text("type")?;
    let read = match kind.as_escaped() {
        "input_text" | "output_text" | "text" => Some(Part::Text(part.required_text("text")?)),
        "refusal" => Some(Part::Refusal(part.required_text("refusal")?)),
        "input_image" => read_image(part)?,
        "input_audio" => part.object("input_audio", read_audio)?,
        "input_file" => match part.text("file_url")? {
            Some(url) => Some(Part::File {
                source: MediaSource::Url(url),
                name: part.text("filename")?,
            }),
            None => read_file(part)?,
        },
        kind => {
            part.unsupported_type(kind);
            return Ok(());
        }
    };
    parts.extend(read);
    parts.extend(mark.map(Part::CacheMark));
    Ok(())
}

fn read_image<'a>(part: &mut Fields<'a, '_>) -> json::Result<Option<Part<'a>>> {
    let detail = part.text("detail")?;
    let Some(url) = part.text("image_url")? else {
        // Other providers cannot fetch a file that is stored at OpenAI.
        part.take("file_id");
        part.report.unsupported(Feature::Images);
        return Ok(None);
    };
    let source = MediaSource::from_url(&url);
    Ok(Some(Part::Image { source, detail }))
}

/// A reasoning item: its text from `summary` or `content`, its signature from `encrypted_content`.
fn read_reasoning<'a>(item: &mut Fields<'a, '_>) -> json::Result<Part<'a>> {
    let mut text = Text::EMPTY;
    for key in ["summary", "content"] {
        item.each_object(key, |part| {
            part.ignore_rest();
            part.take("type");
            if let Some(part) = part.text("text")? {
                text.push(&part);
            }
            Ok(())
        })?;
    }
    let signature = item
        .text("encrypted_content")?
        .as_ref()
        .and_then(ReasoningSignature::from_marked);
    Ok(Part::Reasoning { text, signature })
}
