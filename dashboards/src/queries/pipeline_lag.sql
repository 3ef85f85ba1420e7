-- The newest stored event of each table, and how long ago that was. A seal is written about once a second, so the
-- age of the newest seal is the lag.
SELECT source, newest, dateDiff('millisecond', newest, now64(3)) / 1000 AS age_s
FROM
(
    SELECT 'requests' AS source, max(ts) AS newest FROM weir.requests WHERE ts > now() - INTERVAL 1 DAY
    UNION ALL SELECT 'attempts', max(ts) FROM weir.attempts WHERE ts > now() - INTERVAL 1 DAY
    UNION ALL SELECT 'seals', max(ts) FROM weir.seals WHERE ts > now() - INTERVAL 1 DAY
    UNION ALL SELECT 'checkpoints', max(ts) FROM weir.checkpoints
)
WHERE newest > '1971-01-01'
ORDER BY source
LIMIT 10
