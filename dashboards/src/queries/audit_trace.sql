-- The calls of one trace, in order.
SELECT
    ts, request_id, team, user, feature, alias, deployment, status, error_kind, input_tokens, output_tokens, cost_usd, total_us
FROM weir.requests
WHERE $rows AND trace_id = {trace_id:String}
ORDER BY ts, request_id
LIMIT 1000
