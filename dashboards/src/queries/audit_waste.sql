-- Spend on attempts whose answer was not delivered, by reason.
SELECT deployment, kind, error_kind, count() AS attempts, sum(cost_usd) AS cost_usd, max(ts) AS last_attempt
FROM
(
    SELECT deployment, kind, error_kind, tried.cost_usd, ts
    FROM weir.attempts AS tried
    WHERE $rows AND NOT delivered AND tried.cost_usd > 0
)
GROUP BY deployment, kind, error_kind
ORDER BY cost_usd DESC, deployment, kind, error_kind
LIMIT 1000
