-- Records that could not become rows, and why.
SELECT kind, source, reason, count() AS records, min(ts) AS first_record, max(ts) AS last_record, any(location) AS location
FROM (SELECT kind, source, reason, ts, location FROM weir.dead_letters WHERE $rows)
GROUP BY kind, source, reason
ORDER BY records DESC, kind, reason
LIMIT 200
