-- How much traffic there was in all, what it cost and how fast it was, from the beginning of the first hour.
SELECT
    toStartOfHour({from:DateTime64(6, 'UTC')}) AS since,
    count() AS requests, countIf(error_kind != '') AS errors, countIf(r.cost_usd IS NULL) AS unpriced,
    sum(r.cost_usd) AS cost_usd, sum(r.waste_usd) AS waste_usd,
    quantilesTDigest(0.5, 0.9, 0.95, 0.99)(ttft_us) AS ttft_us_quantiles,
    quantilesTDigest(0.5, 0.9, 0.95, 0.99)(total_us) AS total_us_quantiles
FROM weir.requests AS r
WHERE $scope
    AND toStartOfHour(ts) >= toStartOfHour({from:DateTime64(6, 'UTC')}) AND toStartOfHour(ts) < {to:DateTime64(6, 'UTC')}
LIMIT 1
