-- Which teams, features and models cost most, and what they cost in the period of equal length before.
WITH
    toStartOfHour({from:DateTime64(6, 'UTC')}) AS first_hour,
    {to:DateTime64(6, 'UTC')} AS end
SELECT
    multiIf(grouping(team) = 0, 'team', grouping(feature) = 0, 'feature', 'model') AS dimension,
    multiIf(grouping(team) = 0, team, grouping(feature) = 0, feature, model) AS name,
    sumIf(n, is_now) AS requests, sumIf(failed, is_now) AS errors, sumIf(without_price, is_now) AS unpriced,
    sumIf(cost, is_now) AS cost_usd, sumIf(waste, is_now) AS waste_usd, sumIf(cost, NOT is_now) AS cost_usd_before
FROM
(
    SELECT
        team, feature, model, toStartOfHour(ts) >= first_hour AS is_now,
        count() AS n, countIf(error_kind != '') AS failed, countIf(cost_usd IS NULL) AS without_price,
        sum(cost_usd) AS cost, sum(waste_usd) AS waste
    FROM weir.requests
    WHERE $scope
        AND toStartOfHour(ts) >= toStartOfHour({from:DateTime64(6, 'UTC')} - toIntervalSecond(dateDiff('second', {from:DateTime64(6, 'UTC')}, {to:DateTime64(6, 'UTC')})))
        AND toStartOfHour(ts) < end
    GROUP BY team, feature, model, is_now
)
GROUP BY GROUPING SETS ((team), (feature), (model))
HAVING requests > 0
ORDER BY dimension, cost_usd DESC NULLS LAST, requests DESC, name
LIMIT 8 BY dimension
LIMIT 24
