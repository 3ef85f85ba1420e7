-- Which users called which models in the last 90 days, how often, and at what cost.
SELECT
    organisation, team, user, model,
    count() AS requests,
    sum(input_tokens) AS input_tokens,
    sum(output_tokens) AS output_tokens,
    sum(cost_usd) AS cost_usd,
    min(ts) AS first_call,
    max(ts) AS last_call
FROM weir.requests
WHERE ts > now() - INTERVAL 90 DAY
GROUP BY organisation, team, user, model
ORDER BY requests DESC, organisation, team, user, model
