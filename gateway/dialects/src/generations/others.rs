//! Models that are served through chat APIs like OpenAI's.

use super::{
    Efforts, Generation, Match, Preamble, ReasoningControl, ReasoningLimit, ReasoningOff,
    ReasoningReturn, ReasoningRules, SamplingRules, When,
};
use crate::neutral::Effort;

const CHAT_REASONING: ReasoningRules = ReasoningRules {
    control: ReasoningControl::Effort,
    efforts: Efforts::NONE_TO_XHIGH.and(Effort::Minimal),
    budget: None,
    off: ReasoningOff::Switch,
    unasked: true,
    back: ReasoningReturn::Nothing,
};

/// A model of which nothing is known: what a client asks for is passed on.
pub(super) const UNLIMITED: Generation = Generation {
    names: &[""],
    matches: Match::Foreign,
    has_chat: true,
    chat_tools: When::Always,
    old_token_limit: true,
    sampling: SamplingRules::FREE,
    reasoning: CHAT_REASONING,
    forced_tools: When::Always,
    verbosity: true,
    strict_tools: true,
    schemas: true,
    formats_beside_tools: true,
    prefill: true,
    tool_name_chars_max: 64,
    stop_max: usize::MAX,
    choices_max: u64::MAX,
    output_tokens_max: None,
    context_tokens: None,
    image_tokens_max: None,
    // The longest system prompt that a model's template brings along has about 500.
    preamble: Preamble::of(1_024, 1_024),
    reasoning_limit: ReasoningLimit::Inside,
    source: "https://developers.openai.com/api/docs/api-reference/chat",
    date: "2026-11-30",
};

pub(super) const EFFORTS: Generation = with_reasoning(ReasoningRules {
    efforts: Efforts::LOW_TO_HIGH,
    off: ReasoningOff::Impossible,
    ..CHAT_REASONING
});

const fn with_reasoning(reasoning: ReasoningRules) -> Generation {
    Generation {
        reasoning,
        ..UNLIMITED
    }
}

const fn with_control(control: ReasoningControl) -> Generation {
    with_reasoning(ReasoningRules {
        control,
        efforts: Efforts::NONE,
        ..CHAT_REASONING
    })
}

pub(crate) static ANY: &[Generation] = &[UNLIMITED];

const THINKING: ReasoningRules = ReasoningRules {
    control: ReasoningControl::Thinking,
    efforts: Efforts::NONE,
    unasked: true,
    ..CHAT_REASONING
};

const DEEPSEEK_V4: Generation = Generation {
    names: &["deepseek-v4", "deepseek-flash", "deepseek-reasoner"],
    matches: Match::Known,
    reasoning: ReasoningRules {
        efforts: Efforts::LOW_HIGH_MAX,
        // Also while it thinks, temperature and the like are taken, and do nothing.
        back: ReasoningReturn::Text,
        ..THINKING
    },
    source: "https://api-docs.deepseek.com/guides/thinking_mode",
    ..UNLIMITED
};

pub(crate) static DEEPSEEK: &[Generation] = &[
    DEEPSEEK_V4,
    Generation {
        names: &["deepseek-chat"],
        reasoning: ReasoningRules {
            unasked: false,
            ..DEEPSEEK_V4.reasoning
        },
        ..DEEPSEEK_V4
    },
    Generation {
        names: &[""],
        matches: Match::Newest,
        ..DEEPSEEK_V4
    },
];

/// Samples as it likes, and always thinks.
const KIMI_K3: Generation = Generation {
    names: &["kimi-k3", "kimi-k3.1-pro"],
    matches: Match::Known,
    sampling: SamplingRules::all(When::Never),
    reasoning: ReasoningRules {
        control: ReasoningControl::Effort,
        efforts: Efforts::LOW_HIGH_MAX,
        off: ReasoningOff::Impossible,
        back: ReasoningReturn::Text,
        ..THINKING
    },
    forced_tools: When::WithoutReasoning,
    choices_max: 1,
    context_tokens: Some(1_048_576),
    source: "https://platform.kimi.ai/docs/guide/use-thinking-models",
    ..UNLIMITED
};

const KIMI_K2_6: Generation = Generation {
    names: &["kimi-k2.6", "kimi-k2.5"],
    reasoning: ReasoningRules {
        back: ReasoningReturn::Text,
        ..THINKING
    },
    context_tokens: Some(262_144),
    ..KIMI_K3
};

pub(crate) static KIMI: &[Generation] = &[
    KIMI_K3,
    Generation {
        names: &["kimi-k2.7-code", "kimi-k2.7"],
        reasoning: ReasoningRules {
            off: ReasoningOff::Impossible,
            ..KIMI_K2_6.reasoning
        },
        ..KIMI_K2_6
    },
    KIMI_K2_6,
    Generation {
        names: &["kimi-k2-thinking"],
        sampling: SamplingRules::FREE,
        reasoning: ReasoningRules {
            control: ReasoningControl::None,
            off: ReasoningOff::Impossible,
            ..KIMI_K2_6.reasoning
        },
        ..KIMI_K2_6
    },
    Generation {
        names: &["kimi-k2", "moonshot-v1", "kimi-latest"],
        sampling: SamplingRules::FREE,
        reasoning: ReasoningRules::NEVER,
        choices_max: 5,
        ..KIMI_K2_6
    },
    Generation {
        names: &[""],
        matches: Match::Newest,
        ..KIMI_K3
    },
];

/// Always thinks. Only `auto` chooses a tool, at every GLM.
const GLM_5_3: Generation = Generation {
    names: &["glm-5.3"],
    matches: Match::Known,
    reasoning: ReasoningRules {
        control: ReasoningControl::Effort,
        efforts: Efforts::LOW_HIGH_MAX,
        off: ReasoningOff::Impossible,
        ..THINKING
    },
    forced_tools: When::Never,
    stop_max: 1,
    output_tokens_max: Some(131_072),
    source: "https://docs.z.ai/guides/capabilities/thinking-mode",
    ..UNLIMITED
};

pub(crate) static GLM: &[Generation] = &[
    GLM_5_3,
    Generation {
        names: &["glm-5.2"],
        reasoning: ReasoningRules {
            efforts: Efforts::LOW_TO_MAX.and(Effort::Minimal),
            ..THINKING
        },
        ..GLM_5_3
    },
    Generation {
        names: &[
            "glm-5", "glm-5v", "glm-5.1", "glm-4.7", "glm-4.6", "glm-4.6v",
        ],
        reasoning: THINKING,
        ..GLM_5_3
    },
    Generation {
        names: &["glm-4.5", "glm-4.5v"],
        reasoning: THINKING,
        output_tokens_max: Some(98_304),
        ..GLM_5_3
    },
    Generation {
        names: &["glm-4", "glm-4v"],
        reasoning: ReasoningRules::NEVER,
        output_tokens_max: None,
        ..GLM_5_3
    },
    Generation {
        names: &[""],
        matches: Match::Newest,
        ..GLM_5_3
    },
];

/// The commercial models think when asked; some open ones unless they are told not to.
const QWEN_HYBRID: Generation = Generation {
    names: &["qwen-max", "qwen-plus", "qwen-flash", "qwen-turbo"],
    matches: Match::Known,
    forced_tools: When::WithoutReasoning,
    // Only `thinking_budget` limits it.
    reasoning_limit: ReasoningLimit::Outside,
    source: "https://www.alibabacloud.com/help/en/model-studio/deep-thinking",
    ..with_control(ReasoningControl::EnableThinking)
};

pub(crate) static QWEN: &[Generation] = &[
    QWEN_HYBRID,
    Generation {
        names: &["qwq"],
        reasoning: ReasoningRules {
            control: ReasoningControl::None,
            off: ReasoningOff::Impossible,
            ..THINKING
        },
        ..QWEN_HYBRID
    },
    Generation {
        names: &[""],
        matches: Match::Newest,
        ..QWEN_HYBRID
    },
];

pub(crate) static DOUBAO: &[Generation] = &[Generation {
    names: &[""],
    matches: Match::Newest,
    reasoning: ReasoningRules {
        efforts: Efforts::LOW_TO_HIGH,
        ..THINKING
    },
    // "does not include reasoning chain content" (docs.byteplus.com/en/docs/Byteplus_LAS/Chat_API,
    // 2026-11-30).
    reasoning_limit: ReasoningLimit::OutsideOldLimit,
    source: "https://www.volcengine.com/docs/82379/1449737",
    ..UNLIMITED
}];

/// Reasons always, by one of three efforts.
const GPT_OSS: Generation = Generation {
    names: &["gpt-oss"],
    matches: Match::Known,
    reasoning: ReasoningRules {
        off: ReasoningOff::Impossible,
        unasked: true,
        ..EFFORTS.reasoning
    },
    source: "https://huggingface.co/openai/gpt-oss-120b",
    ..UNLIMITED
};

pub(crate) static VLLM: &[Generation] = &[GPT_OSS, with_control(ReasoningControl::ChatTemplate)];

pub(crate) static LLAMA_CPP: &[Generation] =
    &[GPT_OSS, with_control(ReasoningControl::ChatTemplate)];

pub(crate) static OLLAMA: &[Generation] = &[
    GPT_OSS,
    with_reasoning(ReasoningRules {
        efforts: Efforts::NONE_TO_HIGH,
        ..CHAT_REASONING
    }),
];

pub(crate) static OPENROUTER: &[Generation] = &[with_control(ReasoningControl::OpenRouter)];

pub(crate) static TOGETHER: &[Generation] = &[GPT_OSS, EFFORTS];

/// The two words of Mistral's effort.
const MISTRAL_EFFORTS: ReasoningRules = ReasoningRules {
    efforts: Efforts::of(&[Effort::None, Effort::High]),
    unasked: false,
    ..CHAT_REASONING
};

pub(crate) static MISTRAL: &[Generation] = &[
    Generation {
        // It thinks, and no field says how much.
        names: &["magistral"],
        matches: Match::Known,
        source: "https://docs.mistral.ai/capabilities/reasoning",
        ..with_reasoning(ReasoningRules {
            control: ReasoningControl::None,
            off: ReasoningOff::Impossible,
            unasked: true,
            ..MISTRAL_EFFORTS
        })
    },
    Generation {
        source: "https://docs.mistral.ai/capabilities/reasoning",
        ..with_reasoning(MISTRAL_EFFORTS)
    },
];

pub(crate) static GROQ: &[Generation] = &[
    Generation {
        source: "https://console.groq.com/docs/reasoning",
        ..GPT_OSS
    },
    Generation {
        // `none` or `default`, which is what holds if nothing is said.
        names: &["qwen3", "qwen3.8"],
        matches: Match::Known,
        source: "https://console.groq.com/docs/reasoning",
        ..with_reasoning(ReasoningRules {
            efforts: Efforts::of(&[Effort::None]),
            unasked: true,
            ..CHAT_REASONING
        })
    },
    Generation {
        names: &["llama", "gemma", "mixtral", "mistral", "kimi-k2", "allam"],
        matches: Match::Known,
        ..with_reasoning(ReasoningRules::NEVER)
    },
    EFFORTS,
];
