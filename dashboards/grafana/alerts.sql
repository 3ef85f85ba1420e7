-- rule A budget is nearly spent
-- uid=weir-budget range_s=3600 above=79 severity=warning board=spend
-- panel="Budgets: spent, left, forecast"
-- Budget {{ $labels.budget }} is at {{ printf "%.0f" $values.A.Value }} %.
SELECT concat(JSONExtractString(after, 'budget'), if(action = 'overspent', ' (a call was billed more than it had reserved)', '')) AS budget,
    max(if(action = 'overspent', 100, JSONExtractFloat(after, 'percent'))) AS percent
FROM weir.control_changes
WHERE object_kind = 'budget' AND action IN ('threshold', 'overspent') AND $__timeFilter_ms(ts)
GROUP BY budget

-- rule Spend will pass twice last month's
-- uid=weir-forecast range_s=3600 above=200 severity=info board=spend for=15m
-- panel="This month"
-- Organisation {{ $labels.organisation }} is on its way to {{ printf "%.0f" $values.A.Value }} % of last month's spend.
WITH toTimeZone($__toTime, 'UTC') AS until, toStartOfMonth(until) AS begin
SELECT organisation, 100 * (sumIf(usd, day >= begin) + sumIf(usd, day >= toDate(until) - 7 AND day < toDate(until)) / 7
        * dateDiff('second', until, toDateTime(begin + INTERVAL 1 MONTH, 'UTC')) / 86400) / sumIf(usd, day < begin AND day >= begin - INTERVAL 1 MONTH) AS percent
FROM
(
    SELECT toDate(ts) AS day, toString(organisation) AS organisation, toFloat64(ifNull(sum(cost_usd), 0) + ifNull(sum(waste_usd), 0)) AS usd
    FROM weir.requests
    WHERE toDate(ts) >= toStartOfMonth($__toTime, 'UTC') - INTERVAL 1 MONTH AND toDate(ts) <= toDate($__toTime, 'UTC')
    GROUP BY day, organisation
)
GROUP BY organisation
HAVING sumIf(usd, day < begin AND day >= begin - INTERVAL 1 MONTH) > 0

-- rule Errors burn the error budget fast
-- uid=weir-burn-fast range_s=3600 above=14.4 severity=critical board=latency for=2m
-- panel="Error budget burn"
-- Failed requests use up the error budget of 1 % {{ printf "%.1f" $values.A.Value }} times too fast, over the last hour and the last five minutes.
SELECT least(
    countIf(failed) / count(),
    countIf(failed AND ts > $__toTime - INTERVAL 5 MINUTE) / greatest(countIf(ts > $__toTime - INTERVAL 5 MINUTE), 1)) / 0.01 AS burn
FROM (SELECT ts, error_kind != '' AND (status >= 500 OR status IN (408, 429)) AS failed FROM weir.requests WHERE $__timeFilter_ms(ts))
HAVING count() > 0

-- rule Errors burn the error budget
-- uid=weir-burn-slow range_s=21600 above=6 severity=warning board=latency for=15m
-- panel="Error budget burn"
-- Failed requests use up the error budget of 1 % {{ printf "%.1f" $values.A.Value }} times too fast, over the last six hours and the last thirty minutes.
SELECT least(
    countIf(failed) / count(),
    countIf(failed AND ts > $__toTime - INTERVAL 30 MINUTE) / greatest(countIf(ts > $__toTime - INTERVAL 30 MINUTE), 1)) / 0.01 AS burn
FROM (SELECT ts, error_kind != '' AND (status >= 500 OR status IN (408, 429)) AS failed FROM weir.requests WHERE $__timeFilter_ms(ts))
HAVING count() > 0

-- rule Nothing new is stored
-- uid=weir-lag range_s=7200 above=600 severity=critical board=pipeline for=5m
-- panel="Newest row"
-- No request was stored for {{ printf "%.0f" $values.A.Value }} s, after at least 60 in the hour before.
WITH (SELECT max(ts) FROM weir.requests WHERE $__timeFilter_ms(ts)) AS newest
SELECT dateDiff('second', newest, $__toTime) AS behind_s
FROM weir.requests
WHERE ts > newest - INTERVAL 1 HOUR AND ts <= newest
HAVING count() >= 60

-- rule Events are missing from the log
-- uid=weir-gaps range_s=86400 above=0 severity=critical board=pipeline
-- panel="Gaps in the log"
-- {{ printf "%.0f" $values.A.Value }} events: {{ $labels.what }}. `weir audit verify` names them.
SELECT what, events
FROM
(
    SELECT 'missing under a checkpoint' AS what, sum(arrayCount(print -> print = 0, fingerprints)) AS events FROM weir.checkpoint_leaves WHERE $__timeFilter_ms(ts)
    UNION ALL SELECT 'given up as dead letters' AS what, count() AS events FROM weir.dead_letters WHERE $__timeFilter_ms(ts)
    UNION ALL SELECT 'dropped by a full journal' AS what, ifNull(sum(streams.events), 0) AS events FROM weir.streams WHERE event = 'dropped' AND $__timeFilter_ms(ts)
)
ORDER BY what

-- rule Calls have no price
-- uid=weir-unpriced range_s=3600 above=5 severity=warning board=spend for=15m
-- panel="Calls without a price"
-- {{ printf "%.1f" $values.A.Value }} % of the calls of provider {{ $labels.provider }} have no price: what they cost is in no sum and in no budget.
SELECT toString(r.provider) AS provider, 100 * countIf(cost_usd IS NULL) / count() AS percent
FROM weir.requests AS r
WHERE provider != '' AND $__timeFilter_ms(ts)
GROUP BY provider

-- rule What is stored is not sealed
-- uid=weir-unsealed range_s=86400 above=3600 severity=warning board=pipeline for=15m
-- panel="Sealed up to"
-- The newest stored request is {{ printf "%.0f" $values.A.Value }} s newer than the newest event under a checkpoint.
SELECT dateDiff('second', (SELECT max(last_ts) FROM weir.checkpoint_leaves WHERE ts <= $__toTime), max(ts)) AS unsealed_s
FROM weir.requests
WHERE $__timeFilter_ms(ts)
HAVING count() > 0
