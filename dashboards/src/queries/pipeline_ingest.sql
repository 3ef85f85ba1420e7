-- Events stored over time, by when they happened.
SELECT toStartOfInterval(ts, toIntervalSecond({bucket_s:UInt32})) AS time, countIf(NOT tried) AS requests, countIf(tried) AS attempts
FROM
(
    SELECT ts, false AS tried FROM weir.requests WHERE $rows
    UNION ALL
    SELECT ts, true FROM weir.attempts WHERE $rows
)
GROUP BY time
ORDER BY time
LIMIT 400
