-- Requests, errors, money and tokens, by bucket of time.
SELECT
    toStartOfInterval(ts, toIntervalSecond({bucket_s:UInt32})) AS time,
    count() AS requests,
    countIf(error_kind != '') AS errors,
    sum(r.cost_usd) AS cost_usd,
    sum(r.waste_usd) AS waste_usd,
    sum(r.input_tokens) AS input_tokens,
    sum(r.output_tokens) AS output_tokens
FROM weir.requests AS r
WHERE $rows
GROUP BY time
ORDER BY time
LIMIT {rows_max:UInt32}
