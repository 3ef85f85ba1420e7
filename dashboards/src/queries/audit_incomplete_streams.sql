-- Event streams that began in the period and lack numbers, or say that events were dropped. `weir audit verify`
-- tells more.
WITH opened AS (SELECT stream FROM weir.streams WHERE $rows AND event = 'opened')
SELECT
    stream, max(seq) AS last_seq, max(seq) - groupBitmap(seq) AS missing, sum(dropped) AS dropped_events,
    min(ts) AS first_event, max(ts) AS last_event
FROM
(
    SELECT stream, seq, ts, 0 AS dropped FROM weir.requests WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.attempts WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.control_changes WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, ifNull(events, 0) FROM weir.streams WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.deployment_states WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.routing_tables WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.corrections WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.payloads WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.seals WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.refusals WHERE stream IN (opened)
)
GROUP BY stream
HAVING missing > 0 OR dropped_events > 0
ORDER BY missing DESC, stream
LIMIT 1000
