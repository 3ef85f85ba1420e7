//! Every vendor's form of usage, with the page or the code that documents it.
//!
//! Rows with a version or a date were read in November 2026, and so were the fields of Bedrock's
//! `TokenUsage` and OpenRouter's page on usage. The names of DeepSeek's and Kimi's counts of cached
//! tokens were read elsewhere, not on the vendors' pages. MiniMax's form was read in its reference of
//! responses (platform.minimax.io/docs/api-reference/responses-create, 2026-11-30). The rows of Doubao,
//! GLM, Voyage and Qwen's modalities were written from memory of the pages that they name.

use weir_schemas::Usage;

use super::{AnthropicCounts, gemini, openai};

/// Where the form stands, the form, and the counts that are not zero.
type VendorForm = (&'static str, &'static str, &'static [(&'static str, u64)]);

fn assert_counts(row: &VendorForm, found: Option<Usage>) {
    let (source, _, expected) = row;
    let found = found.unwrap_or_default();
    let found: Vec<_> = found.counts().filter(|(_, count)| *count > 0).collect();
    assert_eq!(found, *expected, "{source}");
}

const OPENAI: &[VendorForm] = &[
    (
        "openai 3.57.0, types/completion_usage.py",
        r#"{"prompt_tokens":1000,"completion_tokens":50,"total_tokens":1050,
            "prompt_tokens_details":{"cached_tokens":600,"audio_tokens":100,"image_tokens":200,
                "text_tokens":700,"cache_write_tokens":80},
            "completion_tokens_details":{"reasoning_tokens":30,"audio_tokens":4,"text_tokens":46,
                "accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}"#,
        &[
            ("input_tokens", 1000),
            ("cached_input_tokens", 600),
            ("cache_write_5m_tokens", 80),
            ("audio_input_tokens", 100),
            ("image_input_tokens", 200),
            ("output_tokens", 50),
            ("reasoning_tokens", 30),
            ("audio_output_tokens", 4),
        ],
    ),
    (
        "openai 3.57.0, types/responses/response_usage.py",
        r#"{"input_tokens":1000,"input_tokens_details":{"cached_tokens":100,"cache_write_tokens":700,
            "cache_write_tokens_details":{"ttl_30m_tokens":500,"ttl_12h_tokens":200}},
            "output_tokens":50,"output_tokens_details":{"reasoning_tokens":30},"total_tokens":1050}"#,
        &[
            ("input_tokens", 1000),
            ("cached_input_tokens", 100),
            ("cache_write_30m_tokens", 500),
            ("cache_write_12h_tokens", 200),
            ("output_tokens", 50),
            ("reasoning_tokens", 30),
        ],
    ),
    (
        "openai 3.57.0, types/audio/transcription.py: by token",
        r#"{"type":"tokens","input_tokens":300,"output_tokens":40,"total_tokens":340,
            "input_token_details":{"audio_tokens":290,"text_tokens":10}}"#,
        &[
            ("input_tokens", 300),
            ("audio_input_tokens", 290),
            ("output_tokens", 40),
        ],
    ),
    (
        "openai 3.57.0, types/audio/transcription.py: by time",
        r#"{"type":"duration","seconds":12.345}"#,
        &[("audio_input_ms", 12_345)],
    ),
    (
        "openai 3.57.0, types/beta/realtime/realtime_response_usage.py",
        r#"{"total_tokens":253,"input_tokens":132,"output_tokens":121,
            "input_token_details":{"text_tokens":119,"audio_tokens":13,"image_tokens":0,
                "cached_tokens":64,"cached_tokens_details":{"text_tokens":60,"audio_tokens":4}},
            "output_token_details":{"text_tokens":30,"audio_tokens":91}}"#,
        &[
            ("input_tokens", 132),
            ("cached_input_tokens", 64),
            ("audio_input_tokens", 13),
            ("cached_audio_input_tokens", 4),
            ("output_tokens", 121),
            ("audio_output_tokens", 91),
        ],
    ),
    (
        "openai 3.57.0, types/images_response.py",
        r#"{"total_tokens":100,"input_tokens":50,"output_tokens":50,
            "input_tokens_details":{"text_tokens":10,"image_tokens":40},
            "output_tokens_details":{"image_tokens":50,"text_tokens":0}}"#,
        &[
            ("input_tokens", 50),
            ("image_input_tokens", 40),
            ("output_tokens", 50),
            ("image_output_tokens", 50),
        ],
    ),
    (
        "alibabacloud.com/help/en/model-studio/context-cache (2026-06-24)",
        r#"{"prompt_tokens":3019,"completion_tokens":104,"total_tokens":3123,
            "prompt_tokens_details":{"cached_tokens":0,"cache_type":"ephemeral",
                "cache_creation_input_tokens":2048,
                "cache_creation":{"ephemeral_5m_input_tokens":2048}}}"#,
        &[
            ("input_tokens", 3019),
            ("cache_write_5m_tokens", 2048),
            ("output_tokens", 104),
        ],
    ),
    (
        "alibabacloud.com/help/en/model-studio/qwen-omni: modalities",
        r#"{"prompt_tokens":900,"completion_tokens":300,"total_tokens":1200,
            "prompt_tokens_details":{"text_tokens":50,"audio_tokens":150,"image_tokens":300,
                "video_tokens":400},
            "completion_tokens_details":{"text_tokens":60,"audio_tokens":240}}"#,
        &[
            ("input_tokens", 900),
            ("audio_input_tokens", 150),
            ("image_input_tokens", 300),
            ("video_input_tokens", 400),
            ("output_tokens", 300),
            ("audio_output_tokens", 240),
        ],
    ),
    (
        "litellm 1.80.16, types/utils.py, class Usage",
        r#"{"completion_tokens":100,"prompt_tokens":7000,"total_tokens":7100,
            "cache_creation_input_tokens":4000,"cache_read_input_tokens":2000,
            "prompt_tokens_details":{"cached_tokens":2000,"cache_creation_tokens":4000,
                "cache_creation_token_details":{"ephemeral_5m_input_tokens":1000,
                    "ephemeral_1h_input_tokens":3000},"web_search_requests":1},
            "server_tool_use":{"web_search_requests":2}}"#,
        &[
            ("input_tokens", 7000),
            ("cached_input_tokens", 2000),
            ("cache_write_5m_tokens", 1000),
            ("cache_write_1h_tokens", 3000),
            ("output_tokens", 100),
            ("web_searches", 2),
        ],
    ),
    (
        "servers in front of Claude that keep its input and count the total: BerriAI/litellm #6575",
        r#"{"prompt_tokens":200,"completion_tokens":50,"total_tokens":250,
            "cache_read_input_tokens":5000,"cache_creation_input_tokens":300}"#,
        &[
            ("input_tokens", 5500),
            ("cached_input_tokens", 5000),
            ("cache_write_5m_tokens", 300),
            ("output_tokens", 50),
        ],
    ),
    (
        "openrouter.ai/docs/cookbook/administration/usage-accounting",
        r#"{"prompt_tokens":194,"completion_tokens":60,"total_tokens":254,"cost":0.95,
            "is_byok":false,"cost_details":{"upstream_inference_cost":19},
            "prompt_tokens_details":{"cached_tokens":20,"cache_write_tokens":100,"audio_tokens":5,
                "video_tokens":7},
            "completion_tokens_details":{"reasoning_tokens":10,"image_tokens":40},
            "server_tool_use":{"web_search_requests":3}}"#,
        &[
            ("input_tokens", 194),
            ("cached_input_tokens", 20),
            ("cache_write_5m_tokens", 100),
            ("audio_input_tokens", 5),
            ("video_input_tokens", 7),
            ("output_tokens", 60),
            ("reasoning_tokens", 10),
            ("image_output_tokens", 40),
            ("web_searches", 3),
        ],
    ),
    (
        "api-docs.deepseek.com/api/create-chat-completion",
        r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_cache_hit_tokens":7,
            "prompt_cache_miss_tokens":3,"completion_tokens_details":{"reasoning_tokens":4}}"#,
        &[
            ("input_tokens", 10),
            ("cached_input_tokens", 7),
            ("output_tokens", 5),
            ("reasoning_tokens", 4),
        ],
    ),
    (
        "platform.kimi.ai/docs/api/chat; Together and StepFun have it too",
        r#"{"prompt_tokens":10,"completion_tokens":1,"total_tokens":11,"cached_tokens":7}"#,
        &[
            ("input_tokens", 10),
            ("cached_input_tokens", 7),
            ("output_tokens", 1),
        ],
    ),
    (
        "docs.x.ai/developers/rest-api-reference: chat, reasoning beside the output",
        r#"{"prompt_tokens":100,"completion_tokens":9,"total_tokens":409,"num_sources_used":0,
            "prompt_tokens_details":{"text_tokens":40,"audio_tokens":0,"image_tokens":60,
                "cached_tokens":30},
            "completion_tokens_details":{"reasoning_tokens":300,"audio_tokens":0}}"#,
        &[
            ("input_tokens", 100),
            ("cached_input_tokens", 30),
            ("image_input_tokens", 60),
            ("output_tokens", 309),
            ("reasoning_tokens", 300),
        ],
    ),
    (
        "docs.x.ai/developers/tools: tools of responses",
        r#"{"input_tokens":7583,"input_tokens_details":{"cached_tokens":3072},"output_tokens":3192,
            "output_tokens_details":{"reasoning_tokens":0},"total_tokens":10775,
            "num_sources_used":0,"num_server_side_tools_used":6,
            "server_side_tool_usage_details":{"web_search_calls":1,"x_search_calls":3,
                "code_interpreter_calls":1,"file_search_calls":0,"mcp_calls":0,
                "document_search_calls":1}}"#,
        &[
            ("input_tokens", 7583),
            ("cached_input_tokens", 3072),
            ("output_tokens", 3192),
            ("web_searches", 4),
            ("file_searches", 1),
            ("code_executions", 1),
        ],
    ),
    (
        "docs.x.ai: live search, billed by source",
        r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"num_sources_used":8}"#,
        &[
            ("input_tokens", 10),
            ("output_tokens", 5),
            ("web_searches", 8),
        ],
    ),
    (
        "groq 1.7.0, types/completion_usage.py",
        r#"{"queue_time":0.08,"prompt_tokens":37,"prompt_time":0.001,"completion_tokens":46,
            "completion_time":0.2,"total_tokens":83,"total_time":0.3,
            "prompt_tokens_details":{"cached_tokens":20},
            "completion_tokens_details":{"reasoning_tokens":11}}"#,
        &[
            ("input_tokens", 37),
            ("cached_input_tokens", 20),
            ("output_tokens", 46),
            ("reasoning_tokens", 11),
        ],
    ),
    (
        "mistralai 3.7.0, client/models/usageinfo.py; num_cached_tokens is in its answers",
        r#"{"prompt_tokens":375,"completion_tokens":25,"total_tokens":400,
            "prompt_audio_seconds":10,"num_cached_tokens":128,"service_tier":"standard"}"#,
        &[
            ("input_tokens", 375),
            ("cached_input_tokens", 128),
            ("output_tokens", 25),
            ("audio_input_ms", 10_000),
        ],
    ),
    (
        "together 3.1.1, types/chat/chat_completion_usage.py",
        r#"{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}"#,
        &[("input_tokens", 9), ("output_tokens", 2)],
    ),
    (
        "perplexityai 0.46.1, types/shared/usage_info.py: reasoning beside the output",
        r#"{"prompt_tokens":33,"completion_tokens":7163,"total_tokens":7196,"citation_tokens":20016,
            "num_search_queries":18,"reasoning_tokens":73997,"search_context_size":"low",
            "cost":{"total_cost":0.4}}"#,
        &[
            ("input_tokens", 33),
            ("output_tokens", 101_176),
            ("reasoning_tokens", 73_997),
            ("citation_tokens", 20_016),
            ("web_searches", 18),
        ],
    ),
    (
        "perplexityai 0.46.1, types/responses_usage.py",
        r#"{"input_tokens":900,"output_tokens":50,"total_tokens":950,
            "input_tokens_details":{"cache_read_input_tokens":300,"cache_creation_input_tokens":100},
            "tool_calls_details":{"web_search":{"invocation":2},"fetch_url":{"invocation":9}}}"#,
        &[
            ("input_tokens", 900),
            ("cached_input_tokens", 300),
            ("cache_write_5m_tokens", 100),
            ("output_tokens", 50),
            ("web_searches", 2),
        ],
    ),
    (
        "sgl-project/sglang, entrypoints/openai/protocol.py: reasoning within the output",
        r#"{"prompt_tokens":20,"total_tokens":120,"completion_tokens":100,"reasoning_tokens":80,
            "prompt_tokens_details":null}"#,
        &[
            ("input_tokens", 20),
            ("output_tokens", 100),
            ("reasoning_tokens", 80),
        ],
    ),
    (
        "ai.google.dev/gemini-api/docs/openai: thinking in the total alone",
        r#"{"completion_tokens":12,"prompt_tokens":35,"total_tokens":109}"#,
        &[("input_tokens", 35), ("output_tokens", 74)],
    ),
    (
        "docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html",
        r#"{"inputTokens":10,"outputTokens":20,"totalTokens":1130,"cacheReadInputTokens":500,
            "cacheWriteInputTokens":600,"cacheDetails":[{"ttl":"5m","inputTokens":200},
                {"ttl":"1h","inputTokens":400}]}"#,
        &[
            ("input_tokens", 1110),
            ("cached_input_tokens", 500),
            ("cache_write_5m_tokens", 200),
            ("cache_write_1h_tokens", 400),
            ("output_tokens", 20),
        ],
    ),
    (
        "volcengine.com/docs/82379/1494384 (Doubao), platform.minimax.io, docs.z.ai: one form",
        r#"{"prompt_tokens":900,"completion_tokens":80,"total_tokens":980,
            "prompt_tokens_details":{"cached_tokens":512},
            "completion_tokens_details":{"reasoning_tokens":60}}"#,
        &[
            ("input_tokens", 900),
            ("cached_input_tokens", 512),
            ("output_tokens", 80),
            ("reasoning_tokens", 60),
        ],
    ),
    (
        "platform.minimax.io/docs/api-reference/responses-create",
        r#"{"input_tokens":8,"input_tokens_details":{"cached_tokens":5},"output_tokens":14,
            "output_tokens_details":{"reasoning_tokens":9},"total_tokens":22}"#,
        &[
            ("input_tokens", 8),
            ("cached_input_tokens", 5),
            ("output_tokens", 14),
            ("reasoning_tokens", 9),
        ],
    ),
    (
        "docs.voyageai.com/reference/embeddings-api",
        r#"{"total_tokens":10}"#,
        &[("input_tokens", 10)],
    ),
    (
        "servers in Lua and JavaScript: counts as fractions",
        r#"{"prompt_tokens":100.0,"completion_tokens":6e1,"total_tokens":160.0}"#,
        &[("input_tokens", 100), ("output_tokens", 60)],
    ),
    (
        "yinxulai/one-switch #5: two names, one of them a placeholder",
        r#"{"prompt_tokens":1200,"completion_tokens":300,"total_tokens":1500,
            "prompt_tokens_details":{"cached_tokens":1000},"input_tokens":0,"output_tokens":0,
            "input_tokens_details":{"cached_tokens":0}}"#,
        &[
            ("input_tokens", 1200),
            ("cached_input_tokens", 1000),
            ("output_tokens", 300),
        ],
    ),
    (
        "servers that do not count",
        r#"{"prompt_tokens":-1,"completion_tokens":4294967295,"total_tokens":18446744073709551615,
            "cached_tokens":"many","input_tokens":1.5,"output_tokens":null,"total":1e99}"#,
        &[],
    ),
    (
        "protobuf.dev/programming-guides/json (64-bit integers are text), such as Yandex Cloud's",
        r#"{"prompt_tokens":"100","completion_tokens":"60","total_tokens":"160",
            "prompt_tokens_details":{"cached_tokens":"40"}}"#,
        &[
            ("input_tokens", 100),
            ("cached_input_tokens", 40),
            ("output_tokens", 60),
        ],
    ),
];

const ANTHROPIC: &[VendorForm] = &[
    (
        "anthropic 2.14.0, types/usage.py",
        r#"{"input_tokens":10,"cache_creation_input_tokens":30,"cache_read_input_tokens":5,
            "cache_creation":{"ephemeral_5m_input_tokens":20,"ephemeral_1h_input_tokens":10},
            "output_tokens":50,"output_tokens_details":{"thinking_tokens":7},
            "server_tool_use":{"web_search_requests":2,"web_fetch_requests":3},
            "service_tier":"standard","inference_geo":"us"}"#,
        &[
            ("input_tokens", 45),
            ("cached_input_tokens", 5),
            ("cache_write_5m_tokens", 20),
            ("cache_write_1h_tokens", 10),
            ("output_tokens", 50),
            ("reasoning_tokens", 7),
            ("web_searches", 2),
        ],
    ),
    (
        "a breakdown of zeros beside a real count",
        r#"{"input_tokens":10,"cache_creation_input_tokens":30,"output_tokens":1,
            "cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}}"#,
        &[
            ("input_tokens", 40),
            ("cache_write_5m_tokens", 30),
            ("output_tokens", 1),
        ],
    ),
    (
        "platform.claude.com/docs/en/build-with-claude/compaction",
        r#"{"input_tokens":23000,"output_tokens":1000,"iterations":[
            {"type":"compaction","input_tokens":90000,"output_tokens":3500},
            {"type":"message","input_tokens":23000,"output_tokens":1000}]}"#,
        &[("input_tokens", 113_000), ("output_tokens", 4500)],
    ),
    (
        "servers in front of others: OpenAI's names filled in, Anthropic's empty",
        r#"{"input_tokens":0,"output_tokens":0,"cache_read_input_tokens":0,"prompt_tokens":1200,
            "completion_tokens":300,"total_tokens":1500,"prompt_tokens_details":{"cached_tokens":1000}}"#,
        &[
            ("input_tokens", 1200),
            ("cached_input_tokens", 1000),
            ("output_tokens", 300),
        ],
    ),
];

const GEMINI: &[VendorForm] = &[
    (
        "google-genai 3.6.1, types.py, GenerateContentResponseUsageMetadata",
        r#"{"promptTokenCount":1000,"cachedContentTokenCount":600,"candidatesTokenCount":300,
            "thoughtsTokenCount":30,"toolUsePromptTokenCount":100,"totalTokenCount":1430,
            "promptTokensDetails":[{"modality":"TEXT","tokenCount":200},
                {"modality":"AUDIO","tokenCount":300},{"modality":"IMAGE","tokenCount":258},
                {"modality":"VIDEO","tokenCount":142},{"modality":"DOCUMENT","tokenCount":100}],
            "toolUsePromptTokensDetails":[{"modality":"TEXT","tokenCount":90},
                {"modality":"IMAGE","tokenCount":10}],
            "cacheTokensDetails":[{"modality":"TEXT","tokenCount":350},
                {"modality":"AUDIO","tokenCount":150},{"modality":"IMAGE","tokenCount":50},
                {"modality":"VIDEO","tokenCount":50}],
            "candidatesTokensDetails":[{"modality":"TEXT","tokenCount":10},
                {"modality":"IMAGE","tokenCount":290}]}"#,
        &[
            ("input_tokens", 1100),
            ("cached_input_tokens", 600),
            ("audio_input_tokens", 300),
            ("cached_audio_input_tokens", 150),
            ("image_input_tokens", 268),
            ("cached_image_input_tokens", 50),
            ("video_input_tokens", 92),
            ("output_tokens", 330),
            ("reasoning_tokens", 30),
            ("image_output_tokens", 290),
        ],
    ),
    (
        "thinking in the total alone",
        r#"{"promptTokenCount":35,"candidatesTokenCount":12,"totalTokenCount":109}"#,
        &[("input_tokens", 35), ("output_tokens", 74)],
    ),
    (
        "google-genai 3.6.1, types.py, UsageMetadata: the live API's names",
        r#"{"promptTokenCount":35,"responseTokenCount":12,"totalTokenCount":47,
            "responseTokensDetails":[{"modality":"AUDIO","tokenCount":12}]}"#,
        &[
            ("input_tokens", 35),
            ("output_tokens", 12),
            ("audio_output_tokens", 12),
        ],
    ),
];

#[test]
fn every_vendors_usage_is_read() {
    for row in OPENAI {
        assert_counts(row, openai(row.1.as_bytes()));
    }
    for row in ANTHROPIC {
        let mut counts = AnthropicCounts::default();
        counts.read(row.1.as_bytes());
        assert_counts(row, counts.usage());
    }
    for row in GEMINI {
        assert_counts(row, gemini(row.1.as_bytes()).0);
    }
}
