-- The 100 most expensive calls of the last 90 days.
SELECT
    ts, request_id, team, user, feature, model, input_tokens, output_tokens, cost_usd, finish_reason
FROM weir.requests
WHERE ts > now() - INTERVAL 90 DAY AND cost_usd > 0
ORDER BY cost_usd DESC, ts
LIMIT 100
