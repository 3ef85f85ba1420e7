-- Keys used in the last 24 hours from an address that they were not used from in the 89 days before. New
-- keys are not listed.
SELECT
    key_id, client_ip,
    any(team) AS team,
    any(user) AS user,
    countIf(ts > now() - INTERVAL 1 DAY) AS requests,
    minIf(ts, ts > now() - INTERVAL 1 DAY) AS first_call
FROM weir.requests
WHERE ts > now() - INTERVAL 90 DAY
  AND key_id IN (SELECT key_id FROM weir.requests
                 WHERE ts BETWEEN now() - INTERVAL 90 DAY AND now() - INTERVAL 1 DAY)
GROUP BY key_id, client_ip
HAVING min(ts) > now() - INTERVAL 1 DAY
ORDER BY first_call, key_id
