-- Event streams that began in the period and lack numbers, or say that events were dropped. What was written in
-- the last minute may be on its way and is not judged. `weir audit verify` tells more.
WITH
    opened AS (SELECT stream FROM weir.streams WHERE $rows AND event = 'opened'),
    toUInt64(ifNull(minOrNullIf(seq, ts > now64(6) - INTERVAL 1 MINUTE) - 1, max(seq))) AS settled
SELECT
    stream, settled AS last_seq,
    settled - bitmapCardinality(bitmapSubsetInRange(groupBitmapState(seq), toUInt64(1), settled + 1)) AS missing,
    sum(dropped) AS dropped_events, min(ts) AS first_event, max(ts) AS last_event
FROM
(
    SELECT stream, seq, ts, 0 AS dropped FROM weir.requests WHERE ts > {from:DateTime64(6, 'UTC')} - INTERVAL 1 DAY AND stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.attempts WHERE ts > {from:DateTime64(6, 'UTC')} - INTERVAL 1 DAY AND stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.control_changes WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, ifNull(events, 0) FROM weir.streams WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.deployment_states WHERE ts > {from:DateTime64(6, 'UTC')} - INTERVAL 1 DAY AND stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.routing_tables WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.corrections WHERE stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.payloads WHERE ts > {from:DateTime64(6, 'UTC')} - INTERVAL 1 DAY AND stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.seals WHERE ts > {from:DateTime64(6, 'UTC')} - INTERVAL 1 DAY AND stream IN (opened)
    UNION ALL SELECT stream, seq, ts, 0 FROM weir.refusals WHERE ts > {from:DateTime64(6, 'UTC')} - INTERVAL 1 DAY AND stream IN (opened)
)
GROUP BY stream
HAVING missing > 0 OR dropped_events > 0
ORDER BY missing DESC, stream
LIMIT 1000
