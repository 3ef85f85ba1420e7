-- The attempts of one request, in order. Shadows come last.
SELECT *
FROM weir.attempts
WHERE $scope AND request_id = {request_id:UUID}
ORDER BY attempt = 0, attempt, ts
LIMIT 1000
