-- How much traffic there was, what it cost and how fast it was, by hour (or longer, if those are too many).
--
-- The functions are those of the projection by_hour: quantiles of hours merge into those of longer spans.
SELECT
    toStartOfInterval(toStartOfHour(ts), toIntervalSecond(greatest(3600, {bucket_s:UInt32}))) AS time,
    count() AS requests, countIf(error_kind != '') AS errors, countIf(r.cost_usd IS NULL) AS unpriced,
    sum(r.cost_usd) AS cost_usd, sum(r.waste_usd) AS waste_usd,
    quantilesTDigest(0.5, 0.9, 0.95, 0.99)(ttft_us) AS ttft_us_quantiles,
    quantilesTDigest(0.5, 0.9, 0.95, 0.99)(total_us) AS total_us_quantiles
FROM weir.requests AS r
WHERE $scope
    AND toStartOfHour(ts) >= toStartOfHour({from:DateTime64(6, 'UTC')}) AND toStartOfHour(ts) < {to:DateTime64(6, 'UTC')}
GROUP BY time
ORDER BY time
LIMIT 1000
