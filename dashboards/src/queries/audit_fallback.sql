-- Calls that were answered by a fallback, and the failure before it.
SELECT
    ts, request_id, team, user, alias, deployment, cause, attempt
FROM weir.attempts
WHERE $rows AND kind = 'fallback' AND delivered
ORDER BY ts DESC, request_id
LIMIT 1000
