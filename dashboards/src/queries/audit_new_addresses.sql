-- Keys used from an address that they were not used from before, as far back as rows are kept. New keys are not
-- listed.
SELECT key_id, client_ip, any(its_team) AS team, any(its_user) AS user, count() AS requests, min(ts) AS first_call
FROM
(
    SELECT key_id, client_ip, team AS its_team, user AS its_user, ts
    FROM weir.requests
    WHERE $rows AND key_id != ''
)
WHERE key_id IN (SELECT key_id FROM weir.requests WHERE $scope AND ts < {from:DateTime64(6, 'UTC')})
  AND (key_id, client_ip) NOT IN (SELECT key_id, client_ip FROM weir.requests WHERE $scope AND ts < {from:DateTime64(6, 'UTC')})
GROUP BY key_id, client_ip
ORDER BY first_call DESC, key_id
LIMIT 1000
