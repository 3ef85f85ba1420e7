-- board One request
-- uid=weir-request from=now-90d filters=none text=request
-- All that is known of one request: its row, and every attempt. Other boards lead here.

-- panel Request
-- kind=table w=24 h=5
-- The request as it ended.
SELECT ts AS time, request_id, organisation, team, project, user, key_id, environment, feature, customer, client_ip, alias, model, status, error_kind, error_message,
    attempts, ttft_us / 1000 AS first_token_ms, total_us / 1000 AS all_ms, cost_usd, waste_usd, price_version, usage_source, finish_reason
FROM weir.requests
WHERE request_id = toUUIDOrZero('${request:percentencode}') AND $__timeFilter_ms(ts)
LIMIT 1

-- panel Attempts
-- kind=table w=24 h=7
-- Where it was tried, why there, what came of it, and what it cost.
SELECT ts AS time, attempt, kind, cause, delay_us / 1000 AS pause_ms, deployment, provider_key, status, error_kind, error_message, delivered, propensity,
    headers_us / 1000 AS headers_ms, ttft_us / 1000 AS first_token_ms, total_us / 1000 AS all_ms, input_tokens, cached_input_tokens, output_tokens, usage_source,
    cost_usd, price_version, upstream_request_id
FROM weir.attempts
WHERE request_id = toUUIDOrZero('${request:percentencode}') AND $__timeFilter_ms(ts)
ORDER BY attempt
LIMIT 50

-- panel Tokens and money
-- kind=table w=12 h=6
-- What was counted, and where the counts come from.
SELECT input_tokens, cached_input_tokens, cache_write_5m_tokens, output_tokens, reasoning_tokens, usage_source, cost_usd, waste_usd, unpriced_reason
FROM weir.requests
WHERE request_id = toUUIDOrZero('${request:percentencode}') AND $__timeFilter_ms(ts)
LIMIT 1

-- panel Candidates
-- kind=table w=12 h=6
-- What routing considered, with its score and the probability that it gave to each.
SELECT candidate.1 AS deployment, candidate.2 AS score, 100 * candidate.3 AS probability_percent, strategy, table_version
FROM weir.requests
ARRAY JOIN candidates AS candidate
WHERE request_id = toUUIDOrZero('${request:percentencode}') AND $__timeFilter_ms(ts)
LIMIT 50
