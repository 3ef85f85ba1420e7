-- Retries, fallbacks and hedges of the last 7 days by deployment and by the error that caused them, and how
-- many were delivered.
SELECT
    cause AS error_kind, kind, deployment AS tried_next,
    count() AS attempts,
    countIf(delivered) AS delivered,
    sum(cost_usd) AS cost_usd
FROM weir.attempts
WHERE ts > now() - INTERVAL 7 DAY AND kind IN ('retry', 'fallback', 'hedge')
GROUP BY cause, kind, deployment
ORDER BY count() DESC, cause, kind, deployment
