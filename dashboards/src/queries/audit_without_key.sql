-- Calls without a valid key: who, since when and why. Both tables together count every one.
SELECT
    address, reason, sum(calls) AS calls, sum(limited_calls) AS limited, min(since) AS first_call, max(until) AS last_call
FROM
(
    SELECT address, reason, refused AS calls, limited AS limited_calls, ts AS since, last AS until
    FROM weir.refusals
    WHERE $rows
    UNION ALL
    SELECT client_ip, error_kind, 1, status = 429, ts, ts
    FROM weir.requests
    WHERE $rows AND stage = 'authenticate'
)
GROUP BY address, reason
ORDER BY calls DESC, address, reason
LIMIT 1000
