-- Rows and bytes of each table, and the days that it has.
SELECT
    tables.name AS name, tables.comment AS comment, ifNull(parts.rows, 0) AS rows, ifNull(parts.bytes, 0) AS bytes,
    ifNull(parts.parts, 0) AS parts, parts.oldest AS oldest, parts.newest AS newest,
    extract(tables.engine_full, ' TTL [^ ]+ \\+ toIntervalDay\\((\\d+)\\)') AS retention_days
FROM (SELECT name, comment, engine_full FROM system.tables WHERE database = 'weir' AND engine LIKE '%MergeTree') AS tables
LEFT JOIN
(
    SELECT
        table, sum(rows) AS rows, sum(bytes_on_disk) AS bytes, count() AS parts,
        minIf(min_time, min_time > '1971-01-01') AS oldest, maxIf(max_time, max_time > '1971-01-01') AS newest
    FROM system.parts
    WHERE database = 'weir' AND active
    GROUP BY table
) AS parts ON parts.table = tables.name
ORDER BY bytes DESC, name
LIMIT 100
