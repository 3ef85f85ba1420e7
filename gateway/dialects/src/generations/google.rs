//! Gemini, and Gemma at Google.

use super::{
    BudgetRange, Efforts, Generation, Match, Preamble, ReasoningControl, ReasoningLimit,
    ReasoningOff, ReasoningReturn, ReasoningRules, SamplingRules, When,
};
use crate::neutral::Effort;

const THINKING: &str = "https://ai.google.dev/gemini-api/docs/thinking";
const SAMPLING: &str =
    "https://ai.google.dev/gemini-api/docs/generate-content/whats-new-gemini-3.6";

/// Most answers that Google gives at once, `1` to `8`
/// (docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference and
/// firebase.google.com/docs/ai-logic/model-parameters, 2026-11-30).
const CHOICES_MAX: u64 = 8;

/// "Penalty is not enabled for this model" since Gemini 2.5 at the Gemini API
/// (github.com/google-gemini/cookbook/issues/1290, 2026-07-17).
const NO_PENALTIES: SamplingRules = SamplingRules {
    penalties: When::Never,
    ..SamplingRules::FREE
};

/// `MEDIA_RESOLUTION_ULTRA_HIGH` of Gemini 3 (ai.google.dev/gemini-api/docs/media-resolution, 2026-11-30).
const IMAGE_TOKENS_MAX: u64 = 2_240;
const LEVELS: ReasoningRules = ReasoningRules {
    control: ReasoningControl::Level,
    efforts: Efforts::LOW_TO_HIGH,
    budget: None,
    off: ReasoningOff::Impossible,
    unasked: true,
    back: ReasoningReturn::Signature,
};

const BUDGETS: ReasoningRules = ReasoningRules {
    control: ReasoningControl::Budget,
    efforts: Efforts::NONE,
    budget: Some(BudgetRange {
        min: 1,
        max: 24_576,
    }),
    off: ReasoningOff::Switch,
    unasked: true,
    back: ReasoningReturn::Nothing,
};

const GEMINI_3_PRO: Generation = Generation {
    names: &["gemini-3.1-pro"],
    matches: Match::Known,
    has_chat: true,
    chat_tools: When::Always,
    old_token_limit: true,
    sampling: NO_PENALTIES,
    reasoning: LEVELS,
    forced_tools: When::Always,
    verbosity: false,
    strict_tools: false,
    schemas: true,
    formats_beside_tools: true,
    prefill: false,
    tool_name_chars_max: 128,
    stop_max: 5,
    choices_max: 1,
    output_tokens_max: Some(65_536),
    context_tokens: Some(1_048_576),
    image_tokens_max: Some(IMAGE_TOKENS_MAX),
    preamble: Preamble::of(64, 512),
    reasoning_limit: ReasoningLimit::Inside,
    source: THINKING,
    date: "2026-11-30",
};

const GEMINI_3_FLASH: Generation = Generation {
    names: &[
        "gemini-3-flash",
        "gemini-3.5-flash",
        "gemini-3.1-flash-lite",
    ],
    reasoning: ReasoningRules {
        efforts: Efforts::MINIMAL_TO_HIGH,
        ..LEVELS
    },
    ..GEMINI_3_PRO
};

const GEMINI_3_IMAGE: Generation = Generation {
    names: &["gemini-3-pro-image", "gemini-3.1-flash-image"],
    reasoning: ReasoningRules::NEVER,
    output_tokens_max: Some(32_768),
    ..GEMINI_3_PRO
};

const GEMINI_3_FLASH_LITE_IMAGE: Generation = Generation {
    names: &["gemini-3.1-flash-lite-image"],
    reasoning: ReasoningRules {
        efforts: Efforts::of(&[Effort::Minimal, Effort::High]),
        ..LEVELS
    },
    output_tokens_max: Some(4096),
    ..GEMINI_3_PRO
};

const GEMINI_3_8_FLASH: Generation = Generation {
    names: &["gemini-3.8-flash", "gemini-3.7-flash"],
    sampling: SamplingRules {
        temperature: When::Never,
        top_p: When::Never,
        top_k: When::Never,
        ..NO_PENALTIES
    },
    source: SAMPLING,
    ..GEMINI_3_PRO
};

const GEMINI_4: Generation = Generation {
    names: &["gemini-4-argon", "gemini-4-carbon", "gemini-4-hydrogen"],
    output_tokens_max: Some(1_048_576),
    image_tokens_max: None,
    source: "https://ai.google.dev/gemini-api/docs/generate-content/long-decode",
    ..GEMINI_3_8_FLASH
};

const GEMINI_2_5_FLASH: Generation = Generation {
    names: &["gemini-2.5-flash"],
    // An image is cut into tiles of 258 tokens, a long and narrow one into many
    // (ai.google.dev/gemini-api/docs/image-understanding, 2026-11-30).
    image_tokens_max: None,
    formats_beside_tools: false,
    reasoning: BUDGETS,
    choices_max: CHOICES_MAX,
    ..GEMINI_3_PRO
};

const GEMINI_2_5_PRO: Generation = Generation {
    names: &["gemini-2.5-pro"],
    reasoning: ReasoningRules {
        budget: Some(BudgetRange {
            min: 128,
            max: 32_768,
        }),
        off: ReasoningOff::Impossible,
        ..BUDGETS
    },
    ..GEMINI_2_5_FLASH
};

const GEMINI_2_5_FLASH_LITE: Generation = Generation {
    names: &["gemini-2.5-flash-lite"],
    reasoning: ReasoningRules {
        budget: Some(BudgetRange {
            min: 512,
            max: 24_576,
        }),
        unasked: false,
        ..BUDGETS
    },
    ..GEMINI_2_5_FLASH
};

const GEMINI_2_5_FLASH_IMAGE: Generation = Generation {
    names: &["gemini-2.5-flash-image"],
    reasoning: ReasoningRules::NEVER,
    choices_max: 1,
    output_tokens_max: Some(32_768),
    ..GEMINI_2_5_FLASH
};

const WITHOUT_THINKING: Generation = Generation {
    names: &[
        "gemini-2.0",
        "gemini-1.5",
        "gemini-1.0",
        "gemini-pro",
        "gemma",
        "gemini-embedding",
        "text-embedding",
    ],
    sampling: SamplingRules::FREE,
    reasoning: ReasoningRules::NEVER,
    formats_beside_tools: false,
    choices_max: CHOICES_MAX,
    output_tokens_max: Some(8192),
    // Gemini 1.5 Pro's.
    context_tokens: Some(2_097_152),
    image_tokens_max: None,
    source: "https://ai.google.dev/gemini-api/docs/models",
    ..GEMINI_3_PRO
};

/// The Gemini API gives one answer since Gemini 3, "Multiple candidates is not enabled for this model"
/// (github.com/googleapis/js-genai/issues/1609, 2026-05-18).
pub(crate) static GEMINI: &[Generation] = &rows(1, NO_PENALTIES);

/// Vertex gives several all the same (github.com/googleapis/python-genai/issues/1723, 2026-04-10), and takes
/// penalties up to Gemini 2.5 (github.com/BerriAI/litellm/issues/16031, 2025-10-28).
pub(crate) static VERTEX: &[Generation] = &rows(CHOICES_MAX, SamplingRules::FREE);

/// `choices` is how many answers the models since Gemini 3 give at once, `sampling` what Gemini 2.5
/// takes. Models that draw give one answer.
const fn rows(choices: u64, sampling: SamplingRules) -> [Generation; 14] {
    [
        Generation {
            choices_max: choices,
            ..GEMINI_4
        },
        Generation {
            choices_max: choices,
            ..GEMINI_3_8_FLASH
        },
        Generation {
            names: &["gemini-3.6-flash", "gemini-3.5-flash-lite"],
            sampling: GEMINI_3_8_FLASH.sampling,
            choices_max: choices,
            source: SAMPLING,
            ..GEMINI_3_FLASH
        },
        Generation {
            choices_max: choices,
            ..GEMINI_3_PRO
        },
        GEMINI_3_IMAGE,
        Generation {
            names: &["gemini-3-pro"],
            reasoning: ReasoningRules {
                efforts: Efforts::of(&[Effort::Low, Effort::High]),
                ..LEVELS
            },
            choices_max: choices,
            ..GEMINI_3_PRO
        },
        GEMINI_3_FLASH_LITE_IMAGE,
        Generation {
            choices_max: choices,
            ..GEMINI_3_FLASH
        },
        Generation {
            sampling,
            ..GEMINI_2_5_PRO
        },
        Generation {
            sampling,
            ..GEMINI_2_5_FLASH_LITE
        },
        Generation {
            sampling,
            ..GEMINI_2_5_FLASH_IMAGE
        },
        Generation {
            sampling,
            ..GEMINI_2_5_FLASH
        },
        WITHOUT_THINKING,
        Generation {
            // Whatever Google's own API is asked for is a Gemini.
            names: &[""],
            matches: Match::Newest,
            choices_max: choices,
            ..GEMINI_4
        },
    ]
}
