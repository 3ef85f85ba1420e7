-- Streams of the period: which gateway, when opened and closed, and why.
SELECT
    stream, any(its_instance) AS instance, any(its_process) AS process, any(its_version) AS version,
    min(ts) AS opened, maxOrNullIf(ts, event = 'closed') AS closed, anyIf(its_reason, event = 'closed') AS reason,
    sum(ifNull(torn, 0)) AS torn_bytes, sum(if(event = 'dropped', ifNull(n, 0), 0)) AS dropped_events
FROM
(
    SELECT stream, ts, event, instance AS its_instance, process AS its_process, version AS its_version,
        reason AS its_reason, torn_bytes AS torn, events AS n
    FROM weir.streams
    WHERE $rows
)
GROUP BY stream
ORDER BY opened DESC
LIMIT 200
