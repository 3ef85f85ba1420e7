-- board Pipeline health
-- uid=weir-pipeline from=now-6h annotations=routing refresh=1m filters=none
-- Whether what happened is stored: how late, how fast, with which gaps, and sealed up to when.

-- panel Newest row
-- kind=stat w=8 h=4
-- How long before the end of the range the newest request is. Without traffic it grows by itself.
SELECT max(ts) AS newest_at, dateDiff('second', newest_at, $__toTime) AS before_end_s
FROM weir.requests
WHERE $__timeFilter_ms(ts)

-- panel Sealed up to
-- kind=stat w=8 h=4
-- Newest event under a signed checkpoint, newest seal of a gateway, and how many requests are newer than the checkpoint.
WITH (SELECT max(last_ts) FROM weir.checkpoint_leaves WHERE ts <= $__toTime) AS checkpoint_at
SELECT checkpoint_at, (SELECT max(ts) FROM weir.seals WHERE ts <= $__toTime) AS seal_at,
    (SELECT count() FROM weir.requests WHERE ts > checkpoint_at AND ts <= $__toTime) AS not_under_a_checkpoint

-- panel Lost and given up
-- kind=stat w=8 h=4
-- Events missing from streams, records that could not become rows, and events that gateways dropped because the journal was full.
SELECT
    (SELECT sum(arrayCount(print -> print = 0, fingerprints)) FROM weir.checkpoint_leaves WHERE $__timeFilter_ms(ts)) AS missing,
    (SELECT count() FROM weir.dead_letters WHERE $__timeFilter_ms(ts)) AS dead_letters,
    (SELECT sum(events) FROM weir.streams WHERE event = 'dropped' AND $__timeFilter_ms(ts)) AS dropped

-- panel Ingest rate
-- series=kind
-- Rows stored per second, by the time of the event.
SELECT time, kind, sum(rows) / $__interval_s AS rows_per_second
FROM
(
    SELECT {bucket} AS time, 'requests' AS kind, count() AS rows FROM weir.requests WHERE $__timeFilter_ms(ts) GROUP BY time
    UNION ALL SELECT {bucket} AS time, 'attempts' AS kind, count() AS rows FROM weir.attempts WHERE $__timeFilter_ms(ts) GROUP BY time
    UNION ALL SELECT {bucket} AS time, 'seals' AS kind, count() AS rows FROM weir.seals WHERE $__timeFilter_ms(ts) GROUP BY time
)
GROUP BY time, kind
ORDER BY time, kind

-- panel Gaps in the log
-- kind=table
-- Streams with events that were missing when a checkpoint was made. `weir audit verify` names them.
SELECT stream, sum(arrayCount(print -> print = 0, fingerprints)) AS missing, min(first_seq) AS first_seq, max(last_seq) AS last_seq,
    min(first_ts) AS first, max(last_ts) AS last
FROM weir.checkpoint_leaves
WHERE $__timeFilter_ms(ts)
GROUP BY stream
HAVING missing > 0
ORDER BY missing DESC
LIMIT 100

-- panel Dead letters
-- kind=table
-- Records that could not become rows, and why.
SELECT kind, source, location, reason, count() AS records, max(ts) AS last
FROM weir.dead_letters
WHERE $__timeFilter_ms(ts)
GROUP BY kind, source, location, reason
ORDER BY last DESC
LIMIT 100

-- panel Checkpoints
-- kind=table
-- What was signed, by whom, and over how many pieces of streams.
SELECT ts AS time, signer, number, leaves
FROM weir.checkpoints
WHERE $__timeFilter_ms(ts)
ORDER BY time DESC
LIMIT 100

-- panel Gateways and their streams
-- kind=table w=24 h=9
-- Streams opened or closed in the range, and what they lost: events dropped, or bytes cut off after a crash.
SELECT stream, maxIf(ts, event = 'opened') AS opened_at, maxIf(ts, event = 'closed') AS closed_at, anyIf(instance, event = 'opened') AS instance,
    anyIf(version, event = 'opened') AS version, anyIf(reason, event = 'closed') AS closed_because, sum(torn_bytes) AS torn, sumIf(events, event = 'dropped') AS dropped
FROM weir.streams
WHERE $__timeFilter_ms(ts)
GROUP BY stream
ORDER BY max(ts) DESC
LIMIT 200

-- row The gateways' own metrics (needs a Prometheus data source)

-- panel Journal on disk
-- w=8 unit=bytes promql={{instance}}
-- What is written and not yet stored. It grows while the ingestor, Kafka or the store is away.
weir_journal_disk_bytes

-- panel Parts
-- w=8 promql="{{instance}} {{part}}"
-- 1 if a part of the process does its work. `seals` is 0 once a stored row is not what its gateway sealed.
weir_part_up

-- panel Events dropped
-- w=8 promql={{instance}}
-- Events not written because the journal was full.
increase(weir_journal_dropped_events[$__rate_interval])
