//! The table, case by case, and what a client reads of each.

use proptest::prelude::*;

use super::*;
use UpstreamErrorKind::{
    Auth, ContentFilter, ContextWindow, InvalidRequest, ModelNotFound, Overloaded, Permission,
    Place, QuotaExhausted, RateLimited, RequestTooLarge, ServerError, Timeout,
};

fn answered(status: u16, headers: &[(&'static str, &str)], body: &str) -> UpstreamErrorFacts {
    classify_of("openai-compatible", status, headers, body)
}

fn classify_of(
    vendor: &str,
    status: u16,
    headers: &[(&'static str, &str)],
    body: &str,
) -> UpstreamErrorFacts {
    let rows = if vendor == "glm" { GLM } else { &[] };
    let headers = headers.iter().map(|(name, value)| {
        (
            http::HeaderName::from_static(name),
            http::HeaderValue::from_str(value).unwrap(),
        )
    });
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let headers = headers.collect();
    super::classify(rows, status, &headers, body.as_bytes(), now)
}

#[test]
fn the_message_is_the_providers_own_where_it_has_one() {
    assert_eq!(
        answered(400, &[], r#"{"error":"model is required"}"#).message,
        "model is required"
    );
    assert_eq!(
        answered(502, &[], "upstream connect error").message,
        "upstream connect error"
    );
    assert_eq!(
        answered(502, &[], "<html>").message,
        "the provider answered 502 without a reason"
    );
    let long = format!(r#"{{"error":{{"message":"{}"}}}}"#, "\u{e9}".repeat(5000));
    assert!(answered(400, &[], &long).message.len() <= caps::ERROR_MESSAGE_BYTES_MAX);
}

#[test]
fn the_pause_is_found_in_each_of_its_forms() {
    let after = |headers: &[(&'static str, &str)], body| answered(429, headers, body).retry_after;
    assert_eq!(
        after(&[("retry-after", "2")], ""),
        Some(Duration::from_secs(2))
    );
    assert_eq!(
        after(&[("retry-after", "0.5")], ""),
        Some(Duration::from_millis(500))
    );
    assert_eq!(
        after(&[("retry-after-ms", "250"), ("retry-after", "1")], ""),
        Some(Duration::from_millis(250))
    );
    assert_eq!(
        after(&[("retry-after", "Sun, 06 Nov 1994 08:49:39 GMT")], ""),
        Some(Duration::from_secs(2))
    );
    assert_eq!(
        after(&[("retry-after", "Tue, 06 Nov 1990 08:49:39 GMT")], ""),
        Some(Duration::ZERO)
    );
    let body = r#"{"error":{"code":429,"details":[{"@type":"x"},{"retryDelay":"34.5s"}]}}"#;
    assert_eq!(after(&[], body), Some(Duration::from_millis(34_500)));
    for nonsense in ["-1", "NaN", "inf", "soon", "1e400"] {
        let pause = after(&[("retry-after", nonsense)], "").unwrap_or_default();
        assert!(pause <= Duration::from_secs(100_000_000), "{nonsense}");
    }
}

#[test]
fn a_refused_provider_key_is_not_the_clients_fault() {
    let error = answered(401, &[], r#"{"error":{"message":"bad key"}}"#).to_api_error("openai");
    assert_eq!(error.status(crate::Family::OpenAi), 502);
    assert_eq!(error.should_retry, Some(false));
    assert!(!error.message.contains("key"), "{}", error.message);
}

#[test]
fn a_quoted_key_is_redacted() {
    let mut facts = answered(401, &[], r#"{"error":{"message":"key sk-1234 is wrong"}}"#);
    facts.redact("sk-1234");
    assert_eq!(facts.message, "key [redacted] is wrong");
}

/// A vendor, a status, a body, and what it means.
type Case = (&'static str, u16, &'static str, UpstreamErrorKind);

/// What vendors answer, after their pages and the reports that the table names.
const CASES: &[Case] = &[
    // watsonx.ai
    (
        "openai-compatible",
        400,
        r#"{"errors":[{"code":"invalid_input_argument","message":"Invalid input argument for Model 'm': the number of input tokens 9000 cannot exceed the total tokens limit 8192 for this model"}]}"#,
        ContextWindow,
    ),
    // OpenAI
    (
        "openai",
        400,
        r#"{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        ContextWindow,
    ),
    (
        "openai",
        400,
        r#"{"error":{"message":"Your input exceeds the context window of this model. Please adjust your input and try again.","type":"invalid_request_error","param":"input","code":null}}"#,
        ContextWindow,
    ),
    (
        "openai",
        400,
        r#"{"error":{"message":"Invalid 'messages[1].content': string too long. Expected a string with maximum length 1048576, but got a string with length 1200000 instead.","type":"invalid_request_error","param":"messages[1].content","code":"string_above_max_length"}}"#,
        ContextWindow,
    ),
    (
        "openai",
        400,
        r#"{"error":{"message":"Invalid 'tools[0].function.name': string too long. Expected a string with maximum length 64, but got a string with length 81 instead.","type":"invalid_request_error","param":"tools[0].function.name","code":"string_above_max_length"}}"#,
        InvalidRequest,
    ),
    (
        "openai",
        400,
        r#"{"error":{"message":"max_tokens is too large: 100000. This model supports at most 16384 completion tokens.","type":"invalid_request_error","param":"max_tokens","code":null}}"#,
        InvalidRequest,
    ),
    (
        "openai",
        400,
        r#"{"error":{"message":"bad field","type":"invalid_request_error"}}"#,
        InvalidRequest,
    ),
    (
        "openai",
        400,
        r#"{"error":{"message":"The server had an error","type":"server_error","param":null,"code":null}}"#,
        InvalidRequest,
    ),
    (
        "openai",
        404,
        r#"{"error":{"message":"Item with id 'rs_1' not found. Items are not persisted when `store` is set to false.","type":"invalid_request_error","param":"input","code":null}}"#,
        InvalidRequest,
    ),
    (
        "openai",
        404,
        r#"{"error":{"message":"The model `gpt-9` does not exist or you do not have access to it.","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
        ModelNotFound,
    ),
    (
        "openai",
        403,
        r#"{"error":{"message":"Project `proj_abc123` does not have access to model `gpt-5`","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
        ModelNotFound,
    ),
    (
        "openai",
        400,
        r#"{"error":{"message":"Your organization must be verified to stream this model. Please go to: https://platform.openai.com/settings/organization/general and click on Verify Organization.","type":"invalid_request_error","param":"stream","code":"unsupported_value"}}"#,
        ModelNotFound,
    ),
    (
        "openai",
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-abc1****wxyz. You can find your API key at https://platform.openai.com/account/api-keys.","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
        Auth,
    ),
    (
        "openai",
        401,
        r#"{"error":{"message":"You must be a member of an organization to use the API.","type":"invalid_request_error","param":null,"code":null}}"#,
        Auth,
    ),
    (
        "openai",
        401,
        r#"{"error":{"message":"IP not authorized. Your request IP does not match the configured IP allowlist.","type":"invalid_request_error","param":null,"code":"ip_not_authorized"}}"#,
        Place,
    ),
    (
        "openai",
        403,
        r#"{"error":{"code":"unsupported_country_region_territory","message":"Country, region, or territory not supported","param":null,"type":"request_forbidden"}}"#,
        Place,
    ),
    (
        "openai",
        429,
        r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
        QuotaExhausted,
    ),
    (
        "openai",
        429,
        r#"{"error":{"message":"Your prepaid credits are used up.","type":"insufficient_quota","param":null,"code":"credit_balance_exhausted"}}"#,
        QuotaExhausted,
    ),
    (
        "openai",
        429,
        r#"{"error":{"message":"x","type":"insufficient_quota","code":"project_spend_limit_exceeded"}}"#,
        QuotaExhausted,
    ),
    (
        "openai",
        429,
        r#"{"error":{"message":"Your account is not active, please check your billing details on our website.","type":"billing_not_active","param":null,"code":"billing_not_active"}}"#,
        QuotaExhausted,
    ),
    (
        "openai",
        429,
        r#"{"error":{"message":"slow","type":"requests","code":"rate_limit_exceeded"}}"#,
        RateLimited,
    ),
    (
        "openai",
        429,
        r#"{"error":{"message":"Request too large for gpt-4o in organization org-a1b2c3d4 on tokens per min (TPM): Limit 30000, Requested 50000. The input or output tokens must be reduced in order to run successfully.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
        RateLimited,
    ),
    (
        "openai",
        429,
        r#"{"error":{"message":"x","type":"rate_limit_error","code":"slow_down"}}"#,
        RateLimited,
    ),
    (
        "openai",
        503,
        r#"{"error":{"message":"busy","type":"service_unavailable_error","code":"server_is_overloaded"}}"#,
        Overloaded,
    ),
    (
        "openai",
        400,
        r#"{"error":{"message":"Invalid prompt: your prompt was flagged as potentially violating our usage policy.","type":"invalid_request_error","param":null,"code":"invalid_prompt"}}"#,
        ContentFilter,
    ),
    (
        "openai",
        400,
        r#"{"error":{"message":"Your request was rejected as a result of our safety system.","type":"image_generation_user_error","param":null,"code":"moderation_blocked"}}"#,
        ContentFilter,
    ),
    (
        "openai",
        424,
        r#"{"error":{"message":"Error retrieving tool list from MCP server: 'x'. Http status code: 401 (Unauthorized)","type":"external_connector_error","param":"tools","code":"http_error"}}"#,
        InvalidRequest,
    ),
    (
        "openai",
        500,
        "<html>Internal Server Error</html>",
        ServerError,
    ),
    ("openai", 504, "", Timeout),
    // Azure
    (
        "azure",
        400,
        r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{}}}}"#,
        ContentFilter,
    ),
    (
        "azure",
        400,
        r#"{"error":{"message":"no","code":"BadRequest","innererror":{"code":"ResponsibleAIPolicyViolation"}}}"#,
        ContentFilter,
    ),
    (
        "azure",
        404,
        r#"{"error":{"code":"DeploymentNotFound","message":"The API deployment for this resource does not exist."}}"#,
        ModelNotFound,
    ),
    (
        "azure",
        401,
        r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#,
        Auth,
    ),
    (
        "azure",
        403,
        r#"{"error":{"code":"403","message":"Access denied due to Virtual Network/Firewall rules."}}"#,
        Place,
    ),
    (
        "azure",
        429,
        r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation have exceeded token rate limit of your current OpenAI S0 pricing tier."}}"#,
        RateLimited,
    ),
    (
        "azure",
        429,
        r#"{"error":{"code":"NoCapacity","message":"The system is currently experiencing high demand and cannot process your request."}}"#,
        Overloaded,
    ),
    // Anthropic
    (
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."}}"#,
        QuotaExhausted,
    ),
    (
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."},"request_id":"req_1"}"#,
        QuotaExhausted,
    ),
    (
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."}}"#,
        QuotaExhausted,
    ),
    (
        "anthropic",
        402,
        r#"{"type":"error","error":{"type":"billing_error","message":"x"}}"#,
        QuotaExhausted,
    ),
    (
        "anthropic",
        429,
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"x","details":{"error_code":"enforced_spend_limit_reached"}}}"#,
        QuotaExhausted,
    ),
    (
        "anthropic",
        429,
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"This request would exceed your organization's rate limit of 40,000 input tokens per minute (org: 6b700525-ce41-438a-87ff-0ceffd4e4419, model: claude-opus-4-6)."}}"#,
        RateLimited,
    ),
    (
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 200345 tokens > 200000 maximum"}}"#,
        ContextWindow,
    ),
    (
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 198000 + 20000 > 200000, decrease input length or `max_tokens` and try again"}}"#,
        ContextWindow,
    ),
    (
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens for claude-3-5-haiku"}}"#,
        InvalidRequest,
    ),
    (
        "anthropic",
        413,
        r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#,
        RequestTooLarge,
    ),
    (
        "anthropic",
        413,
        "<html><head><title>413 Request Entity Too Large</title></head></html>",
        RequestTooLarge,
    ),
    (
        "anthropic",
        401,
        r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
        Auth,
    ),
    (
        "anthropic",
        403,
        r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission to use the specified resource."}}"#,
        Permission,
    ),
    (
        "anthropic",
        403,
        r#"{"error":{"type":"forbidden","message":"Request not allowed"}}"#,
        Place,
    ),
    (
        "anthropic",
        404,
        r#"{"type":"error","error":{"type":"not_found_error","message":"model: claude-9"}}"#,
        ModelNotFound,
    ),
    (
        "anthropic",
        404,
        r#"{"type":"error","error":{"type":"not_found_error","message":"File not found: file_1"}}"#,
        InvalidRequest,
    ),
    (
        "anthropic",
        529,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
        Overloaded,
    ),
    (
        "anthropic",
        504,
        r#"{"type":"error","error":{"type":"timeout_error","message":"x"}}"#,
        Timeout,
    ),
    (
        "anthropic",
        500,
        r#"{"type":"error","error":{"type":"api_error","message":"Internal server error"}}"#,
        ServerError,
    ),
    (
        "anthropic",
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#,
        ContentFilter,
    ),
    // Google
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (8).","status":"INVALID_ARGUMENT"}}"#,
        ContextWindow,
    ),
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}"#,
        Auth,
    ),
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#,
        Place,
    ),
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"Gemini API free tier is not available in your country. Please enable billing on your project in Google AI Studio.","status":"FAILED_PRECONDITION"}}"#,
        Place,
    ),
    (
        "gemini",
        403,
        r#"{"error":{"code":403,"message":"Your API key was reported as leaked. Please use another API key.","status":"PERMISSION_DENIED"}}"#,
        Auth,
    ),
    (
        "gemini",
        403,
        r#"{"error":{"code":403,"message":"Generative Language API has not been used in project 123456789012 before or it is disabled.","status":"PERMISSION_DENIED","details":[{"reason":"SERVICE_DISABLED"}]}}"#,
        Permission,
    ),
    (
        "gemini",
        403,
        r#"{"error":{"code":403,"message":"The provided API key has an IP address restriction.","status":"PERMISSION_DENIED","details":[{"reason":"API_KEY_IP_ADDRESS_BLOCKED"}]}}"#,
        Place,
    ),
    (
        "gemini",
        403,
        r#"{"error":{"code":403,"message":"This API method requires billing to be enabled.","status":"PERMISSION_DENIED","details":[{"reason":"BILLING_DISABLED"}]}}"#,
        QuotaExhausted,
    ),
    (
        "gemini",
        429,
        r#"{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: 20","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}"#,
        RateLimited,
    ),
    (
        "gemini",
        429,
        r#"{"error":{"code":429,"message":"Your prepayment credits are depleted. Please go to AI Studio.","status":"RESOURCE_EXHAUSTED"}}"#,
        QuotaExhausted,
    ),
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"Request payload size exceeds the limit: 20971520 bytes.","status":"INVALID_ARGUMENT"}}"#,
        RequestTooLarge,
    ),
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"Request blocked","status":"INVALID_ARGUMENT","details":[{"reason":"PROHIBITED_CONTENT"}]}}"#,
        ContentFilter,
    ),
    (
        "gemini",
        404,
        r#"{"error":{"code":404,"message":"models/x is not found for API version v1beta","status":"NOT_FOUND"}}"#,
        ModelNotFound,
    ),
    (
        "gemini",
        503,
        r#"[{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}]"#,
        Overloaded,
    ),
    (
        "gemini",
        504,
        r#"{"error":{"code":504,"message":"x","status":"DEADLINE_EXCEEDED"}}"#,
        Timeout,
    ),
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"Invalid JSON payload received. Unknown name \"x\"","status":"INVALID_ARGUMENT"}}"#,
        InvalidRequest,
    ),
    (
        "gemini",
        400,
        r#"{"error":{"code":400,"message":"x","status":"INTERNAL"}}"#,
        InvalidRequest,
    ),
    (
        "vertex",
        429,
        r#"{"error":{"code":429,"message":"Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model","status":"RESOURCE_EXHAUSTED"}}"#,
        RateLimited,
    ),
    (
        "vertex",
        403,
        r#"{"error":{"code":403,"message":"Permission 'aiplatform.endpoints.predict' denied on resource '//aiplatform.googleapis.com/projects/p/locations/l' (or it may not exist).","status":"PERMISSION_DENIED","details":[{"reason":"IAM_PERMISSION_DENIED"}]}}"#,
        Permission,
    ),
    (
        "vertex",
        404,
        r#"{"error":{"code":404,"message":"Publisher Model `projects/p/locations/l/publishers/google/models/x` was not found or your project does not have access to it.","status":"NOT_FOUND"}}"#,
        ModelNotFound,
    ),
    (
        "vertex",
        401,
        r#"{"error":{"code":401,"message":"Request had invalid authentication credentials.","status":"UNAUTHENTICATED","details":[{"reason":"ACCESS_TOKEN_EXPIRED"}]}}"#,
        Auth,
    ),
    // OpenRouter
    (
        "openrouter",
        403,
        r#"{"error":{"message":"anthropic/claude requires moderation on Anthropic. Your input was flagged for \"violence\". No credits were charged.","code":403,"metadata":{"reasons":["violence"],"flagged_input":"a text","provider_name":"Anthropic","model_slug":"x"}}}"#,
        ContentFilter,
    ),
    (
        "openrouter",
        403,
        r#"{"error":{"message":"Forbidden","code":403,"metadata":{"reasons":[],"provider_name":"X"}}}"#,
        ContentFilter,
    ),
    (
        "openrouter",
        402,
        r#"{"error":{"message":"This request requires more credits, or fewer max_tokens. You requested up to 64000 tokens, but can only afford 100.","code":402}}"#,
        QuotaExhausted,
    ),
    (
        "openrouter",
        403,
        r#"{"error":{"message":"Key limit exceeded (monthly limit). Manage it using https://openrouter.ai/settings/keys","code":403}}"#,
        QuotaExhausted,
    ),
    (
        "openrouter",
        401,
        r#"{"error":{"message":"User not found.","code":401}}"#,
        Auth,
    ),
    (
        "openrouter",
        400,
        r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"This endpoint's maximum context length is 131072 tokens. However, you requested about 190000 tokens\",\"code\":400}}","provider_name":"X"}}}"#,
        ContextWindow,
    ),
    (
        "openrouter",
        400,
        r#"{"error":{"message":"Provider returned error","code":400,"metadata":{"raw":"{\"error\":{\"message\":\"Your credit balance is too low\"}}","provider_name":"X"}}}"#,
        InvalidRequest,
    ),
    (
        "openrouter",
        400,
        r#"{"error":{"message":"x/y is not a valid model ID","code":400}}"#,
        ModelNotFound,
    ),
    (
        "openrouter",
        404,
        r#"{"error":{"message":"No endpoints found for x/y.","code":404}}"#,
        ModelNotFound,
    ),
    (
        "openrouter",
        502,
        r#"{"error":{"message":"Provider returned error","code":502}}"#,
        ServerError,
    ),
    (
        "openrouter",
        503,
        r#"{"error":{"message":"No instances available","code":503}}"#,
        Overloaded,
    ),
    // xAI
    (
        "xai",
        403,
        r#"{"code":"The caller does not have permission to execute the specified operation","error":"Content violates usage guidelines. Team: 481c7584-ab46-4974-b86b-a4978384e229, API key ID: 481c7584-ab46-4974-b86b-a4978384e229, Model: grok-4, Failed check: SAFETY_CHECK_TYPE_BIO"}"#,
        ContentFilter,
    ),
    (
        "xai",
        403,
        r#"{"code":"permission-denied","error":"Content violates usage guidelines. "}"#,
        ContentFilter,
    ),
    (
        "xai",
        403,
        r#"{"code":"permission-denied","error":"Access to the chat endpoint is denied."}"#,
        Permission,
    ),
    (
        "xai",
        403,
        r#"{"code":"x","error":"Your newly created team doesn't have any credits or licenses yet. You can purchase those on https://console.x.ai/team/481c7584-ab46-4974-b86b-a4978384e229."}"#,
        QuotaExhausted,
    ),
    (
        "xai",
        429,
        r#"{"code":"Some resource has been exhausted","error":"Your team has either used all available credits or reached its monthly spending limit."}"#,
        QuotaExhausted,
    ),
    (
        "xai",
        400,
        r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***yz. You can obtain an API key from https://console.x.ai."}"#,
        Auth,
    ),
    (
        "xai",
        400,
        r#"{"code":"Client specified an invalid argument","error":"This model's maximum prompt length is 131072 but the request contains 537812 tokens."}"#,
        ContextWindow,
    ),
    // Chinese vendors
    (
        "qwen",
        400,
        r#"{"error":{"code":"data_inspection_failed","message":"Input data may contain inappropriate content.","type":"data_inspection_failed"}}"#,
        ContentFilter,
    ),
    (
        "qwen",
        400,
        r#"{"error":{"code":"Arrearage","param":null,"message":"Access denied, please make sure your account is in good standing.","type":"Arrearage"}}"#,
        QuotaExhausted,
    ),
    (
        "qwen",
        400,
        r#"{"error":{"code":"invalid_parameter_error","message":"Range of input length should be [1, 129024]","type":"invalid_request_error"}}"#,
        ContextWindow,
    ),
    (
        "qwen",
        429,
        r#"{"error":{"code":"insufficient_quota","message":"You exceeded your current quota. Allocated quota exceeded, please increase your quota limit.","type":"insufficient_quota"}}"#,
        RateLimited,
    ),
    (
        "qwen",
        429,
        r#"{"error":{"code":"limit_requests","message":"You exceeded your current requests list.","type":"limit_requests"}}"#,
        RateLimited,
    ),
    (
        "qwen",
        401,
        r#"{"error":{"code":"invalid_api_key","message":"Incorrect API key provided.","type":"invalid_request_error"}}"#,
        Auth,
    ),
    (
        "qwen",
        403,
        r#"{"error":{"code":"AllocationQuota.FreeTierOnly","message":"The free tier of the model has been exhausted.","type":"x"}}"#,
        QuotaExhausted,
    ),
    (
        "qwen",
        404,
        r#"{"error":{"code":"model_not_found","message":"The model `x` does not exist or you do not have access to it.","type":"invalid_request_error"}}"#,
        ModelNotFound,
    ),
    (
        "deepseek",
        402,
        r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
        QuotaExhausted,
    ),
    (
        "deepseek",
        400,
        r#"{"error":{"message":"Content Exists Risk","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}"#,
        ContentFilter,
    ),
    (
        "deepseek",
        400,
        r#"{"error":{"message":"Model Not Exist","type":"invalid_request_error","param":null,"code":"invalid_request_error"}}"#,
        ModelNotFound,
    ),
    (
        "deepseek",
        401,
        r#"{"error":{"message":"Authentication Fails (no such user)","type":"authentication_error","param":null,"code":"invalid_request_error"}}"#,
        Auth,
    ),
    (
        "kimi",
        400,
        r#"{"error":{"message":"Invalid request: Your request exceeded model token limit: 262144 (requested: 269030)","type":"invalid_request_error"}}"#,
        ContextWindow,
    ),
    (
        "kimi",
        400,
        r#"{"error":{"message":"Input token length too long","type":"invalid_request_error"}}"#,
        ContextWindow,
    ),
    (
        "kimi",
        400,
        r#"{"error":{"type":"content_filter","message":"The request was rejected because it was considered high risk"}}"#,
        ContentFilter,
    ),
    (
        "kimi",
        429,
        r#"{"error":{"type":"exceeded_current_quota_error","message":"Your account is suspended, please check your plan and billing details"}}"#,
        QuotaExhausted,
    ),
    (
        "kimi",
        403,
        r#"{"error":{"type":"x","message":"You've reached your usage limit for this billing cycle."}}"#,
        QuotaExhausted,
    ),
    (
        "kimi",
        429,
        r#"{"error":{"message":"busy","type":"engine_overloaded_error"}}"#,
        Overloaded,
    ),
    (
        "kimi",
        401,
        r#"{"error":{"message":"Invalid Authentication","type":"invalid_authentication_error"}}"#,
        Auth,
    ),
    (
        "glm",
        400,
        r#"{"error":{"code":"1261","message":"Prompt exceeds max length"}}"#,
        ContextWindow,
    ),
    (
        "glm",
        400,
        r#"{"error":{"code":"1301","message":"System detected potentially unsafe or sensitive content in input or generation."}}"#,
        ContentFilter,
    ),
    (
        "glm",
        429,
        r#"{"error":{"code":"1113","message":"Insufficient balance or no resource package. Please recharge."}}"#,
        QuotaExhausted,
    ),
    (
        "glm",
        429,
        r#"{"error":{"code":"1302","message":"High concurrency usage of this API"}}"#,
        RateLimited,
    ),
    (
        "glm",
        429,
        r#"{"error":{"code":"1305","message":"busy"}}"#,
        Overloaded,
    ),
    (
        "glm",
        400,
        r#"{"error":{"code":"1211","message":"Unknown Model, please check the model code."}}"#,
        ModelNotFound,
    ),
    (
        "glm",
        401,
        r#"{"error":{"code":"1000","message":"Authentication Failed"}}"#,
        Auth,
    ),
    (
        "glm",
        400,
        r#"{"error":{"code":"1214","message":"Invalid parameter"}}"#,
        InvalidRequest,
    ),
    (
        "openai-compatible",
        400,
        r#"{"error":{"code":"1302","message":"a number that means something else here"}}"#,
        InvalidRequest,
    ),
    (
        "doubao",
        403,
        r#"{"error":{"code":"AccountOverdueError","message":"The request failed because your account has an overdue balance.","type":"Forbidden"}}"#,
        QuotaExhausted,
    ),
    (
        "doubao",
        400,
        r#"{"error":{"code":"InputTextSensitiveContentDetected.PolicyViolation","message":"x","type":"BadRequest"}}"#,
        ContentFilter,
    ),
    (
        "doubao",
        400,
        r#"{"error":{"code":"InvalidParameter","message":"Total tokens of image and text exceed max message tokens. Request id: 1","type":"BadRequest"}}"#,
        ContextWindow,
    ),
    (
        "doubao",
        404,
        r#"{"error":{"code":"InvalidEndpointOrModel.NotFound","message":"The model or endpoint x does not exist or you do not have access to it.","type":"NotFound"}}"#,
        ModelNotFound,
    ),
    (
        "doubao",
        403,
        r#"{"error":{"code":"AccessDenied","message":"The request failed because you do not have access to the requested resource.","type":"Forbidden"}}"#,
        Permission,
    ),
    (
        "doubao",
        400,
        r#"{"error":{"code":"InvalidEndpoint.ClosedEndpoint","message":"The request targeted an endpoint that is currently closed or temporarily unavailable.","type":"BadRequest"}}"#,
        ModelNotFound,
    ),
    (
        "doubao",
        401,
        r#"{"error":{"code":"AuthenticationError","message":"The API key or AK/SK in the request is missing or invalid.","type":"Unauthorized"}}"#,
        Auth,
    ),
    (
        "openai-compatible",
        400,
        r#"{"error":{"message":"invalid params, context window exceeds limit (2013)","type":"bad_request_error"}}"#,
        ContextWindow,
    ),
    // Others
    (
        "mistral",
        400,
        r#"{"object":"error","message":"Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length","type":"invalid_request_error","param":null,"code":"3051"}"#,
        ContextWindow,
    ),
    (
        "mistral",
        422,
        r#"{"detail":[{"loc":["body","x"],"msg":"extra"}]}"#,
        InvalidRequest,
    ),
    (
        "mistral",
        400,
        r#"{"object":"error","message":"Invalid model: x","type":"invalid_model","param":null,"code":"1500"}"#,
        ModelNotFound,
    ),
    (
        "groq",
        400,
        r#"{"error":{"message":"Please reduce the length of the messages or completion.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
        ContextWindow,
    ),
    (
        "groq",
        413,
        r#"{"error":{"message":"Request too large for model `x` in organization `org_01abcdef` service tier `on_demand` on tokens per minute (TPM): Limit 6000, Requested 9000. Need more tokens? Upgrade to Dev Tier today at https://console.groq.com/settings/billing","type":"tokens","code":"rate_limit_exceeded"}}"#,
        RateLimited,
    ),
    (
        "groq",
        413,
        r#"{"error":{"message":"Request Entity Too Large","type":"invalid_request_error","code":"request_too_large"}}"#,
        RequestTooLarge,
    ),
    (
        "groq",
        404,
        r#"{"error":{"message":"The model `x` does not exist or you do not have access to it.","type":"invalid_request_error","code":"model_not_found"}}"#,
        ModelNotFound,
    ),
    (
        "groq",
        400,
        r#"{"error":{"message":"The model `x` has been decommissioned and is no longer supported.","type":"invalid_request_error","code":"model_decommissioned"}}"#,
        ModelNotFound,
    ),
    (
        "groq",
        400,
        r#"{"error":{"message":"Organization has been restricted. Please reach out to support.","type":"invalid_request_error","code":"organization_restricted"}}"#,
        QuotaExhausted,
    ),
    (
        "groq",
        498,
        r#"{"error":{"message":"x","type":"capacity_exceeded"}}"#,
        Overloaded,
    ),
    (
        "together",
        403,
        r#"{"error":{"message":"Input token count + max_tokens parameter must be less than the context length of the model being queried","type":"invalid_request_error"}}"#,
        ContextWindow,
    ),
    (
        "together",
        422,
        r#"{"error":{"message":"Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4097. Given: 80125 `inputs` tokens and 4096 `max_new_tokens`","type":"invalid_request_error","param":"max_tokens","code":null}}"#,
        ContextWindow,
    ),
    (
        "together",
        404,
        r#"{"error":{"message":"Unable to access model x. Please visit https://api.together.ai/models to view the list of supported models.","type":"invalid_request_error","code":"model_not_available"}}"#,
        ModelNotFound,
    ),
    (
        "vllm",
        400,
        r#"{"object":"error","message":"This model's maximum context length is 4096 tokens. However, you requested 8000 tokens.","type":"BadRequestError","param":null,"code":400}"#,
        ContextWindow,
    ),
    (
        "vllm",
        400,
        r#"{"error":{"message":"The decoder prompt (length 9000) is longer than the maximum model length of 8192.","type":"BadRequestError","code":400}}"#,
        ContextWindow,
    ),
    (
        "vllm",
        404,
        r#"{"error":{"message":"The model `x` does not exist.","type":"NotFoundError","param":null,"code":404}}"#,
        ModelNotFound,
    ),
    (
        "vllm",
        400,
        r#"{"object":"error","message":"The input (9000 tokens) is longer than the model's context length (8192 tokens).","type":"BadRequestError","param":null,"code":400}"#,
        ContextWindow,
    ),
    (
        "llamacpp",
        400,
        r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9,"n_ctx":8}}"#,
        ContextWindow,
    ),
    (
        "llamacpp",
        500,
        r#"{"error":{"code":500,"message":"context size has been exceeded","type":"server_error"}}"#,
        ContextWindow,
    ),
    (
        "ollama",
        404,
        r#"{"error":{"message":"model \"x\" not found, try pulling it first","type":"api_error","param":null,"code":null}}"#,
        ModelNotFound,
    ),
    (
        "ollama",
        400,
        r#"{"error":"input length exceeds maximum context length"}"#,
        ContextWindow,
    ),
    (
        "openai-compatible",
        400,
        r#"{"error":"Trying to keep the first 6592 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens, which is not enough."}"#,
        ContextWindow,
    ),
    (
        "openai-compatible",
        400,
        r#"{"error":{"message":"The number of tokens to keep from the initial prompt is greater than the context length"}}"#,
        ContextWindow,
    ),
    (
        "openai-compatible",
        400,
        r#"{"error":{"message":"prompt token count of 140000 exceeds the limit of 128000","code":"model_max_prompt_tokens_exceeded"}}"#,
        ContextWindow,
    ),
    (
        "openai-compatible",
        400,
        r#"{"message":"Input is too long for requested model."}"#,
        ContextWindow,
    ),
    (
        "openai-compatible",
        429,
        r#"{"message":"Too many tokens, please wait before trying again."}"#,
        RateLimited,
    ),
    (
        "openai-compatible",
        400,
        r#"{"errors":[{"message":"AiError: The estimated number of input and maximum output tokens (9000) exceeded this model context window limit (8192)."}]}"#,
        ContextWindow,
    ),
    (
        "openai-compatible",
        403,
        r#"{"message":"Access to Anthropic models is not allowed from unsupported countries, regions, or territories."}"#,
        Place,
    ),
    (
        "openai-compatible",
        400,
        r#"{"message":"Content blocked by guardrail","type":"x"}"#,
        ContentFilter,
    ),
    ("openai-compatible", 403, "error code: 1009", Place),
    (
        "openai-compatible",
        403,
        "<html>Attention Required</html>",
        Permission,
    ),
    ("openai-compatible", 451, "", Place),
    (
        "openai-compatible",
        404,
        "404 page not found",
        ModelNotFound,
    ),
    ("openai-compatible", 405, "", ModelNotFound),
    (
        "openai-compatible",
        409,
        r#"{"error":{"message":"x","type":"server_error"}}"#,
        InvalidRequest,
    ),
    ("openai-compatible", 400, "", InvalidRequest),
    (
        "openai-compatible",
        400,
        r#"{"type":"error","error":{"type":"bad_request_error","message":"input new_sensitive (1026)"}}"#,
        ContentFilter,
    ),
    (
        "openai-compatible",
        400,
        r#"{"error":{"message":"Budget has been exceeded! Current cost: 12.3, Max budget: 10.0","type":"budget_exceeded","param":null,"code":"400"}}"#,
        QuotaExhausted,
    ),
    (
        "openai-compatible",
        400,
        r#"{"error":"No models loaded. Please load a model in the developer page or use the `lms load` command."}"#,
        ModelNotFound,
    ),
    (
        "doubao",
        429,
        r#"{"error":{"code":"SetLimitExceeded","message":"Your account has reached the set inference limit for the model, and the model service has been paused.","type":"TooManyRequests"}}"#,
        QuotaExhausted,
    ),
    (
        "openai",
        400,
        r#"{"error":{"message":"This request has been flagged for possible cybersecurity risk.","type":"invalid_request_error","code":"cyber_policy"}}"#,
        ContentFilter,
    ),
];

#[test]
fn what_providers_say_is_understood() {
    for (vendor, status, body, expect) in CASES {
        let kind = classify_of(vendor, *status, &[], body).kind;
        assert_eq!(kind, *expect, "{vendor} {status} {body}");
    }
}

#[test]
fn each_row_of_the_table_has_a_source_and_words() {
    for row in TABLE.iter().chain(GLM) {
        assert!(!row.source.is_empty(), "{row:?}");
        for phrase in row.says {
            assert_eq!(
                *phrase,
                phrase.to_lowercase(),
                "texts are compared in small letters"
            );
        }
        let has_words = !row.codes.is_empty() || !row.says.is_empty();
        assert!(
            has_words || matches!(row.status, table::Statuses::Is(_)),
            "{row:?}"
        );
    }
}

#[test]
fn no_client_error_becomes_a_servers() {
    for status in 400..500 {
        for word in [
            "server_error",
            "api_error",
            "INTERNAL",
            "internal_error",
            "InternalServerError",
        ] {
            let body = format!(r#"{{"error":{{"message":"x","type":"{word}","code":"{word}"}}}}"#);
            let kind = answered(status, &[], &body).kind;
            // 499 is what proxies say of a client, here the gateway, that left.
            assert!(kind != ServerError || status == 499, "{status} {word}");
        }
    }
}

#[test]
fn a_vendors_numbers_are_read_inside_a_stream_too() {
    let facts = UpstreamErrorFacts::in_stream(br#"{"code":"1113","message":"x"}"#);
    assert_eq!(facts.clone().meant_by(&[]).kind, ServerError);
    assert_eq!(facts.meant_by(GLM).kind, QuotaExhausted);
}

#[test]
fn errors_inside_a_stream_are_understood_by_their_words() {
    for (error, expect) in [
        (
            r#"{"message":"slow down","type":"server_error","code":"rate_limit_exceeded"}"#,
            RateLimited,
        ),
        (
            r#"{"type":"overloaded_error","message":"Overloaded"}"#,
            Overloaded,
        ),
        (r#"{"type":"api_error","message":"x"}"#, ServerError),
        (
            r#"{"code":403,"message":"x","metadata":{"reasons":["violence"]}}"#,
            ContentFilter,
        ),
        (
            r#"{"code":502,"message":"Provider returned error"}"#,
            ServerError,
        ),
        (
            r#"{"type":"invalid_request_error","message":"Your credit balance is too low"}"#,
            QuotaExhausted,
        ),
        (
            r#"{"code":"unsupported_file","message":"The file type is not supported."}"#,
            InvalidRequest,
        ),
        (
            r#"{"code":"rate_limit_exceeded","message":"Rate limit reached for gpt-5 in organization org-1"}"#,
            RateLimited,
        ),
        // MiniMax's base_resp.
        (
            r#"{"status_code":1008,"status_msg":"insufficient balance"}"#,
            QuotaExhausted,
        ),
        (
            r#"{"status_code":1002,"status_msg":"rate limit"}"#,
            RateLimited,
        ),
        (
            r#"{"status_code":1004,"status_msg":"login fail: Please carry the API secret key"}"#,
            Auth,
        ),
        (
            r#"{"status_code":2049,"status_msg":"invalid api key"}"#,
            Auth,
        ),
        (
            r#"{"status_code":2013,"status_msg":"invalid params, context window exceeds limit"}"#,
            ContextWindow,
        ),
        (
            r#"{"status_code":1027,"status_msg":"output new_sensitive"}"#,
            ContentFilter,
        ),
    ] {
        assert_eq!(
            UpstreamErrorFacts::in_stream(error.as_bytes()).kind,
            expect,
            "{error}"
        );
    }
}

#[test]
fn a_code_that_tells_the_client_something_is_kept() {
    let code = |error: &str| {
        let facts = UpstreamErrorFacts::in_stream(error.as_bytes());
        facts.to_api_error("p").code.map(|code| code.into_owned())
    };
    let kept = code(r#"{"code":"unsupported_file","message":"no","type":"invalid_request_error"}"#);
    assert_eq!(kept.as_deref(), Some("unsupported_file"));
    assert_eq!(code(r#"{"code":400,"message":"no"}"#), None);
    assert_eq!(code(r#"{"code":"invalid_api_key","message":"no"}"#), None);
}

/// Words that no client may read: of the operator's account, key and place.
const OPERATORS_WORDS: &[&str] = &[
    "billing",
    "credit",
    "balance",
    "organization",
    "api key",
    "x-api-key",
    "quota",
    "overdue",
    "recharge",
    "spend",
    "proj_",
    "org-",
    "org_",
    "sk-",
    "team",
    "project",
    "subscription",
    "country",
    "location",
    "firewall",
    "leaked",
    "https://",
    "481c7584",
    "6b700525",
    "123456789012",
    "plan",
    "arrear",
    "good standing",
    "suspended",
    "disabled",
];

#[test]
fn no_client_reads_of_the_operators_account_key_or_place() {
    for (vendor, status, body, kind) in CASES {
        let error = classify_of(vendor, *status, &[], body).to_api_error("provider");
        let shown = format!("{} {:?} {:?}", error.message, error.code, error.param).to_lowercase();
        for word in OPERATORS_WORDS {
            // What a client asked for is no secret to it.
            let is_its_own = matches!(*kind, ContentFilter | InvalidRequest) && *word == "credit";
            assert!(
                is_its_own || !shown.contains(word),
                "{word}: {vendor} {status} {shown}"
            );
        }
    }
}

#[test]
fn a_message_that_helps_the_client_is_quoted() {
    for message in [
        "Invalid schema for function 'get_billing_info': In context=(), 'additionalProperties' is required",
        "Unsupported value: 'temperature' does not support 0.2 with this model.",
        "prompt is too long: 200345 tokens > 200000 maximum",
        "Invalid type for 'user.account_id': expected a string, but got an integer instead.",
        "Missing required parameter: 'messages[0].content'. See https://platform.openai.com/docs/api-reference/chat",
        "don't send `your account` twice",
        "`max_output_tokens` must lie in 16 to 9223372036854775807",
        "seed: Input should be less than or equal to 18446744073709551615",
    ] {
        assert_eq!(privacy::quotable(message).as_deref(), Some(message));
    }
}

proptest! {
    #[test]
    fn no_secret_reaches_a_client(
        secret in prop_oneof![
            "sk-(proj-)?[A-Za-z0-9]{12,40}", "org-[A-Za-z0-9]{8,24}[0-9]", "proj_[A-Za-z0-9]{8,24}[0-9]",
            "gsk_[A-Za-z0-9]{20,40}[0-9]", "xai-[A-Za-z0-9]{20,40}[0-9]", "AIza[A-Za-z0-9_-]{30,35}1",
            "arn:aws:bedrock:us-east-1:[0-9]{12}:inference-profile/x", "[0-9]{12}",
            "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "https://platform\\.openai\\.com/account/billing", "ops@example\\.com",
            "projects/[0-9]{6,12}/locations/eu", "sk-ab1[*]{8,20}wxyz",
        ],
        before in "[a-z ,.:('\"`]{0,20} ?[ (\"'`=:]",
        after in "([)\"'`,.;: ][a-z ]{0,20})?",
        status in 400_u16..600,
        kind in prop_oneof![Just("invalid_request_error"), Just("rate_limit_error"), Just("server_error"), Just("x")],
    ) {
        let message = format!("{before}{secret}{after}");
        let body = serde_json::json!({"error": {"message": message, "type": kind, "param": secret, "code": secret}});
        let body = serde_json::to_vec(&body).unwrap();
        let facts = super::classify(&[], status, &HeaderMap::new(), &body, SystemTime::UNIX_EPOCH);
        let error = facts.to_api_error("provider");
        for family in [crate::Family::OpenAi, crate::Family::Anthropic] {
            let (_, shown) = crate::error_body(family, &error);
            let shown = String::from_utf8_lossy(&shown).into_owned();
            prop_assert!(!shown.contains(&secret), "{shown}");
        }
        prop_assert!(!is_clean(&body));
    }
}
