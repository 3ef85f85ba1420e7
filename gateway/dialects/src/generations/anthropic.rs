//! Claude.

use super::{
    BudgetRange, Efforts, Generation, Match, Preamble, ReasoningControl, ReasoningLimit,
    ReasoningOff, ReasoningReturn, ReasoningRules, SamplingRules, When,
};
use crate::neutral::Effort;

const BUDGET: ReasoningRules = ReasoningRules {
    control: ReasoningControl::Budget,
    efforts: Efforts::NONE,
    budget: Some(BudgetRange {
        min: 1024,
        max: u64::MAX,
    }),
    off: ReasoningOff::Switch,
    unasked: false,
    back: ReasoningReturn::Signature,
};

const ADAPTIVE: ReasoningRules = ReasoningRules {
    control: ReasoningControl::Adaptive,
    efforts: Efforts::LOW_TO_MAX,
    budget: None,
    ..BUDGET
};

/// An image has a token per 28 × 28 pixels and is made smaller than 2576 pixels and 4784 tokens
/// (platform.claude.com/docs/en/build-with-claude/vision, 2026-11-30). Up to 77 more were measured beside one
/// (huggingface.co/datasets/JOHNISKING/image-token-cost, 2026-11-30).
const IMAGE_TOKENS_MAX: u64 = 4_864;
/// The same up to Claude 4.6: 1568 pixels, and some 1600 tokens.
const IMAGE_TOKENS_MAX_4_6: u64 = 1_680;
/// Tools have a system prompt of at most 804 tokens
/// (platform.claude.com/docs/en/agents-and-tools/tool-use/overview, 2026-11-30), and a format has one too.
const PREAMBLE: Preamble = Preamble::of(256, 2_048);

/// Opus 5.5 and Sonnet 5.5: the newest models but the smallest ones.
const OPUS_5_5: Generation = Generation {
    names: &["claude-opus-5-5"],
    matches: Match::Known,
    has_chat: true,
    chat_tools: When::Always,
    old_token_limit: true,
    sampling: SamplingRules::all(When::Never),
    reasoning: ReasoningRules {
        off: ReasoningOff::Impossible,
        unasked: true,
        ..ADAPTIVE
    },
    forced_tools: When::Never,
    verbosity: false,
    strict_tools: true,
    schemas: true,
    formats_beside_tools: true,
    prefill: false,
    tool_name_chars_max: 128,
    stop_max: usize::MAX,
    choices_max: 1,
    output_tokens_max: Some(128_000),
    context_tokens: Some(1_000_000),
    image_tokens_max: Some(IMAGE_TOKENS_MAX),
    preamble: PREAMBLE,
    reasoning_limit: ReasoningLimit::Inside,
    source: "https://platform.claude.com/docs/en/models/opus-5-5/whats-new-opus-5-5",
    date: "2026-11-30",
};

const SONNET_5_5: Generation = Generation {
    names: &["claude-sonnet-5-5"],
    reasoning: ReasoningRules {
        off: ReasoningOff::BetweenTools,
        ..OPUS_5_5.reasoning
    },
    source: "https://platform.claude.com/docs/en/models/sonnet-5-5/whats-new-sonnet-5-5",
    ..OPUS_5_5
};

/// Thinks unasked, but can be told not to.
const HAIKU_5_5: Generation = Generation {
    names: &["claude-haiku-5-5"],
    reasoning: ReasoningRules {
        off: ReasoningOff::Switch,
        ..OPUS_5_5.reasoning
    },
    forced_tools: When::Always,
    source: "https://platform.claude.com/docs/en/models/haiku-5-5/overview",
    ..OPUS_5_5
};

/// The first models without sampling parameters and budgets. They think when asked.
const OPUS_4_7: Generation = Generation {
    names: &["claude-opus-4-8", "claude-opus-4-7"],
    reasoning: ADAPTIVE,
    source: "https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking",
    ..HAIKU_5_5
};

/// Budgets "are deprecated on Opus 4.6. They continue to work".
const OPUS_4_6: Generation = Generation {
    names: &["claude-opus-4-6", "claude-sonnet-4-6"],
    image_tokens_max: Some(IMAGE_TOKENS_MAX_4_6),
    sampling: CLAUDE_3.sampling,
    reasoning: ReasoningRules {
        control: ReasoningControl::AdaptiveOrBudget,
        efforts: Efforts::LOW_TO_HIGH.and(Effort::Max),
        ..ADAPTIVE
    },
    source: "https://platform.claude.com/docs/en/about-claude/models/whats-new-claude-4-6",
    ..OPUS_4_7
};

const SONNET_4_5: Generation = Generation {
    names: &["claude-sonnet-4-5", "claude-haiku-4-5", "claude-opus-4-5"],
    reasoning: BUDGET,
    forced_tools: When::WithoutReasoning,
    prefill: true,
    output_tokens_max: Some(64_000),
    context_tokens: Some(200_000),
    source: "https://platform.claude.com/docs/en/build-with-claude/extended-thinking",
    ..OPUS_4_6
};

const OPUS_4: Generation = Generation {
    names: &[
        "claude-opus-4-1",
        "claude-opus-4-0",
        "claude-opus-4",
        "claude-4-opus",
    ],
    strict_tools: false,
    schemas: false,
    output_tokens_max: Some(32_000),
    ..SONNET_4_5
};

const CLAUDE_3: Generation = Generation {
    names: &[
        "claude-3-opus",
        "claude-3-sonnet",
        "claude-3-haiku",
        "claude-2",
        "claude-instant",
    ],
    sampling: SamplingRules {
        // Newer models refuse the two together; older ones are advised against it.
        together: false,
        penalties: When::Never,
        ..SamplingRules::all(When::WithoutReasoning)
    },
    reasoning: ReasoningRules::NEVER,
    forced_tools: When::Always,
    strict_tools: false,
    schemas: false,
    formats_beside_tools: true,
    prefill: true,
    output_tokens_max: Some(4096),
    context_tokens: Some(200_000),
    image_tokens_max: Some(IMAGE_TOKENS_MAX_4_6),
    source: "https://platform.claude.com/docs/en/about-claude/model-deprecations",
    ..OPUS_5_5
};

pub(crate) static CLAUDE: &[Generation] = &[
    OPUS_5_5,
    SONNET_5_5,
    HAIKU_5_5,
    Generation {
        // Those of 5.1 and 5.2 refuse a forced tool; the others allow one.
        names: &[
            "claude-fable-5-2",
            "claude-fable-5-1",
            "claude-mythos-5-2",
            "claude-mythos-5-1",
        ],
        source: "https://platform.claude.com/docs/en/agents-and-tools/tool-use/define-tools",
        ..OPUS_5_5
    },
    Generation {
        names: &["claude-fable-5", "claude-mythos-5", "claude-mythos-preview"],
        forced_tools: When::Always,
        source: "https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking",
        ..OPUS_5_5
    },
    Generation {
        names: &["claude-opus-5", "claude-sonnet-5"],
        source: "https://platform.claude.com/docs/en/build-with-claude/adaptive-thinking",
        ..HAIKU_5_5
    },
    OPUS_4_7,
    OPUS_4_6,
    SONNET_4_5,
    OPUS_4,
    Generation {
        names: &["claude-sonnet-4-0", "claude-sonnet-4", "claude-4-sonnet"],
        output_tokens_max: Some(64_000),
        ..OPUS_4
    },
    Generation {
        names: &["claude-3-7-sonnet"],
        output_tokens_max: Some(64_000),
        ..OPUS_4
    },
    Generation {
        names: &["claude-3-5-sonnet", "claude-3-5-haiku"],
        output_tokens_max: Some(8192),
        ..CLAUDE_3
    },
    CLAUDE_3,
    Generation {
        names: &["claude-haiku-"],
        matches: Match::Newest,
        ..HAIKU_5_5
    },
    Generation {
        names: &["claude-sonnet-"],
        matches: Match::Newest,
        ..SONNET_5_5
    },
    Generation {
        // Whatever Anthropic's API is asked for is a Claude.
        names: &[""],
        matches: Match::Newest,
        ..OPUS_5_5
    },
];
