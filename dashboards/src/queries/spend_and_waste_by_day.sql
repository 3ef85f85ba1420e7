-- What was spent on each day, and what of it bought nothing or has no price.
SELECT
    day, sum(u.requests) AS requests, sum(u.errors) AS errors, sum(u.unpriced) AS unpriced,
    sum(u.cost_usd) AS cost_usd, sum(u.waste_usd) AS waste_usd,
    sum(u.input_tokens) AS input_tokens, sum(u.cached_input_tokens) AS cached_input_tokens,
    sum(u.output_tokens) AS output_tokens
FROM weir.usage_by_day AS u
WHERE $scope
    AND day >= toDate({from:DateTime64(6, 'UTC')}) AND day <= toDate({to:DateTime64(6, 'UTC')} - toIntervalMicrosecond(1))
GROUP BY day
ORDER BY day
LIMIT 400
