-- Usage without a price in the last 90 days, and why. Its cost is in no sum.
SELECT
    provider, model, unpriced_reason,
    count() AS requests,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    max(ts) AS last_call
FROM weir.requests
WHERE ts > now() - INTERVAL 90 DAY AND cost_usd IS NULL AND provider != ''
GROUP BY provider, model, unpriced_reason
ORDER BY requests DESC, provider, model, unpriced_reason
