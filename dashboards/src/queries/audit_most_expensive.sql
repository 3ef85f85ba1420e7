-- The most expensive calls.
SELECT
    ts, request_id, team, user, feature, model, input_tokens, output_tokens, cost_usd, waste_usd, finish_reason
FROM weir.requests
WHERE $rows AND cost_usd > 0
ORDER BY cost_usd DESC, ts, request_id
LIMIT 100
