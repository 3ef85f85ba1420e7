-- The gateway's seals and the ingestor's checkpoints that cover one request's row, and whose keys made them.
WITH
    (SELECT any((stream, seq)) FROM weir.requests WHERE $scope AND request_id = {request_id:UUID}) AS sealed,
    (SELECT any((instance, version, shard, seal_key)) FROM weir.streams WHERE stream = sealed.1 AND event = 'opened') AS gateway
SELECT
    'seal' AS proof, ts AS sealed_at, first_seq, last_seq, seq AS number, signature != '' AS signed, gateway.4 AS signer,
    gateway.1 AS instance, gateway.2 AS program_version, gateway.3 AS shard
FROM weir.seals
WHERE stream = sealed.1 AND sealed.2 BETWEEN first_seq AND last_seq
UNION ALL
SELECT 'checkpoint', ts, first_seq, last_seq, number, true, signer, gateway.1, gateway.2, gateway.3
FROM weir.checkpoint_leaves
WHERE stream = sealed.1 AND sealed.2 BETWEEN first_seq AND last_seq
LIMIT 20
