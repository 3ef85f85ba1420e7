-- Calls of the last 7 days that were answered by a fallback, and the failure before it.
SELECT
    ts, request_id, alias,
    deployment AS answered_by,
    cause AS error_kind_before,
    attempt AS attempts,
    team, user
FROM weir.attempts
WHERE ts > now() - INTERVAL 7 DAY AND kind = 'fallback' AND delivered
ORDER BY ts DESC
LIMIT 1000
