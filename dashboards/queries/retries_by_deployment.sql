-- Where second tries happen: for each deployment and kind of error of the last 7 days, the tries that
-- followed it, and how many of these were delivered.
SELECT
    cause AS error_kind, kind, deployment AS tried_next,
    count() AS tries,
    countIf(delivered) AS delivered,
    sum(cost_usd) AS cost_usd
FROM weir.attempts
WHERE ts > now() - INTERVAL 7 DAY AND kind IN ('retry', 'fallback', 'hedge')
GROUP BY cause, kind, deployment
ORDER BY tries DESC, error_kind, kind, tried_next
