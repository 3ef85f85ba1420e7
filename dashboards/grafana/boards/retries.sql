-- board Retries and fallbacks
-- uid=weir-retries from=now-24h annotations=routing refresh=1m
-- What the gateway tried again or elsewhere, what that saved, and what it cost.

-- panel Saved
-- kind=stat w=24 h=4
-- Requests that needed more than one attempt, how many of them were answered, and what the other attempts cost.
SELECT countIf(attempts > 1) AS retried, 100 * countIf(attempts > 1) / count() AS retried_percent,
    countIf(attempts > 1 AND error_kind = '') AS answered_after_retry, sum(r.waste_usd) AS wasted_usd
FROM weir.requests AS r
WHERE {rows}

-- panel Attempts by kind
-- draw=bars stack=normal series=kind
-- First tries, retries, fallbacks, hedges and shadows.
SELECT {bucket} AS time, toString(a.kind) AS kind, count() AS attempts
FROM weir.attempts AS a
WHERE {rows}
GROUP BY time, kind
ORDER BY time, kind

-- panel Why it was tried again
-- draw=bars stack=normal series=cause
-- Error kind of the attempt before.
SELECT {bucket} AS time, toString(a.cause) AS cause, count() AS attempts
FROM weir.attempts AS a
WHERE cause != '' AND {rows}
GROUP BY time, cause
ORDER BY time, cause

-- panel Where it went next
-- kind=table h=9
-- Attempts after the first one: at which deployment, why, how long after, and how many were answered.
SELECT alias, kind, cause, deployment, count() AS attempts, countIf(delivered) AS delivered_attempts, 100 * delivered_attempts / attempts AS delivered_percent,
    avg(delay_us) / 1000 AS pause_ms
FROM weir.attempts
WHERE kind NOT IN ('first', 'shadow') AND {rows}
GROUP BY alias, kind, cause, deployment
ORDER BY attempts DESC, alias, kind, cause, deployment
LIMIT 100

-- panel Waste by deployment
-- kind=table h=9
-- Attempts whose answer nobody got, and what they cost.
SELECT provider, deployment, kind, error_kind, count() AS attempts, sum(a.cost_usd) AS cost_usd
FROM weir.attempts AS a
WHERE NOT delivered AND {rows}
GROUP BY provider, deployment, kind, error_kind
ORDER BY cost_usd DESC, attempts DESC
LIMIT 100

-- panel Requests by number of attempts
-- kind=table w=8
-- How often the first one was enough.
SELECT attempts, count() AS requests, countIf(error_kind != '') AS errors, quantileTDigest(0.95)(total_us) / 1000 AS total_p95_ms
FROM weir.requests
WHERE {rows}
GROUP BY attempts
ORDER BY attempts

-- panel Deployments out of service
-- kind=table w=16
-- When breakers opened and closed, as one gateway saw it.
SELECT ts AS time, deployment, provider, provider_key, state, cause, until
FROM weir.deployment_states
WHERE $__timeFilter_ms(ts)
ORDER BY time DESC
LIMIT 200

-- panel Calls that needed most attempts
-- kind=table w=24
-- Each leads to all that is known of it.
SELECT ts AS time, request_id, team, alias, deployment, attempts, status, error_kind, waste_usd, total_us / 1000 AS all_ms
FROM weir.requests
WHERE attempts > 1 AND {rows}
ORDER BY attempts DESC, time DESC
LIMIT 50
