-- The alias's deployments that were out of service when one request came: ejected within the hour before, and
-- not recovered since.
WITH (SELECT any((ts, alias)) FROM weir.requests WHERE $scope AND request_id = {request_id:UUID}) AS decided
SELECT deployment, argMax(cause, ts) AS why, max(ts) AS since, argMax(until, ts) AS probed_from
FROM weir.deployment_states
WHERE ts <= decided.1 AND ts > decided.1 - INTERVAL 1 HOUR
  AND deployment IN (
      SELECT deployment FROM weir.attempts
      WHERE $scope AND alias = decided.2 AND kind != 'shadow' AND ts <= decided.1 AND ts > decided.1 - INTERVAL 1 HOUR)
GROUP BY deployment
HAVING argMax(state, ts) = 'ejected'
ORDER BY deployment
LIMIT 100
