-- Spend by team, feature and model in the last 30 days.
SELECT
    team, feature, model,
    sum(u.requests) AS requests,
    sum(u.cost_usd) AS cost_usd,
    sum(u.waste_usd) AS waste_usd,
    sum(u.unpriced) AS unpriced
FROM weir.usage_by_day AS u
WHERE day > toDate(now('UTC')) - 30
GROUP BY team, feature, model
ORDER BY sum(u.cost_usd) DESC NULLS LAST, team, feature, model
