-- The alias's deployments that were out of service when one request was routed, right before its first attempt:
-- ejected within the hour before, and not recovered since.
WITH
    (SELECT any((ts, alias)) FROM weir.requests WHERE $scope AND request_id = {request_id:UUID}) AS asked,
    (
        SELECT min(ts) FROM weir.attempts
        WHERE $scope AND request_id = {request_id:UUID} AND kind = 'first'
    ) AS tried,
    greatest(asked.1, ifNull(tried, asked.1)) AS routed
SELECT deployment, argMax(cause, ts) AS why, max(ts) AS since, argMax(until, ts) AS probed_from
FROM weir.deployment_states
WHERE ts <= routed AND ts > routed - INTERVAL 1 HOUR
  AND deployment IN (
      SELECT deployment FROM weir.attempts
      WHERE $scope AND alias = asked.2 AND kind != 'shadow' AND ts <= routed AND ts > routed - INTERVAL 1 HOUR)
GROUP BY deployment
HAVING argMax(state, ts) = 'ejected'
ORDER BY deployment
LIMIT 100
