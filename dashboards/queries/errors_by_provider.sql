-- What went wrong at which provider in the last 24 hours, and the share of its tries.
SELECT
    provider, error_kind,
    count() AS tries,
    round(100 * count() / sum(count()) OVER (PARTITION BY provider), 2) AS percent
FROM weir.attempts
WHERE ts > now() - INTERVAL 1 DAY
GROUP BY provider, error_kind
ORDER BY provider, tries DESC, error_kind
