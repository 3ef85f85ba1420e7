-- The last checkpoint of each signer, and up to when it proves.
SELECT
    signer, max(checkpoints.number) AS last_checkpoint, max(checkpoints.ts) AS made_at,
    count() AS checkpoints, lower(hex(argMax(hash, checkpoints.number))) AS head
FROM weir.checkpoints
GROUP BY signer
ORDER BY made_at DESC
LIMIT 100
