-- The latest requests, whatever became of them.
SELECT
    ts, request_id, team, user, feature, alias, provider, model, status, error_kind, attempts,
    input_tokens, output_tokens, usage_source, cost_usd, waste_usd, ttft_ms, total_ms
FROM weir.requests
WHERE $rows
ORDER BY ts DESC
LIMIT 200
