-- annotation Routing tables
-- name=routing colour=purple
-- When a gateway first went by a routing table.
SELECT min(ts) AS time, concat('routing table ', toString(version), ', ', any(origin)) AS text
FROM weir.routing_tables
WHERE $__timeFilter_ms(ts)
GROUP BY version
ORDER BY time
LIMIT 200

-- annotation Price changes
-- name=prices colour=orange
-- When calls were first priced by another price book. (The range's first one is no change.)
SELECT min(ts) AS time, concat('prices: ', splitByChar(':', toString(price_version))[1]) AS text
FROM weir.requests
WHERE $__timeFilter_ms(ts) AND price_version != ''
GROUP BY text
ORDER BY time
LIMIT 50 OFFSET 1

-- annotation Budgets
-- name=budgets colour=red
-- When a budget reached one of its thresholds, or was changed.
SELECT ts AS time, if(action = 'threshold',
    concat('budget ', JSONExtractString(after, 'budget'), ' at ', JSONExtractRaw(after, 'percent'), ' %'),
    concat('budget ', object_id, ': ', action, ' by ', actor)) AS text
FROM weir.control_changes
WHERE object_kind = 'budget' AND $__timeFilter_ms(ts)
ORDER BY time
LIMIT 200
