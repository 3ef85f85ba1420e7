-- Which users called which models, how often, and at what cost.
SELECT
    organisation, team, user, model,
    count() AS requests, sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd,
    min(ts) AS first_call, max(ts) AS last_call
FROM (SELECT organisation, team, user, model, r.input_tokens, r.output_tokens, r.cost_usd, ts FROM weir.requests AS r WHERE $rows)
GROUP BY organisation, team, user, model
ORDER BY requests DESC, organisation, team, user, model
LIMIT 1000
