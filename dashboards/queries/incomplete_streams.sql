-- Event streams with missing numbers. `weir audit verify` tells more.
SELECT
    stream,
    max(seq) AS last_seq,
    max(seq) - uniqExact(seq) AS missing,
    min(ts) AS first_event,
    max(ts) AS last_event
FROM
(
    SELECT stream, seq, ts FROM weir.requests
    UNION ALL SELECT stream, seq, ts FROM weir.attempts
    UNION ALL SELECT stream, seq, ts FROM weir.control_changes
    UNION ALL SELECT stream, seq, ts FROM weir.streams
    UNION ALL SELECT stream, seq, ts FROM weir.deployment_states
    UNION ALL SELECT stream, seq, ts FROM weir.routing_tables
    UNION ALL SELECT stream, seq, ts FROM weir.corrections
    UNION ALL SELECT stream, seq, ts FROM weir.payloads
    UNION ALL SELECT stream, seq, ts FROM weir.seals
    UNION ALL SELECT stream, seq, ts FROM weir.refusals
)
GROUP BY stream
HAVING missing > 0 AND min(seq) = 1
ORDER BY missing DESC, stream
