-- Spend by team, feature and model in the last 30 days.
SELECT
    team, feature, model,
    sum(requests) AS requests,
    sum(cost_usd) AS cost_usd,
    sum(waste_usd) AS waste_usd,
    sum(unpriced) AS unpriced
FROM weir.usage_by_day
WHERE day > today() - 30
GROUP BY team, feature, model
ORDER BY cost_usd DESC NULLS LAST, team, feature, model
