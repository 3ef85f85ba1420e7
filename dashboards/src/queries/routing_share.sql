-- Each target's share of its alias's first attempts, beside the share that routing gave it: the mean of the
-- probabilities with which each request could have gone there.
SELECT
    alias, deployment, sum(tried) AS attempts, sum(failed) AS errors,
    round(100 * sum(tried) / greatest(sum(sum(tried)) OVER (PARTITION BY alias), 1), 1) AS share_percent,
    round(100 * sum(expected) / greatest(sum(sum(expected)) OVER (PARTITION BY alias), 1e-9), 1) AS expected_percent,
    anyIf(its_strategy, its_strategy != '') AS strategy
FROM
(
    SELECT alias, deployment, 1 AS tried, error_kind != '' AS failed, 0. AS expected, '' AS its_strategy
    FROM weir.attempts
    WHERE $rows AND kind = 'first'
    UNION ALL
    SELECT alias, candidate.1, 0, 0, candidate.3, its_strategy
    FROM (SELECT alias, arrayJoin(candidates) AS candidate, strategy AS its_strategy FROM weir.requests WHERE $rows)
)
GROUP BY alias, deployment
ORDER BY alias, attempts DESC, deployment
LIMIT 1000
