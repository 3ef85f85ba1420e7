-- Errors by provider in the last 24 hours, and their share of the provider's attempts.
SELECT
    provider, error_kind,
    count() AS attempts,
    round(100 * count() / sum(count()) OVER (PARTITION BY provider), 2) AS percent
FROM weir.attempts
WHERE ts > now() - INTERVAL 1 DAY
GROUP BY provider, error_kind
ORDER BY provider, attempts DESC, error_kind
