//! Puts a client's request into forms that its target takes, before it is written for it.
//!
//! What a target refuses is here if more than one target refuses it; the rest is in the writers.

use crate::api::{Family, UpstreamApi};
use crate::json::Text;
use crate::neutral::{
    CHAT_MEDIA, CLAUDE_MEDIA, Feature, Format, GEMINI_MEDIA, LossReport, MediaRules,
    OPENAI_CHAT_MEDIA, Part, RESPONSES_MEDIA, Request, StandIn, ToolNameRules, Turn,
};
use crate::schema::{is_strict_for_openai, without_top_level_choice};
use crate::target::Target;
use crate::vendors::ChatQuirks;

/// Most tools that OpenAI's APIs take ("Expected an array with maximum length 128").
const OPENAI_TOOLS_MAX: usize = 128;

/// Puts a request into the forms that a target takes. Returns the names that stand for those
/// of the client's tools.
pub(crate) fn fit(
    request: &mut Request<'_>,
    target: &Target<'_>,
    upstream: UpstreamApi,
    report: &mut LossReport,
) -> Vec<StandIn> {
    let vendor = target.vendor;
    if upstream == UpstreamApi::Responses && !vendor.chat.openai_tools {
        make_functions(request);
    }
    if !upstream.is_claude() {
        request.leave_out_billing_notes();
    }
    if upstream.wants_user_turn() {
        request.promote_lone_system_prompt();
    }
    request.fit_media(media_rules(upstream, &vendor.chat), report);
    if upstream.is_claude() {
        limit_cache_marks(request, report);
    }
    let is_openai = vendor.is_openai(upstream);
    if is_openai || upstream.is_claude() {
        open_top_level_choices(request, report);
    }
    if report.family() != Family::OpenAi && has_openai_strictness(upstream) {
        relax_strictness(request, report);
    }
    if is_openai {
        limit_tools(request, OPENAI_TOOLS_MAX, report);
    }
    leave_out_blank_stops(request, upstream, report);
    limit_choices(request, target, upstream, report);
    request.fit_tool_names(&name_rules(target, upstream))
}

/// Makes tools of free text the functions that stand for them.
fn make_functions(request: &mut Request<'_>) {
    for tool in &mut request.tools {
        tool.free_text = None;
    }
    for part in request.turns.iter_mut().flat_map(|turn| &mut turn.parts) {
        if let Part::ToolCall(call) = part {
            call.free_text = None;
        }
    }
}

/// The images, documents and audio that an API takes.
const fn media_rules(upstream: UpstreamApi, quirks: &ChatQuirks) -> &'static MediaRules {
    match upstream {
        UpstreamApi::ChatCompletions | UpstreamApi::Embeddings if quirks.is_openai => {
            &OPENAI_CHAT_MEDIA
        }
        UpstreamApi::ChatCompletions | UpstreamApi::Embeddings => &CHAT_MEDIA,
        UpstreamApi::Responses => &RESPONSES_MEDIA,
        UpstreamApi::Messages | UpstreamApi::CountTokens => &CLAUDE_MEDIA,
        UpstreamApi::GenerateContent
        | UpstreamApi::GeminiCountTokens
        | UpstreamApi::BatchEmbedContents => &GEMINI_MEDIA,
    }
}

/// Most cache marks that Claude takes: "A maximum of 4 blocks with cache_control may be provided".
const CACHE_MARKS_MAX: usize = 4;

/// Leaves out the first of too many cache marks, but for the last one of tools and system prompt,
/// which conversations share. The last ones cache the most.
fn limit_cache_marks(request: &mut Request<'_>, report: &mut LossReport) {
    let is_mark = |part: &&Part<'_>| matches!(part, Part::CacheMark(_));
    let marks_of = |turn: &Turn<'_>| turn.parts.iter().filter(is_mark).count();
    let at_tools = request
        .tools
        .iter()
        .filter(|tool| tool.cache_control.is_some());
    let at_tools = at_tools.count();
    let shared = at_tools + request.system_parts().filter(is_mark).count();
    let in_turns: usize = request.turns.iter().map(marks_of).sum();
    let all = at_tools + in_turns + usize::from(request.cache_control.is_some());
    let mut excess = all.saturating_sub(CACHE_MARKS_MAX);
    if excess == 0 {
        return;
    }
    report.ignored(format!("cache_control (more than {CACHE_MARKS_MAX})"));
    let mut seen = 0;
    let mut goes = || {
        seen += 1;
        let goes = excess > 0 && seen != shared;
        excess -= usize::from(goes);
        goes
    };
    for tool in &mut request.tools {
        if tool.cache_control.is_some() && goes() {
            tool.cache_control = None;
        }
    }
    for turn in &mut request.turns {
        turn.parts.retain(|part| !(is_mark(&part) && goes()));
    }
}

/// Names of tools: of letters, digits, `_` and `-`, as long as the model's generation says
/// (developers.openai.com/api/reference/resources/chat, "name" of a function;
/// platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools;
/// ai.google.dev/api/caching#FunctionDeclaration; platform.kimi.ai/docs/api/tool-use).
const fn name_rules(target: &Target<'_>, upstream: UpstreamApi) -> ToolNameRules {
    let is_gemini = matches!(
        upstream,
        UpstreamApi::GenerateContent | UpstreamApi::GeminiCountTokens
    );
    ToolNameRules {
        chars_max: target.generation.tool_name_chars_max,
        has_dots: is_gemini,
        begins_with_letter: is_gemini || target.vendor.chat.tool_names_begin_with_letter,
    }
}

/// Whether an API has strict tools and formats in OpenAI's sense.
const fn has_openai_strictness(upstream: UpstreamApi) -> bool {
    matches!(
        upstream,
        UpstreamApi::ChatCompletions | UpstreamApi::Responses
    )
}

/// Merges what could be chosen at the top of a tool's schema.
fn open_top_level_choices(request: &mut Request<'_>, report: &mut LossReport) {
    for tool in &mut request.tools {
        if let Some(merged) = without_top_level_choice(&tool.schema) {
            report.approximated_kind(Feature::ToolSchema, "a choice at its top");
            tool.schema = merged.into();
        }
    }
}

/// Anthropic's strictness leaves properties optional, which OpenAI's does not: there such schemas
/// are refused, so they are not enforced.
fn relax_strictness(request: &mut Request<'_>, report: &mut LossReport) {
    for tool in &mut request.tools {
        if tool.strict == Some(true) && !is_strict_for_openai(&tool.schema) {
            report.approximated(Feature::StrictTools);
            tool.strict = None;
        }
    }
    if let Some(Format::JsonSchema(format)) = &mut request.format
        && format.strict == Some(true)
        && !is_strict_for_openai(format.schema)
    {
        report.approximated(Feature::FormatStrict);
        format.strict = Some(false);
    }
}

fn limit_tools(request: &mut Request<'_>, most: usize, report: &mut LossReport) {
    if request.tools.len() > most {
        report.unsupported_kind(Feature::Tools, &format!("more than {most}"));
        request.tools.truncate(most);
    }
}

/// Asks for as many answers at once as the target gives. Google gives several, but not in a stream:
/// "Specifying multiple candidates … works with generateContent (streamGenerateContent is not supported)"
/// (docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference).
fn limit_choices(
    request: &mut Request<'_>,
    target: &Target<'_>,
    upstream: UpstreamApi,
    report: &mut LossReport,
) {
    let Some(asked) = request.choices.filter(|asked| *asked != 1) else {
        return;
    };
    let is_google = upstream == UpstreamApi::GenerateContent;
    let most = match target.generation.choices_max {
        most if is_google && !request.stream => most,
        _ => 1,
    };
    if (1..=most).contains(&asked) {
        return;
    }
    if is_google && request.stream {
        report.unsupported_kind(Feature::Choices, "in a stream");
    } else if most > 1 && asked > most {
        report.unsupported_kind(Feature::Choices, &format!("more than {most}"));
    } else {
        report.unsupported(Feature::Choices);
    }
    request.choices = Some(asked.clamp(1, most));
}

/// Leaves out stop sequences that say nothing. To Claude, white space says nothing: "each stop
/// sequence must contain non-whitespace".
fn leave_out_blank_stops(
    request: &mut Request<'_>,
    upstream: UpstreamApi,
    report: &mut LossReport,
) {
    let before = request.stop.len();
    let is_claude = upstream.is_claude();
    let says_something = |stop: &Text<'_>| !(stop.is_empty() || is_claude && stop.is_blank());
    request.stop.retain(says_something);
    if request.stop.len() < before {
        report.unsupported_kind(Feature::Stop, "blank");
    }
}
