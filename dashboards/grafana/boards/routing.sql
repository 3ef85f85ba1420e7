-- board Routing
-- uid=weir-routing from=now-24h annotations=routing,prices
-- Where routing sent requests, where its tables meant to, and what the tables say.

-- panel Share of first attempts
-- draw=bars stack=percent series=deployment
-- Where routing sent requests first, before retries and fallbacks.
SELECT {bucket} AS time, toString(a.deployment) AS deployment, count() AS attempts
FROM weir.attempts AS a
WHERE kind = 'first' AND {rows}
GROUP BY time, deployment
ORDER BY time, deployment

-- panel Share against intention
-- kind=table
-- Of each alias: the share of first attempts that each deployment got, and the mean probability that routing gave it. They differ by chance only; a large difference over many requests is a fault.
SELECT alias, deployment, sum(sent) AS first_attempts, 100 * first_attempts / sum(first_attempts) OVER (PARTITION BY alias) AS share_percent,
    100 * sum(meant) / sum(sum(meant)) OVER (PARTITION BY alias) AS intended_percent, share_percent - intended_percent AS difference_percent
FROM
(
    SELECT alias, toString(deployment) AS deployment, count() AS sent, 0. AS meant
    FROM weir.attempts
    WHERE kind = 'first' AND {rows}
    GROUP BY alias, deployment
    UNION ALL
    SELECT alias, toString(candidate.1) AS deployment, 0 AS sent, sum(toFloat64(candidate.3)) AS meant
    FROM weir.requests
    ARRAY JOIN candidates AS candidate
    WHERE attempts > 0 AND {rows}
    GROUP BY alias, deployment
)
GROUP BY alias, deployment
ORDER BY alias, first_attempts DESC
LIMIT 200

-- panel Explored share
-- unit=percent min=0
-- Requests that went to another deployment than the one with the highest probability, of those that had a choice: what routing learns from.
SELECT {bucket} AS time,
    100 * countIf(tupleElement(arrayFirst(c -> c.1 = deployment, candidates), 3) < arrayMax(c -> c.3, candidates)) / count() AS explored
FROM weir.requests
WHERE attempts = 1 AND deployment != '' AND length(candidates) > 1 AND {rows}
GROUP BY time
ORDER BY time

-- panel Table version
-- How far gateways are apart: they should go by the same table within seconds.
SELECT {bucket} AS time, min(table_version) AS oldest, max(table_version) AS newest
FROM weir.requests
WHERE table_version IS NOT NULL AND {rows}
GROUP BY time
ORDER BY time

-- panel Newest table
-- kind=table w=24 h=9
-- Weights and measurements of the newest table that a gateway adopted in the range or before.
SELECT version, JSONExtractString(of_alias, 'alias') AS alias, JSONExtractString(target, 'deployment') AS deployment,
    JSONExtractFloat(target, 'weight') AS weight, JSONExtractString(target, 'change') AS change, JSONExtractFloat(target, 'ttft_us') / 1000 AS first_token_p50_ms,
    100 * JSONExtractFloat(target, 'error_ratio') AS error_percent, JSONExtractFloat(target, 'picousd_per_token') / 1000000 AS per_million_tokens_usd,
    JSONExtractUInt(target, 'tries') AS measured_attempts
FROM
(
    SELECT version, arrayJoin(JSONExtractArrayRaw(routing_table, 'aliases')) AS of_alias, arrayJoin(JSONExtractArrayRaw(of_alias, 'targets')) AS target
    FROM (SELECT version, routing_table FROM weir.routing_tables WHERE ts <= $__toTime ORDER BY version DESC, ts DESC LIMIT 1)
)
ORDER BY alias, deployment
LIMIT 500

-- panel Tables adopted
-- kind=table
-- When gateways adopted which table, and how it came about.
SELECT min(ts) AS first, max(ts) AS last, version, any(origin) AS origin, uniqExact(stream) AS streams, any(measured_from) AS measured_from_at, any(measured_to) AS measured_to_at
FROM weir.routing_tables
WHERE $__timeFilter_ms(ts)
GROUP BY version
ORDER BY version DESC
LIMIT 100

-- panel Operators' commands
-- kind=table
-- Who froze, pinned, rolled back or resumed.
SELECT ts AS time, actor, JSONExtractRaw(after, 'command') AS command, before
FROM weir.control_changes
WHERE object_kind = 'table' AND $__timeFilter_ms(ts)
ORDER BY time DESC
LIMIT 100

-- panel Strategies
-- kind=table w=24
-- What decided, and how often a target was only a last resort.
SELECT alias, strategy, count() AS requests, countIf(last_resort != '') AS last_resorts, arrayStringConcat(groupUniqArrayIf(10)(toString(last_resort), last_resort != ''), ', ') AS why
FROM weir.requests
WHERE strategy != '' AND {rows}
GROUP BY alias, strategy
ORDER BY requests DESC, alias
LIMIT 100
