//! The table of errors: what providers say, and what it means.
//!
//! The first row that fits decides. A row is as narrow as its words: a code, a phrase of the message, or
//! both. What fits no row is judged by its status ([`super::classify`]).
//!
//! `source` is the page that documents the row, or a report of somebody who met it, as read in November
//! 2026. Rows marked UNCONFIRMED rest on memory of the API; no page or report was found.

use super::UpstreamErrorKind::{self, *};
use super::parse::ParsedError;

/// One row of the table.
#[derive(Debug)]
pub(crate) struct ErrorRow {
    pub(super) status: Statuses,
    /// One of these stands in a field for codes: the code, the type, Google's status or reason, Azure's
    /// inner code, OpenRouter's metadata. Without case; a `*` at the end stands for anything.
    pub(super) codes: &'static [&'static str],
    /// One of these stands in the message. Without case; the parts between `*` follow one another.
    pub(super) says: &'static [&'static str],
    pub(super) kind: UpstreamErrorKind,
    /// Where it is documented or was met. Read by people, and by the tests.
    #[cfg_attr(not(test), expect(dead_code, reason = "for people and tests"))]
    pub(super) source: &'static str,
}

/// The statuses for which a row holds. An error inside a stream may have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statuses {
    Any,
    /// 4xx, or none.
    Client,
    Is(u16),
}

impl ErrorRow {
    pub(super) fn fits(&self, status: Option<u16>, error: &ParsedError) -> bool {
        self.status.include(status)
            && (self.codes.is_empty() || self.has_code(error))
            && (self.says.is_empty() || self.is_said(error))
    }

    fn has_code(&self, error: &ParsedError) -> bool {
        let mut codes = error.codes().chain(error.relayed_codes(self.kind));
        codes.any(|code| self.codes.iter().any(|known| is_code(known, code)))
    }

    fn is_said(&self, error: &ParsedError) -> bool {
        let texts = [error.message.as_deref(), error.relayed_message(self.kind)];
        let mut texts = texts.into_iter().flatten().map(str::to_lowercase);
        texts.any(|text| self.says.iter().any(|phrase| says(&text, phrase)))
    }
}

impl Statuses {
    fn include(self, status: Option<u16>) -> bool {
        match self {
            Self::Any => true,
            Self::Client => status.is_none_or(|status| (400..500).contains(&status)),
            Self::Is(only) => status == Some(only),
        }
    }
}

fn is_code(known: &str, code: &str) -> bool {
    match known.strip_suffix('*') {
        None => known.eq_ignore_ascii_case(code),
        Some(prefix) => code
            .get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
    }
}

/// Whether the parts of a phrase follow one another in a text in small letters.
pub(super) fn says(text: &str, phrase: &str) -> bool {
    let mut rest = Some(text);
    for part in phrase.split('*') {
        rest = rest.and_then(|text| Some(&text[text.find(part)? + part.len()..]));
    }
    rest.is_some()
}

const ROW: ErrorRow = ErrorRow {
    status: Statuses::Any,
    codes: &[],
    says: &[],
    kind: InvalidRequest,
    source: "",
};

/// Rows that hold for every vendor. Gateways and aggregators pass on what others say, so a vendor's
/// words are understood wherever they come from; only numbers mean something else elsewhere.
pub(super) static TABLE: &[ErrorRow] = &[
    // What the request names and the provider does not have. It is no model.
    ErrorRow {
        status: Statuses::Client,
        says: &[
            "item with id*not found",
            "previous response*not found",
            "file not found",
            "no such file",
            "conversation*not found",
            "container*not found",
            "vector store*not found",
            "no tool call found",
            "no tool output found",
        ],
        kind: InvalidRequest,
        source: "developers.openai.com/api/docs/guides/conversation-state; github.com/openai/openai-agents-python issues",
        ..ROW
    },
    // Moderation of the prompt. Before everything about keys: OpenRouter and xAI answer 403.
    ErrorRow {
        codes: &["metadata.reasons", "metadata.flagged_input"],
        kind: ContentFilter,
        source: "openrouter.ai/docs/api/reference/errors-and-debugging (403: the input was flagged)",
        ..ROW
    },
    ErrorRow {
        codes: &[
            "content_filter",
            "content_policy_violation",
            "ResponsibleAIPolicyViolation",
            "moderation_blocked",
            "safety_check_failed",
            "cyber_policy",
        ],
        kind: ContentFilter,
        source: "learn.microsoft.com/azure/foundry/openai/how-to/troubleshoot-errors; platform.kimi.com/docs/api/errors; docs.zenmux.ai/guide/advanced/error-codes; developers.openai.com/api/docs/guides/safety-checks/cybersecurity (cyber_policy)",
        ..ROW
    },
    ErrorRow {
        // 1026 of the prompt, 1027 of the answer.
        says: &["new_sensitive"],
        kind: ContentFilter,
        source: "platform.minimax.io/docs/api-reference/errorcode UNCONFIRMED",
        ..ROW
    },
    ErrorRow {
        status: Statuses::Client,
        codes: &["invalid_prompt"],
        says: &["usage policy", "safety", "flagged"],
        kind: ContentFilter,
        source: "community.openai.com/t/1081116 (reasoning models: prompt flagged as violating the usage policy)",
    },
    ErrorRow {
        codes: &[
            "data_inspection_failed",
            "DataInspectionFailed",
            "content_filter_error",
        ],
        kind: ContentFilter,
        source: "help.aliyun.com/en/model-studio/error-code",
        ..ROW
    },
    ErrorRow {
        codes: &[
            "SensitiveContentDetected*",
            "InputTextSensitiveContentDetected*",
            "InputImageSensitiveContentDetected*",
            "OutputTextSensitiveContentDetected*",
            "OutputImageSensitiveContentDetected*",
            "InputTextRiskDetection",
            "InputImageRiskDetection",
            "OutputTextRiskDetection",
            "sensitive_words_detected",
        ],
        kind: ContentFilter,
        source: "volcengine.com/docs/82379/1099476",
        ..ROW
    },
    ErrorRow {
        codes: &["PROHIBITED_CONTENT", "BLOCKED_PROMPT", "SAFETY"],
        kind: ContentFilter,
        source: "ai.google.dev/api/generate-content#BlockReason",
        ..ROW
    },
    ErrorRow {
        says: &["content exists risk"],
        kind: ContentFilter,
        source: "github.com/deepseek-ai/DeepSeek-V3 issues (400 Content Exists Risk)",
        ..ROW
    },
    ErrorRow {
        says: &[
            "content violates usage guidelines",
            "failed check: safety_check",
        ],
        kind: ContentFilter,
        source: "github.com/UKGovernmentBEIS/inspect_ai/pull/2267; github.com/Wei-Shaw/sub2api/pull/5359 (xAI, 403)",
        ..ROW
    },
    ErrorRow {
        says: &[
            "content management policy",
            "content filtering policy",
            "content filter policy",
            "blocked by our content filters",
            "rejected as a result of our safety system",
            "output blocked by content filtering",
            "was rejected because it was considered high risk",
            "flagged as potentially violating our usage policy",
            "your input was flagged",
            "contains inappropriate content",
            "contain inappropriate content",
            "contain sensitive",
            "prohibited content",
            "prohibited use policy",
            "blocked by guardrail",
            "the model returned the following errors: *content policy",
        ],
        kind: ContentFilter,
        source: "portkey.ai/error-library (azure-openai 10013, 10014); platform.kimi.com/docs/api/errors; help.aliyun.com/en/model-studio/error-code; support.huaweicloud.com MaaS 81011; docs.aws.amazon.com/bedrock",
        ..ROW
    },
    // The place that the gateway calls from.
    ErrorRow {
        codes: &[
            "unsupported_country_region_territory",
            "ip_not_authorized",
            "API_KEY_IP_ADDRESS_BLOCKED",
            "LOCATION_POLICY_VIOLATED",
            "LOCATION_ORG_POLICY_VIOLATED",
        ],
        kind: Place,
        source: "developers.openai.com/api/docs/guides/error-codes; cloud.google.com/php/docs/reference/common-protos/latest/Api.ErrorReason",
        ..ROW
    },
    ErrorRow {
        says: &[
            "country, region, or territory not supported",
            "unsupported countries",
            "unsupported country",
            "user location is not supported",
            "not available in your country",
            "not available in your region",
            "not available in your location",
            "not supported in your region",
            "ip not authorized",
            "ip address*not authorized",
            "ip address*not allowed",
            "ip address*not in the",
            "ip address*blocked",
            "ip is not in the",
            "virtual network/firewall",
            "error code: 1009",
            "error code: 1006",
            "error code: 1020",
        ],
        kind: Place,
        source: "developers.openai.com/api/docs/guides/error-codes (401 IP, 403 country); discuss.ai.google.dev/t/191818; learn.microsoft.com/azure/foundry/openai/how-to/troubleshoot-errors; docs.voyageai.com/docs/error-codes",
        ..ROW
    },
    ErrorRow {
        status: Statuses::Is(403),
        codes: &["forbidden"],
        says: &["request not allowed"],
        kind: Place,
        source: "github.com/anthropics/claude-code issues (Anthropic's 403 from an unsupported region)",
    },
    ErrorRow {
        status: Statuses::Is(451),
        kind: Place,
        source: "RFC 7725",
        ..ROW
    },
    // Money and standing of the operator's account.
    ErrorRow {
        // Qwen says so of the tokens of a minute.
        codes: &["insufficient_quota", "Throttling.AllocationQuota"],
        says: &["allocated quota exceeded", "increase your quota limit"],
        kind: RateLimited,
        source: "help.aliyun.com/en/model-studio/error-code-start (429)",
        ..ROW
    },
    ErrorRow {
        codes: &[
            "insufficient_quota",
            "credit_balance_exhausted",
            "organization_usage_limit_exceeded",
            "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded",
            "billing_hard_limit_reached",
            "billing_not_active",
            "account_deactivated",
            "organization_restricted",
        ],
        kind: QuotaExhausted,
        source: "help.openai.com/en/articles/6614457 (updated 2026-11); organization_restricted: console.groq.com/docs/errors UNCONFIRMED",
        ..ROW
    },
    ErrorRow {
        codes: &[
            "billing_error",
            "enforced_spend_limit_reached",
            "credit_balance_too_low",
        ],
        kind: QuotaExhausted,
        source: "platform.claude.com/docs/en/api/errors; developersdigest.tech/errors/api/anthropic; github.com/anthropics/claude-code/issues/54839",
        ..ROW
    },
    ErrorRow {
        codes: &["BILLING_DISABLED", "CONSUMER_SUSPENDED"],
        kind: QuotaExhausted,
        source: "cloud.google.com/php/docs/reference/common-protos/latest/Api.ErrorReason",
        ..ROW
    },
    ErrorRow {
        codes: &[
            "exceeded_current_quota_error",
            "Arrearage",
            "AccountOverdueError",
            "insufficient_balance",
            "insufficient_credit",
            "insufficient_credits",
            "reject_no_credit",
            "quote_exceeded",
            "payment_required",
            "UserArrears",
            "OverdueBalance",
            "budget_exceeded",
            "SetLimitExceeded",
        ],
        kind: QuotaExhausted,
        source: "platform.kimi.com/docs/api/errors; help.aliyun.com/en/model-studio/error-code; volcengine.com/docs/82379/1299023 (SetLimitExceeded: the model is paused); docs.zenmux.ai/guide/advanced/error-codes; docs.litellm.ai/docs/proxy/users (budget_exceeded, 400)",
        ..ROW
    },
    ErrorRow {
        // Gemini says of a used-up minute that the current quota is exceeded. The wait stands beside it.
        codes: &["RESOURCE_EXHAUSTED"],
        says: &["current quota", "quota exceeded for"],
        kind: RateLimited,
        source: "ai.google.dev/gemini-api/docs/rate-limits",
        ..ROW
    },
    ErrorRow {
        says: &[
            "credit balance is too low",
            "credit balance too low",
            "specified api usage limits",
            "organization has been disabled",
            "organization has been restricted",
            "organization is disabled",
            "spend limit",
            "spending limit",
            "spending cap",
        ],
        kind: QuotaExhausted,
        source: "github.com/anthropics/claude-code/issues/4207 and 9384; developersdigest.tech/errors/api/anthropic (400 and 429, spend limit); docs.together.ai/docs/error-codes (402)",
        ..ROW
    },
    ErrorRow {
        says: &[
            "exceeded your current quota",
            "insufficient balance",
            "insufficient credit",
            "insufficient funds",
            "insufficient_quota",
            "requires more credits",
            "not have enough credits",
            "not enough balance",
            "not enough credits",
            "never purchased credits",
            "out of credits",
            "no credits",
            "any credits or licenses",
            "used all available credits",
            "prepayment credits are depleted",
            "prepaid credits",
            "key limit exceeded",
            "free quota has been used up",
            "free tier of the model has been exhausted",
            "billing hard limit",
            "billing has been disabled",
            "billing is disabled",
            "requires billing to be enabled",
            "please enable billing",
            "enable billing on project",
            "account is not active",
            "account*deactivated",
            "account*suspended",
            "account has an overdue",
            "account has been locked",
            "account*in good standing",
            "usage limit for this billing cycle",
            "usage limit for this period",
            "verify your membership benefits",
            "please recharge",
            "payment required",
            "payment method",
            "余额不足",
            "欠费",
        ],
        kind: QuotaExhausted,
        source: "kerlig.com/help/open-ai/troubleshooting; openrouter.ai/docs/api/reference/errors-and-debugging; github.com/zai-org/GLM-5/issues/49; api-docs.deepseek.com/quick_start/error_codes; kimi.com/code/docs/en/kimi-code/error-reference.html; help.aliyun.com/en/model-studio/error-code; github.com/continuedev/continue/issues/12670 (xAI, 403)",
        ..ROW
    },
    // Rates. Before the context window: they speak of tokens too.
    ErrorRow {
        codes: &[
            "rate_limit_exceeded",
            "rate_limit_reached_error",
            "slow_down",
            "Throttling",
            "Throttling.*",
            "limit_requests",
            "limit_burst_rate",
            "ThrottlingException",
            "RateLimitExceeded*",
            "ModelAccountRpmRateLimitExceeded",
            "ModelAccountTpmRateLimitExceeded",
            "QuotaExceeded",
            "TooManyRequests",
            "too_many_requests",
        ],
        kind: RateLimited,
        source: "learn.microsoft.com/microsoft-cloud/dev/dev-proxy/concepts/openai-rate-limit-reached; help.aliyun.com/en/model-studio/error-code-start; volcengine.com/docs/82379/1299023; docs.aws.amazon.com/bedrock",
        ..ROW
    },
    ErrorRow {
        status: Statuses::Client,
        says: &[
            "rate limit",
            "rate_limit",
            "tokens per min",
            "requests per min",
            "too many requests",
            "too many tokens, please wait",
            "quota exceeded for",
            "concurrency limit",
        ],
        kind: RateLimited,
        source: "developers.openai.com/api/docs/guides/rate-limits; platform.claude.com/docs/en/api/rate-limits; docs.aws.amazon.com/bedrock (ThrottlingException)",
        ..ROW
    },
    // The context window.
    ErrorRow {
        codes: &[
            "context_length_exceeded",
            "context_window_exceeded",
            "model_context_window_exceeded",
            "exceed_context_size_error",
            "token_limit_exceeded",
            "token_quantity_exceeded",
            "context_too_long",
        ],
        kind: ContextWindow,
        source: "developers.openai.com/api/docs/guides/error-codes; github.com/ggml-org/llama.cpp tools/server; developersdigest.tech/errors/api/openrouter",
        ..ROW
    },
    ErrorRow {
        // A name of a tool may be too long too, which is no matter of the context.
        codes: &["string_above_max_length", "string_too_long"],
        says: &[
            "content*string too long",
            "content*maximum length",
            "input*string too long",
            "maximum length 1048576",
        ],
        kind: ContextWindow,
        source: "community.openai.com (string_above_max_length: messages[0].content); developersdigest.tech/errors/api/openrouter",
        ..ROW
    },
    ErrorRow {
        says: &[
            "prompt is too long",
            "prompt too long",
            "prompt exceeds max length",
            "prompt exceeds the",
            "prompt exceeds maximum context",
            "prompt contains*tokens*too large for model",
            "prompt token count*exceeds",
            "prompt length*exceeds",
            "input is too long",
            "input too long",
            "input token length too long",
            "input length*exceed",
            "input token count*exceeds",
            "input tokens exceed",
            "inputs*tokens +*max_new_tokens*must be",
            "inputs*must have less than*tokens",
            "input (*tokens) is longer than",
            "input validation error*tokens",
            "too many input tokens",
            "too many tokens",
            "too large for model with*maximum context",
            "range of input length should be",
            "maximum prompt length is",
            "maximum context length",
            "maximum context window",
            "maximum model length",
            "max context length",
            "maximum input length",
            "maximum number of tokens allowed",
            "maximum allowed token",
            "maximum tokens allowed",
            "max message tokens",
            "context length",
            "context_length_exceeded",
            "context window",
            "context size",
            "context limit",
            "exceeded model token limit",
            "exceeds the token limit",
            "exceeds the limit of*tokens",
            "token count of*exceeds",
            "input tokens*exceed the total tokens limit",
            "tokens to keep from the initial prompt",
            "tokens in request more than max",
            "reduce the length of the messages",
            "reduce the length of the prompt",
            "reduce your prompt",
            "exceeds the model's maximum",
            "longer than the model's",
        ],
        kind: ContextWindow,
        source: "github.com/earendil-works/pi packages/ai/src/utils/overflow.ts (Anthropic, Bedrock, OpenAI, Gemini, xAI, Groq, OpenRouter, llama.cpp, LM Studio, Copilot, MiniMax, Kimi) and issue 9805 (Z.AI); platform.kimi.com/docs/api/errors; alibabacloud.com/help/model-studio/coding-plan-faq; github.com/MoonshotAI/kimi-cli/issues/2011; docs.together.ai/docs/error-codes; Mistral, SGLang, Cloudflare, watsonx.ai: reports; Doubao's words UNCONFIRMED",
        ..ROW
    },
    // Bytes. The next provider may take them.
    ErrorRow {
        codes: &[
            "request_too_large",
            "RequestEntityTooLarge",
            "payload_too_large",
        ],
        kind: RequestTooLarge,
        source: "platform.claude.com/docs/en/api/errors (413: 32 MB)",
        ..ROW
    },
    ErrorRow {
        status: Statuses::Client,
        says: &[
            "request entity too large",
            "request exceeds the maximum size",
            "request exceeds the maximum allowed number of bytes",
            "request payload size exceeds",
            "payload too large",
            "request body too large",
            "request body is too large",
            "maximum request body size",
            "content length limit",
        ],
        kind: RequestTooLarge,
        source: "platform.claude.com/docs/en/api/errors; discuss.ai.google.dev (Request payload size exceeds the limit: 20971520 bytes)",
        ..ROW
    },
    // The model, or the key's right to it.
    ErrorRow {
        codes: &[
            "model_not_found",
            "DeploymentNotFound",
            "ModelNotFound",
            "model_not_available",
            "model_not_supported",
            "invalid_model",
            "InvalidEndpointOrModel.NotFound",
            "InvalidEndpoint.NotFound",
            "InvalidEndpoint.ClosedEndpoint",
            "ModelNotOpen",
            "model_decommissioned",
            "model_deprecated",
        ],
        kind: ModelNotFound,
        source: "learn.microsoft.com/azure/foundry/openai/how-to/troubleshoot-errors; help.aliyun.com/en/model-studio/error-code-start; volcengine.com/docs/82379/1299023; console.groq.com/docs/errors; docs.zenmux.ai/guide/advanced/error-codes",
        ..ROW
    },
    ErrorRow {
        status: Statuses::Client,
        says: &[
            "does not exist or you do not have access",
            "does not exist, or you do not have access",
            "the model*does not exist",
            "model not found",
            "model not exist",
            "model `*` not found",
            "model '*' not found",
            "model \"*\" not found",
            "model*was not found or",
            "model*has been decommissioned",
            "model*has been deprecated",
            "model*no longer available",
            "not a valid model",
            "invalid model",
            "unknown model",
            "no endpoints found",
            "unable to access model",
            "no models loaded",
            "is not found for api version",
            "not have access to it",
            "not have access to model",
            "not have access to the model",
            "verified to use the model",
            "verified to stream this model",
            "has not activated the model",
            "model identifier is invalid",
            "model id*isn't supported",
            "model id*isn\u{2019}t supported",
        ],
        kind: ModelNotFound,
        source: "developers.openai.com/api/docs/guides/error-codes; kerlig.com/help/open-ai/troubleshooting; openrouter.ai/docs/api/reference/errors-and-debugging; volcengine.com/docs/82379/1299023; docs.aws.amazon.com/bedrock (ValidationException)",
        ..ROW
    },
    ErrorRow {
        codes: &[
            "permission_error",
            "PERMISSION_DENIED",
            "permission_denied",
            "AccessDenied",
            "AccessDenied.*",
            "access_denied",
            "AccessDeniedException",
            "permission-denied",
            "The caller does not have permission*",
            "UnauthorizedOperation",
            "SERVICE_DISABLED",
            "API_KEY_SERVICE_BLOCKED",
            "API_KEY_HTTP_REFERRER_BLOCKED",
        ],
        // Some of them are about the key itself.
        says: &[
            "api key*invalid",
            "api key*leaked",
            "api key*expired",
            "api key*not valid",
            "invalid api key",
        ],
        kind: Auth,
        source: "ai.google.dev/gemini-api/docs/troubleshooting (403: key reported as leaked)",
        ..ROW
    },
    ErrorRow {
        codes: &[
            "permission_error",
            "PERMISSION_DENIED",
            "permission_denied",
            "AccessDenied",
            "AccessDenied.*",
            "access_denied",
            "AccessDeniedException",
            "permission-denied",
            "The caller does not have permission*",
            "UnauthorizedOperation",
            "SERVICE_DISABLED",
            "API_KEY_SERVICE_BLOCKED",
            "API_KEY_HTTP_REFERRER_BLOCKED",
        ],
        kind: Permission,
        source: "platform.claude.com/docs/en/api/errors; cloud.google.com/apis/design/errors; help.aliyun.com/en/model-studio/error-code-start; volcengine.com/docs/82379/1299023",
        ..ROW
    },
    // The key.
    ErrorRow {
        codes: &[
            "authentication_error",
            "AuthenticationError",
            "invalid_api_key",
            "InvalidApiKey",
            "invalid_authentication_error",
            "incorrect_api_key_error",
            "invalid_token_error",
            "UNAUTHENTICATED",
            "API_KEY_INVALID",
            "ACCESS_TOKEN_EXPIRED",
            "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            "CREDENTIALS_MISSING",
            "InvalidClientTokenId",
            "UnrecognizedClientException",
            "ExpiredTokenException",
            "api_key_expired",
            "key_disabled",
            "account_locked",
        ],
        kind: Auth,
        source: "developers.openai.com/api/docs/guides/error-codes; platform.claude.com/docs/en/api/errors; developersdigest.tech/errors/api/gemini-api; platform.kimi.com/docs/api/errors; help.aliyun.com/en/model-studio/error-code-start",
        ..ROW
    },
    ErrorRow {
        status: Statuses::Client,
        says: &[
            "incorrect api key",
            "invalid api key",
            "invalid api-key",
            "invalid x-api-key",
            "login fail",
            "api key not valid",
            "api key not found",
            "api key expired",
            "api key is invalid",
            "api key has been",
            "api key*appears to be invalid",
            "api key was reported as leaked",
            "invalid access token",
            "invalid subscription key",
            "the security token included in the request",
        ],
        kind: Auth,
        source: "developers.openai.com/api/docs/guides/error-codes; ai.google.dev/gemini-api/docs/troubleshooting (400: API key not valid); kimi.com/code/docs/en/kimi-code/error-reference.html; alibabacloud.com/help/model-studio/coding-plan-faq; openrouter.ai/docs; xAI (400) UNCONFIRMED",
        ..ROW
    },
    // Not now.
    ErrorRow {
        codes: &[
            "overloaded_error",
            "engine_overloaded_error",
            "server_is_overloaded",
            "service_unavailable_error",
            "UNAVAILABLE",
            "capacity_exceeded",
            "ServiceUnavailable",
            "ServerOverloaded",
            "ModelServingError",
            "ModelNotReadyException",
            "ServiceUnavailableException",
        ],
        kind: Overloaded,
        source: "platform.claude.com/docs/en/api/errors (529); developersdigest.tech/errors/api/openai-api (503); platform.kimi.com/docs/api/errors (429); console.groq.com/docs/errors (498); docs.aws.amazon.com/bedrock",
        ..ROW
    },
    ErrorRow {
        status: Statuses::Is(429),
        says: &[
            "currently overloaded",
            "is overloaded",
            "high demand",
            "over capacity",
        ],
        kind: Overloaded,
        source: "kimi.com/code/docs/en/kimi-code/error-reference.html; developersdigest.tech/errors/api/azure-openai (429, high demand)",
        ..ROW
    },
    ErrorRow {
        codes: &[
            "rate_limit_error",
            "RESOURCE_EXHAUSTED",
            "rate_limit",
            "rate_limited",
        ],
        kind: RateLimited,
        source: "platform.claude.com/docs/en/api/errors; cloud.google.com/apis/design/errors",
        ..ROW
    },
    ErrorRow {
        codes: &[
            "timeout_error",
            "DEADLINE_EXCEEDED",
            "RequestTimeOut",
            "request_timeout",
            "ModelTimeoutException",
        ],
        kind: Timeout,
        source: "platform.claude.com/docs/en/api/errors; cloud.google.com/apis/design/errors; help.aliyun.com/en/model-studio/error-code",
        ..ROW
    },
];

/// Z.AI's and Zhipu's numbers (docs.z.ai/api-reference/api-code).
pub(crate) static GLM: &[ErrorRow] = &[
    ErrorRow {
        codes: &["1000", "1001", "1002", "1003", "1004"],
        kind: Auth,
        source: "docs.z.ai/api-reference/api-code",
        ..ROW
    },
    ErrorRow {
        codes: &["1110", "1111", "1112", "1113", "1120", "1121", "1309"],
        kind: QuotaExhausted,
        source: "docs.z.ai/api-reference/api-code; 1113: github.com/zai-org/GLM-5/issues/49",
        ..ROW
    },
    ErrorRow {
        codes: &["1302", "1303", "1304", "1308", "1310", "1313"],
        kind: RateLimited,
        source: "docs.z.ai/api-reference/api-code",
        ..ROW
    },
    ErrorRow {
        codes: &["1305", "1312"],
        kind: Overloaded,
        source: "docs.z.ai/api-reference/api-code",
        ..ROW
    },
    ErrorRow {
        codes: &["1301"],
        kind: ContentFilter,
        source: "docs.z.ai/api-reference/api-code",
        ..ROW
    },
    ErrorRow {
        codes: &["1261"],
        kind: ContextWindow,
        source: "github.com/earendil-works/pi/issues/9805",
        ..ROW
    },
    ErrorRow {
        codes: &["1211", "1221", "1222"],
        kind: ModelNotFound,
        source: "docs.z.ai/api-reference/api-code",
        ..ROW
    },
    ErrorRow {
        codes: &["1220", "1311"],
        kind: Permission,
        source: "docs.z.ai/api-reference/api-code",
        ..ROW
    },
    ErrorRow {
        codes: &["1210", "1212", "1213", "1214", "1215"],
        kind: InvalidRequest,
        source: "docs.z.ai/api-reference/api-code",
        ..ROW
    },
    ErrorRow {
        codes: &["1230", "1234", "500"],
        kind: ServerError,
        source: "docs.z.ai/api-reference/api-code",
        ..ROW
    },
];
