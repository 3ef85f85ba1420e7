-- The tries of a day's requests. Each provider gives a request id of 128 random bits.
INSERT INTO weir.attempts
    (stream, seq, ts, request_id, attempt, kind, cause, organisation, team, project, user, key_id,
     environment, tier, customer, feature, tags, dialect, alias, streamed, provider, deployment,
     model, response_model, region, provider_key, status, error_kind, error_message, delivered,
     upstream_request_id, finish_reason, connection_reused, request_bytes, response_bytes,
     input_tokens, cached_input_tokens, output_tokens, reasoning_tokens, usage_source, cost_usd,
     price_version, connect_us, headers_us, ttft_us, total_us, strategy, table_version, propensity)
WITH
    n = attempts AND status = 200 AS delivered_here,
    rand(1) % 50 = 0 AS connected
SELECT
    stream, seq * 2 + n, ts + toIntervalMicrosecond(90), request_id, n,
    if(n = 1, 'first', 'fallback'), if(n = 1, '', 'server_error'),
    organisation, team, project, user, key_id, environment, tier, customer, feature, tags, dialect,
    alias, streamed, if(provider = '', 'openai', provider),
    if(deployment = '', 'openai/model-1', deployment), if(model = '', 'model-1', model),
    response_model, region, concat('key-', toString(rand(2) % 2)),
    if(delivered_here, 200, 500), if(delivered_here, '', 'server_error'),
    if(delivered_here, '', 'the provider answered 500'), delivered_here,
    concat('req_', lower(hex(rand64(3))), lower(hex(rand64(4)))), finish_reason, NOT connected,
    request_bytes, response_bytes,
    if(n = attempts, input_tokens, NULL), if(n = attempts, cached_input_tokens, NULL),
    if(n = attempts, output_tokens, NULL), if(n = attempts, reasoning_tokens, NULL),
    if(n = attempts, usage_source, 'none'), if(n = attempts, cost_usd, NULL), price_version,
    if(connected, (1200 + rand(5) % 3000) * connected, NULL),
    ttft_us - rand(6) % 3000, ttft_us - overhead_us, total_us - overhead_us,
    strategy, table_version, if(empty(candidates), NULL, candidates[1].3)
FROM weir.requests
ARRAY JOIN range(1, attempts + 1) AS n
WHERE toDate(ts) = toDate({day:UInt16})
