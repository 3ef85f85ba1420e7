//! OpenAI's models, at OpenAI and Azure, and Grok.

use super::others::{EFFORTS, UNLIMITED};
use super::{
    Efforts, Generation, Match, Preamble, ReasoningControl, ReasoningLimit, ReasoningOff,
    ReasoningReturn, ReasoningRules, SamplingRules, When,
};
use crate::neutral::Effort;

const REASONING: &str = "https://developers.openai.com/api/docs/guides/reasoning";
const LATEST: &str = "https://developers.openai.com/api/docs/guides/latest-model";
const MODELS: &str = "https://developers.openai.com/api/docs/models";

const NEVER_OFF: ReasoningRules = ReasoningRules {
    control: ReasoningControl::Effort,
    efforts: Efforts::LOW_TO_MAX,
    budget: None,
    off: ReasoningOff::Impossible,
    unasked: true,
    back: ReasoningReturn::Nothing,
};

const CAN_BE_OFF: ReasoningRules = ReasoningRules {
    efforts: Efforts::NONE_TO_MAX,
    off: ReasoningOff::Switch,
    ..NEVER_OFF
};

const FIXED: ReasoningRules = ReasoningRules {
    efforts: Efforts::of(&[Effort::Medium]),
    ..NEVER_OFF
};

// Most tokens of an image (developers.openai.com/api/docs/guides/images-vision, 2026-11-30).
/// Eight tiles of 170 tokens, and 85.
const IMAGE_OF_TILES: u64 = 1_445;
/// Eight tiles of 5667 tokens, and 2833.
const IMAGE_OF_MINI: u64 = 48_169;
/// 1536 patches of 2.46 tokens.
const IMAGE_OF_PATCHES: u64 = 3_779;
/// 10 000 patches of 1.62 tokens. The highest that was measured is 1.2 (community.openai.com/t/1377015,
/// 2026-11-30).
const IMAGE_AS_IT_IS: u64 = 16_200;

/// The newest: never without reasoning, so with tools never by chat.
const GPT_6_1_SOL: Generation = Generation {
    names: &["gpt-6.1-sol", "gpt-6.2-sol", "gpt-6.2-astra", "gpt-6-astra"],
    matches: Match::Known,
    has_chat: true,
    chat_tools: When::WithoutReasoning,
    old_token_limit: false,
    sampling: SamplingRules::all(When::WithoutReasoning),
    reasoning: NEVER_OFF,
    forced_tools: When::Always,
    verbosity: true,
    strict_tools: true,
    schemas: true,
    formats_beside_tools: true,
    prefill: false,
    tool_name_chars_max: 64,
    stop_max: 0,
    choices_max: u64::MAX,
    output_tokens_max: Some(128_000),
    context_tokens: Some(1_050_000),
    // An image is cut into patches however large it is.
    image_tokens_max: None,
    preamble: Preamble::of(64, 128),
    reasoning_limit: ReasoningLimit::Inside,
    source: LATEST,
    date: "2026-11-30",
};

const GPT_6_SOL: Generation = Generation {
    names: &["gpt-6-sol", "gpt-6-luna", "gpt-6.1-terra"],
    reasoning: CAN_BE_OFF,
    ..GPT_6_1_SOL
};

const GPT_5_5: Generation = Generation {
    names: &["gpt-5.5"],
    image_tokens_max: Some(IMAGE_AS_IT_IS),
    reasoning: ReasoningRules {
        efforts: Efforts::NONE_TO_XHIGH,
        ..CAN_BE_OFF
    },
    source: REASONING,
    ..GPT_6_SOL
};

/// Reasons only when asked.
const GPT_5_4: Generation = Generation {
    names: &["gpt-5.4"],
    reasoning: ReasoningRules {
        unasked: false,
        ..GPT_5_5.reasoning
    },
    ..GPT_5_5
};

/// The last ones whose chat API takes tools while they reason.
const GPT_5_2: Generation = Generation {
    names: &["gpt-5.3", "gpt-5.2"],
    image_tokens_max: Some(IMAGE_OF_PATCHES),
    chat_tools: When::Always,
    context_tokens: Some(400_000),
    ..GPT_5_4
};

const GPT_5: Generation = Generation {
    names: &["gpt-5", "gpt-5-mini", "gpt-5-nano"],
    reasoning: ReasoningRules {
        efforts: Efforts::MINIMAL_TO_HIGH,
        ..NEVER_OFF
    },
    ..GPT_5_2
};

/// Served by the responses API alone.
const GPT_5_PRO: Generation = Generation {
    names: &["gpt-5.5-pro", "gpt-5.4-pro", "gpt-5.2-pro"],
    context_tokens: Some(1_050_000),
    image_tokens_max: Some(IMAGE_AS_IT_IS),
    has_chat: false,
    reasoning: ReasoningRules {
        efforts: Efforts::of(&[Effort::Medium, Effort::High, Effort::XHigh]),
        ..NEVER_OFF
    },
    source: MODELS,
    ..GPT_5_2
};

/// The models of ChatGPT, which reason a fixed amount.
const CHAT_LATEST: Generation = Generation {
    names: &["gpt-5.3-chat", "gpt-5.2-chat", "gpt-5.1-chat"],
    reasoning: FIXED,
    verbosity: false,
    output_tokens_max: Some(16_384),
    context_tokens: Some(128_000),
    source: MODELS,
    ..GPT_5_2
};

const O_SERIES: Generation = Generation {
    names: &["o3", "o4-mini"],
    verbosity: false,
    reasoning: ReasoningRules {
        efforts: Efforts::LOW_TO_HIGH,
        ..NEVER_OFF
    },
    output_tokens_max: Some(100_000),
    context_tokens: Some(200_000),
    ..GPT_5
};

const GPT_4O: Generation = Generation {
    names: &["gpt-4o", "chatgpt-4o", "gpt-audio", "gpt-4.5-preview"],
    chat_tools: When::Always,
    old_token_limit: true,
    verbosity: false,
    sampling: SamplingRules::FREE,
    reasoning: ReasoningRules::NEVER,
    stop_max: 4,
    output_tokens_max: Some(16_384),
    context_tokens: Some(128_000),
    image_tokens_max: Some(IMAGE_OF_TILES),
    source: MODELS,
    ..GPT_6_1_SOL
};

const GPT_4: Generation = Generation {
    names: &["gpt-4-turbo", "gpt-4-1106", "gpt-4-0125", "gpt-3.5-turbo"],
    strict_tools: false,
    schemas: false,
    output_tokens_max: Some(4096),
    ..GPT_4O
};

pub(crate) static OPENAI: &[Generation] = &[
    GPT_6_1_SOL,
    GPT_6_SOL,
    Generation {
        names: &["gpt-5.6"],
        ..GPT_6_SOL
    },
    GPT_5_PRO,
    GPT_5_5,
    GPT_5_4,
    CHAT_LATEST,
    Generation {
        names: &["gpt-5.3-codex", "gpt-5.2-codex"],
        has_chat: false,
        ..GPT_5_2
    },
    GPT_5_2,
    Generation {
        names: &["gpt-5.1-codex-max"],
        has_chat: false,
        reasoning: ReasoningRules {
            efforts: Efforts::LOW_TO_XHIGH,
            ..NEVER_OFF
        },
        ..GPT_5_2
    },
    Generation {
        names: &["gpt-5.1-codex", "gpt-5-codex"],
        has_chat: false,
        reasoning: O_SERIES.reasoning,
        ..GPT_5_2
    },
    Generation {
        names: &["gpt-5.1"],
        reasoning: ReasoningRules {
            efforts: Efforts::NONE_TO_HIGH,
            ..GPT_5_4.reasoning
        },
        ..GPT_5_2
    },
    Generation {
        names: &["gpt-5-chat"],
        ..GPT_4O
    },
    Generation {
        names: &["gpt-5-pro"],
        reasoning: ReasoningRules {
            efforts: Efforts::of(&[Effort::High]),
            ..NEVER_OFF
        },
        output_tokens_max: Some(272_000),
        ..GPT_5_PRO
    },
    Generation {
        names: &["gpt-5-search-api"],
        reasoning: ReasoningRules {
            control: ReasoningControl::None,
            ..FIXED
        },
        ..GPT_5
    },
    GPT_5,
    Generation {
        names: &[
            "o1-pro",
            "o3-pro",
            "o3-deep-research",
            "o4-mini-deep-research",
            "codex-mini",
        ],
        has_chat: false,
        ..O_SERIES
    },
    Generation {
        // These still take stop sequences.
        names: &["o1", "o3-mini"],
        stop_max: 4,
        ..O_SERIES
    },
    O_SERIES,
    Generation {
        names: &["gpt-4.1"],
        output_tokens_max: Some(32_768),
        context_tokens: Some(1_047_576),
        image_tokens_max: Some(IMAGE_OF_PATCHES),
        ..GPT_4O
    },
    Generation {
        names: &["gpt-4o-mini"],
        image_tokens_max: Some(IMAGE_OF_MINI),
        ..GPT_4O
    },
    GPT_4O,
    GPT_4,
    Generation {
        names: &["gpt-4-32k"],
        output_tokens_max: Some(8192),
        context_tokens: Some(32_768),
        ..GPT_4
    },
    Generation {
        names: &["gpt-4"],
        output_tokens_max: Some(8192),
        context_tokens: Some(8192),
        ..GPT_4
    },
    Generation {
        // No chat models; they have no rules here.
        names: &[
            "text-embedding",
            "omni-moderation",
            "gpt-image",
            "chatgpt-image",
            "gpt-realtime",
            "gpt-live",
            "whisper",
            "tts",
            "dall-e",
        ],
        matches: Match::Known,
        ..UNLIMITED
    },
    Generation {
        // Open weights, served by a host of its own.
        names: &["gpt-oss"],
        matches: Match::Known,
        ..EFFORTS
    },
    Generation {
        names: &["gpt-"],
        matches: Match::Newest,
        ..GPT_6_1_SOL
    },
    UNLIMITED,
];

const GROK_REASONING: &str = "https://docs.x.ai/developers/model-capabilities/text/reasoning";

/// Reasons always, without penalties and stop sequences.
const GROK_4_7: Generation = Generation {
    names: &["grok-4.7"],
    matches: Match::Known,
    sampling: SamplingRules {
        penalties: When::WithoutReasoning,
        ..SamplingRules::FREE
    },
    reasoning: ReasoningRules {
        efforts: Efforts::LOW_TO_XHIGH,
        ..NEVER_OFF
    },
    stop_max: 0,
    context_tokens: Some(500_000),
    source: GROK_REASONING,
    ..UNLIMITED
};

pub(crate) static XAI: &[Generation] = &[
    GROK_4_7,
    Generation {
        names: &["grok-4.6", "grok-4.5", "grok-build-latest"],
        reasoning: ReasoningRules {
            efforts: Efforts::LOW_TO_HIGH,
            ..NEVER_OFF
        },
        ..GROK_4_7
    },
    Generation {
        // The older names are served by 4.3.
        names: &[
            "grok-4.3",
            "grok-latest",
            "grok-4",
            "grok-4-fast",
            "grok-4-1-fast",
            "grok-3",
        ],
        reasoning: ReasoningRules {
            efforts: Efforts::NONE_TO_HIGH,
            ..CAN_BE_OFF
        },
        context_tokens: Some(1_000_000),
        ..GROK_4_7
    },
    Generation {
        names: &["grok-4.20-multi-agent"],
        has_chat: false,
        reasoning: ReasoningRules {
            efforts: Efforts::LOW_TO_XHIGH,
            ..NEVER_OFF
        },
        context_tokens: Some(1_000_000),
        ..GROK_4_7
    },
    Generation {
        // The name says whether it reasons; no field does.
        names: &["grok-4.20", "grok-build", "grok-code-fast"],
        reasoning: ReasoningRules {
            control: ReasoningControl::None,
            ..NEVER_OFF
        },
        context_tokens: None,
        ..GROK_4_7
    },
    Generation {
        names: &["grok-2", "grok-beta", "grok-vision"],
        reasoning: ReasoningRules::NEVER,
        stop_max: usize::MAX,
        context_tokens: Some(131_072),
        ..GROK_4_7
    },
    Generation {
        names: &["grok-"],
        matches: Match::Newest,
        ..GROK_4_7
    },
    EFFORTS,
];
