-- Calls of the last 7 days whose answer came from another deployment than the one tried first, and why.
SELECT
    ts, request_id, alias,
    deployment AS answered_by,
    cause AS error_kind_before,
    attempt AS tries,
    team, user
FROM weir.attempts
WHERE ts > now() - INTERVAL 7 DAY AND kind = 'fallback' AND delivered
ORDER BY ts DESC
LIMIT 1000
