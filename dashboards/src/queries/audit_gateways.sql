-- Each gateway's streams of the period and the key that signs their seals, and up to when they are sealed.
SELECT
    opened.instance AS instance, opened.seal_key AS seal_key, count() AS streams, min(opened.ts) AS first_opened,
    sum(sealed.seals) AS seals, sum(sealed.unsigned) AS unsigned_seals, max(sealed.newest) AS sealed_up_to,
    max(checked.newest) AS checkpointed_up_to
FROM (SELECT * FROM weir.streams WHERE event = 'opened') AS opened
INNER JOIN
(
    SELECT stream, count() AS seals, countIf(signature = '') AS unsigned, max(ts) AS newest
    FROM weir.seals
    WHERE $rows
    GROUP BY stream
) AS sealed ON sealed.stream = opened.stream
LEFT JOIN
(
    SELECT stream, max(last_ts) AS newest
    FROM weir.checkpoint_leaves
    WHERE $rows
    GROUP BY stream
) AS checked ON checked.stream = opened.stream
GROUP BY instance, seal_key
ORDER BY sealed_up_to DESC
LIMIT 200
