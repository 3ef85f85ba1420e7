-- Usage without a price, and why. Its cost is in no sum.
SELECT
    provider, model, unpriced_reason,
    count() AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, max(ts) AS last_call
FROM
(
    SELECT provider, model, unpriced_reason, r.input_tokens, r.output_tokens, ts
    FROM weir.requests AS r
    WHERE $rows AND cost_usd IS NULL AND provider != ''
)
GROUP BY provider, model, unpriced_reason
ORDER BY requests DESC, provider, model, unpriced_reason
LIMIT 1000
