-- The calls, newest first.
SELECT
    ts, request_id, team, user, alias, deployment, status, error_kind, cost_usd, waste_usd, input_tokens, output_tokens,
    usage_source, attempts, ttft_us, total_us, feature, customer, key_id, client_ip, organisation
FROM weir.requests
WHERE $rows
ORDER BY ts DESC, request_id
LIMIT 1000
