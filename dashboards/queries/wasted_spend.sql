-- Spend of the last 30 days on attempts whose answer was not delivered, by reason.
SELECT
    deployment, kind, error_kind,
    count() AS attempts,
    sum(tried.cost_usd) AS cost_usd
FROM weir.attempts AS tried
WHERE ts > now() - INTERVAL 30 DAY AND NOT delivered AND tried.cost_usd > 0
GROUP BY deployment, kind, error_kind
ORDER BY sum(tried.cost_usd) DESC, deployment, kind, error_kind
