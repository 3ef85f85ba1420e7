-- Money, requests and tokens by day and team.
SELECT
    day, team, sum(u.requests) AS requests, sum(u.errors) AS errors, sum(u.unpriced) AS unpriced,
    sum(u.cost_usd) AS cost_usd, sum(u.waste_usd) AS waste_usd, sum(u.input_tokens) AS input_tokens,
    sum(u.output_tokens) AS output_tokens
FROM weir.usage_by_day AS u
WHERE $scope AND day >= toDate({from:DateTime64(6,'UTC')}) AND day < {to:DateTime64(6,'UTC')}
GROUP BY day, team
ORDER BY day, cost_usd DESC, team
LIMIT {rows_max:UInt32}
