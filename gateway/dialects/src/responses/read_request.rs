//! A client's responses request, into the neutral model.

use crate::chat::{
    read_arguments, read_audio, read_effort, read_file, read_function, read_schema,
    read_tool_choice_word,
};
use crate::json::{Invalid, Object, Path, Text, as_text, each};
use crate::neutral::{
    Feature, Format, Part, Proof, Reasoning, Report, Request, Role, Sampling, Source, Summary,
    Tool, ToolCall, ToolChoice, Turn, free_text_arguments, free_text_tool, keep_in_place,
    take_mark, tool_result,
};
use crate::prepare::Refusal;

/// Fields that change nothing about the answer that is asked for.
const HINTS: [&str; 7] = [
    "client_metadata",
    // What a provider does on its own to fit in a long conversation.
    "context_management",
    // It counts calls of tools that run at OpenAI, which are refused.
    "max_tool_calls",
    // OpenAI's chat takes it only with what it stores.
    "metadata",
    "store",
    "stream_options",
    "truncation",
];

/// Reads a request whose body is known to be a JSON object.
pub(crate) fn read_request<'a>(body: &'a str, report: &mut Report) -> Result<Request<'a>, Refusal> {
    let root = Path::ROOT;
    let mut object = Object::read(body.trim_ascii(), root)?;
    object.take("model");
    let mut request = Request {
        shared: report.take_shared(&mut object),
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
    object.each("tools", |raw, path| {
        request
            .tools
            .extend(read_tool(Object::read(raw, *path)?, report)?);
        Ok::<_, Refusal>(())
    })?;
    if let Some(raw) = object.take("tool_choice") {
        request.tool_choice = Some(read_tool_choice(raw, &root.key("tool_choice"), report)?);
    }
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
    report.rest(&object, &HINTS)?;
    Ok(request)
}

/// Whatever else they say, caches are others' own business; but who only warms one wants no answer.
fn read_cache_options(object: &mut Object<'_, '_>, report: &mut Report) -> Result<(), Refusal> {
    object.object("prompt_cache_options", |mut options| {
        options.take_if("prewarm", |raw| raw == "false");
        let hints = ["comparison_response_id", "mode", "ttl"];
        report.rest(&options, &hints)
    })?;
    Ok(())
}

/// What the answer is to hold besides. Encrypted reasoning it holds anyway; the rest belongs to tools
/// that run at OpenAI, but for the log probabilities.
fn read_include(object: &mut Object<'_, '_>, report: &mut Report) -> Result<(), Refusal> {
    object.each("include", |raw, path| {
        match as_text(raw, path)?.as_escaped() {
            "reasoning.encrypted_content" => Ok(()),
            word if word.contains("logprobs") => report.unsupported(format!("{path} ({word})")),
            _ => {
                report.hint("include");
                Ok(())
            }
        }
    })?;
    Ok(())
}

fn read_reasoning_config(
    mut config: Object<'_, '_>,
    report: &mut Report,
) -> Result<Reasoning, Refusal> {
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
            return Err(Invalid::new(&config.path().key("summary"), reason).into());
        }
    };
    let effort = read_effort(&mut config, "effort")?;
    report.rest(&config, &[])?;
    Ok(Reasoning {
        effort,
        summary,
        ..Reasoning::default()
    })
}

fn read_text_config<'a>(
    mut text: Object<'a, '_>,
    request: &mut Request<'a>,
    report: &mut Report,
) -> Result<(), Refusal> {
    request.format = text
        .object("format", |format| read_format(format, report))?
        .flatten();
    request.verbosity = report.take_verbosity(&mut text)?;
    report.rest(&text, &[])
}

/// As in chat, but without the object around the schema.
fn read_format<'a>(
    mut format: Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Format<'a>>, Refusal> {
    let kind = format.required_text("type")?;
    let read = match kind.as_escaped() {
        "text" => None,
        "json_object" => Some(Format::JsonObject),
        "json_schema" => return read_schema(format, report).map(Some),
        _ => {
            report.unsupported(format.path().to_string())?;
            return Ok(None);
        }
    };
    report.rest(&format, &[])?;
    Ok(read)
}

fn read_tool<'a>(
    mut tool: Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Tool<'a>>, Refusal> {
    let kind = tool.required_text("type")?;
    match kind.as_escaped() {
        "function" => read_function(tool, report).map(Some),
        "custom" => free_text_tool(tool, report).map(Some),
        // Tools that run at OpenAI.
        _ => {
            report.unsupported(format!("{} ({})", tool.path(), kind.as_escaped()))?;
            Ok(None)
        }
    }
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
    if matches!(kind.as_escaped(), "function" | "custom") {
        let name = object.required_text("name")?;
        report.rest(&object, &[])?;
        return Ok(ToolChoice::Named(name));
    }
    report.unsupported(path.to_string())?;
    Ok(ToolChoice::Auto)
}

fn read_input<'a>(
    raw: &'a str,
    path: &Path<'_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut Report,
) -> Result<(), Refusal> {
    if !raw.starts_with('[') {
        let parts = vec![Part::Text(as_text(raw, path)?)];
        turns.push(Turn {
            role: Role::User,
            parts,
        });
        return Ok(());
    }
    each(raw, path, |raw, path| {
        read_item(Object::read(raw, *path)?, turns, report)
    })
}

fn read_item<'a>(
    mut item: Object<'a, '_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut Report,
) -> Result<(), Refusal> {
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
        _ => return report.unsupported(format!("{} ({})", item.path(), kind.as_escaped())),
    }
    report.rest(&item, &["name"])
}

fn push_call<'a>(
    item: &mut Object<'a, '_>,
    arguments: std::borrow::Cow<'a, str>,
    turns: &mut Vec<Turn<'a>>,
) -> Result<(), Refusal> {
    let call = ToolCall {
        id: item.required_text("call_id")?,
        name: item.required_text("name")?,
        arguments,
        proof: None,
    };
    // A proof that Gemini gave for a call comes back as the reasoning before it.
    let proof = take_gemini_proof(turns);
    push(
        turns,
        Role::Assistant,
        vec![Part::ToolCall(ToolCall { proof, ..call })],
    );
    Ok(())
}

fn take_gemini_proof<'a>(turns: &mut [Turn<'a>]) -> Option<Proof<'a>> {
    let last = turns
        .last_mut()
        .filter(|turn| turn.role == Role::Assistant)?;
    match last.parts.last_mut()? {
        Part::Reasoning { proof, .. }
            if proof
                .as_ref()
                .is_some_and(|proof| proof.origin == crate::neutral::Origin::Gemini) =>
        {
            proof.take()
        }
        _ => None,
    }
}

/// Adds to the last turn if it is the assistant's too: its items are one turn elsewhere.
fn push<'a>(turns: &mut Vec<Turn<'a>>, role: Role, parts: Vec<Part<'a>>) {
    match turns.last_mut() {
        Some(last) if last.role == role && role == Role::Assistant => last.parts.extend(parts),
        _ => turns.push(Turn { role, parts }),
    }
}

fn read_message<'a>(
    mut message: Object<'a, '_>,
    turns: &mut Vec<Turn<'a>>,
    report: &mut Report,
) -> Result<(), Refusal> {
    let role = message.required_text("role")?;
    let role = match role.as_escaped() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        _ => {
            let reason = "must be system, developer, user or assistant";
            return Err(Invalid::new(&message.path().key("role"), reason).into());
        }
    };
    let raw = message.required("content")?;
    let mut parts = read_content(raw, &message.path().key("content"), report)?;
    keep_in_place(&mut parts, role, report)?;
    report.rest(&message, &["phase"])?;
    push(turns, role, parts);
    Ok(())
}

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
    each(raw, path, |raw, path| {
        read_part(Object::read(raw, *path)?, &mut parts, report)
    })?;
    Ok(parts)
}

fn read_part<'a>(
    mut part: Object<'a, '_>,
    parts: &mut Vec<Part<'a>>,
    report: &mut Report,
) -> Result<(), Refusal> {
    let mark = take_mark(&mut part, report.cache_marks.in_messages(), report)?;
    let kind = part.required_text("type")?;
    let read = match kind.as_escaped() {
        "input_text" | "output_text" | "text" => Some(Part::Text(part.required_text("text")?)),
        "refusal" => Some(Part::Refusal(part.required_text("refusal")?)),
        "input_image" => read_image(&mut part, report)?,
        "input_audio" => part.object("input_audio", |audio| read_audio(audio, report))?,
        "input_file" => match part.text("file_url")? {
            Some(url) => Some(Part::File {
                source: Source::Url(url),
                name: part.text("filename")?,
            }),
            None => {
                parts.extend(read_file(part, report)?);
                parts.extend(mark.map(Part::CacheMark));
                return Ok(());
            }
        },
        _ => return report.unsupported(format!("{} ({})", part.path(), kind.as_escaped())),
    };
    report.rest(&part, &["annotations", "detail", "logprobs"])?;
    parts.extend(read);
    parts.extend(mark.map(Part::CacheMark));
    Ok(())
}

fn read_image<'a>(
    part: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Option<Part<'a>>, Refusal> {
    let detail = part.text("detail")?;
    match part.text("image_url")? {
        Some(url) => Ok(Some(Part::Image {
            source: Source::from_url(&url),
            detail,
        })),
        // A file that lies at OpenAI cannot be had by others.
        None => {
            part.take("file_id");
            report.lacks(Feature::Images)?;
            Ok(None)
        }
    }
}

/// A reasoning item: its text from `summary` or `content`, its proof from `encrypted_content`.
fn read_reasoning<'a>(
    item: &mut Object<'a, '_>,
    report: &mut Report,
) -> Result<Vec<Part<'a>>, Refusal> {
    let mut text = Text::EMPTY;
    for key in ["summary", "content"] {
        item.each(key, |raw, path| {
            let mut part = Object::read(raw, *path)?;
            part.take("type");
            if let Some(part) = part.text("text")? {
                text.push(&part);
            }
            report.rest_is_bookkeeping(&part);
            Ok::<_, Invalid>(())
        })?;
    }
    let proof = item
        .text("encrypted_content")?
        .as_ref()
        .and_then(Proof::from_marked);
    Ok(vec![Part::Reasoning { text, proof }])
}
