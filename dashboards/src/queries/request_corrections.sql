-- What one request's attempts were priced anew: each correction, who made it and why.
SELECT
    ts, attempt, delivered, cost_before_usd, cost_usd, price_version_before, price_version, unpriced_reason, actor, reason
FROM weir.corrections
WHERE request_id = {request_id:UUID}
  AND request_id IN (SELECT request_id FROM weir.requests WHERE $scope AND request_id = {request_id:UUID})
ORDER BY attempt, ts, seq
LIMIT 1000
