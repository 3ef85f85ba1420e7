-- What the routing table that decided one request says about the targets of its alias.
WITH (SELECT any((table_version, alias)) FROM weir.requests WHERE $scope AND request_id = {request_id:UUID}) AS decided
SELECT
    version, origin, made_at, measured_from, measured_to,
    arrayFirst(entry -> JSONExtractString(entry, 'alias') = decided.2, JSONExtractArrayRaw(routing_table, 'aliases')) AS entry
FROM weir.routing_tables
WHERE version = decided.1
ORDER BY ts DESC
LIMIT 1
