-- board Spend
-- uid=weir-spend from=now-30d annotations=prices,budgets
-- Who spends what on which model, what is left of budgets, what was wasted, and what has no price.

-- panel Money
-- kind=stat w=12 h=4
-- What the requests in the range are charged, what failed attempts cost on top, and how many calls have no price.
SELECT sum(r.cost_usd) AS cost_usd, sum(r.waste_usd) AS wasted_usd, count() AS requests, countIf(r.cost_usd IS NULL) AS unpriced
FROM weir.requests AS r
WHERE {hours}

-- panel This month
-- kind=stat w=12 h=4
-- The month in which the range ends, cost and waste: so far, expected at the pace of the seven days before the last one, and the whole month before.
WITH toTimeZone($__toTime, 'UTC') AS until, toStartOfMonth(until) AS begin
SELECT
    sumIf(usd, day >= begin) AS month_to_date_usd,
    month_to_date_usd + sumIf(usd, day >= toDate(until) - 7 AND day < toDate(until)) / 7
        * dateDiff('second', until, toDateTime(begin + INTERVAL 1 MONTH, 'UTC')) / 86400 AS forecast_usd,
    sumIf(usd, day < begin AND day >= begin - INTERVAL 1 MONTH) AS month_before_usd
FROM
(
    SELECT toDate(ts) AS day, toFloat64(ifNull(sum(cost_usd), 0) + ifNull(sum(waste_usd), 0)) AS usd
    FROM weir.requests
    WHERE toDate(ts) >= toStartOfMonth($__toTime, 'UTC') - INTERVAL 1 MONTH AND toDate(ts) <= toDate($__toTime, 'UTC')
      AND {filters}
    GROUP BY day
)

-- panel Spend by team
-- w=16 h=9 unit=currencyUSD draw=bars stack=normal series=shown interval=1h points=120
-- The twelve teams that spend most; the others together.
SELECT time, if(team IN (
    SELECT team FROM weir.requests WHERE {hours} GROUP BY team ORDER BY sum(cost_usd) DESC, team LIMIT 12
), team, 'others') AS shown, sum(usd) AS cost_usd
FROM
(
    SELECT {hour_bucket} AS time, team, sum(cost_usd) AS usd
    FROM weir.requests
    WHERE {hours}
    GROUP BY time, team
)
GROUP BY time, shown
ORDER BY time, shown

-- panel Spend by model
-- kind=table w=8 h=9
-- What each model costs, and per million tokens in and out.
SELECT model, sum(r.cost_usd) AS cost_usd, count() AS requests,
    1000000 * toFloat64(sum(r.cost_usd)) / (sum(input_tokens) + sum(output_tokens)) AS per_million_tokens_usd
FROM weir.requests AS r
WHERE {hours}
GROUP BY model
ORDER BY cost_usd DESC
LIMIT 100

-- panel Who spends on what
-- kind=table w=24 h=10
-- Teams, features and models: the growth team used so much of Opus on the onboarding flow.
SELECT team, project, feature, model, sum(r.cost_usd) AS cost_usd, sum(r.waste_usd) AS wasted_usd, count() AS requests,
    countIf(r.cost_usd IS NULL) AS unpriced
FROM weir.requests AS r
WHERE {days}
GROUP BY team, project, feature, model
ORDER BY cost_usd DESC, requests DESC
LIMIT 200

-- panel Budgets: spent, left, forecast
-- kind=table w=24 h=8
-- Budgets in money by day, week or month, for an organisation, team, project or environment: what the calls stored since the window began cost (UTC), what is left, and what it comes to at the pace of the seven days before the last one. The gateway's own figures, with what is reserved, are in `weir budgets list` and in the console.
WITH toTimeZone($__toTime, 'UTC') AS until,
    multiIf(window = 'month', toStartOfMonth(until), window = 'week', toMonday(until), toDate(until)) AS begin,
    toDateTime(multiIf(window = 'month', addMonths(begin, 1), window = 'week', begin + 7, begin + 1), 'UTC') AS resets
SELECT budget, window, any(limit_usd) AS limit_usd, sumIf(usd, day >= begin) AS spent_usd, limit_usd - spent_usd AS left_usd,
    100 * toFloat64(spent_usd) / toFloat64(limit_usd) AS spent_percent,
    toFloat64(sumIf(usd, day >= toDate(until) - 7 AND day < toDate(until))) / 7 AS per_day_usd,
    toFloat64(spent_usd) + per_day_usd * dateDiff('second', until, resets) / 86400 AS forecast_usd,
    if(forecast_usd > toFloat64(limit_usd), until + toIntervalSecond(toUInt32(greatest(0, 86400 * toFloat64(left_usd) / greatest(per_day_usd, 0.000001)))), NULL) AS used_up_at,
    resets AS resets_at
FROM
(
    SELECT object_id AS budget, argMax(after, (ts, seq)) AS record, JSONExtractString(record, 'window') AS window,
        toDecimal128(JSONExtractString(record, 'usd'), 12) AS limit_usd, JSONExtract(record, 'scope', 'Map(String, String)') AS scope
    FROM weir.control_changes
    WHERE object_kind = 'budget' AND action NOT IN ('threshold', 'overspent') AND ts <= $__toTime
    GROUP BY object_id
    HAVING JSONExtractString(record, 'usd') != '' AND window IN ('day', 'week', 'month') AND NOT JSONHas(record, 'per')
       AND empty(arrayFilter(of -> of NOT IN ('organisation', 'team', 'project', 'environment'), mapKeys(scope)))
) AS budgets
CROSS JOIN
(
    SELECT toDate(ts) AS day, organisation, team, project, environment, ifNull(sum(cost_usd), 0) + ifNull(sum(waste_usd), 0) AS usd
    FROM weir.requests
    WHERE toDate(ts) >= least(toStartOfMonth($__toTime, 'UTC'), toDate($__toTime, 'UTC') - 7) AND toDate(ts) <= toDate($__toTime, 'UTC')
    GROUP BY day, organisation, team, project, environment
) AS spent
WHERE scope['organisation'] IN ('', organisation) AND scope['team'] IN ('', team)
  AND scope['project'] IN ('', project) AND scope['environment'] IN ('', environment)
GROUP BY budget, window
ORDER BY spent_percent DESC

-- panel Budget thresholds reached
-- kind=table w=12 h=8
-- What the gateways said of budgets, those in tokens and of single users included.
SELECT ts AS time, JSONExtractString(after, 'budget') AS budget, action, JSONExtractUInt(after, 'percent') AS reached_percent,
    JSONExtractString(after, 'spent') AS spent, JSONExtractString(after, 'limit') AS limit
FROM weir.control_changes
WHERE object_kind = 'budget' AND action IN ('threshold', 'overspent') AND $__timeFilter_ms(ts)
ORDER BY time DESC
LIMIT 100

-- panel Money wasted on failed attempts
-- w=12 h=8 unit=currencyUSD draw=bars stack=normal series=provider interval=1h points=120
-- What attempts cost whose answer nobody got: failed, cancelled, hedged, shadowed.
SELECT {hour_bucket} AS time, toString(a.provider) AS provider, sum(cost_usd) AS wasted_usd
FROM weir.attempts AS a
WHERE NOT delivered AND {rows}
GROUP BY time, provider
ORDER BY time, provider

-- panel Prompt cache beside cost
-- w=12 h=8 interval=1h points=120
-- Cost, and the share of input tokens that providers read from their prompt caches.
SELECT {hour_bucket} AS time, sum(r.cost_usd) AS cost_usd, 100 * ifNull(sum(cached_input_tokens), 0) / sum(input_tokens) AS cached_percent
FROM weir.requests AS r
WHERE {hours}
GROUP BY time
ORDER BY time

-- panel What the prompt cache saves
-- kind=table w=12 h=8
-- Calls that read from the prompt cache beside calls that did not: what a million input tokens of theirs cost, output included. They are different calls, so the difference is no exact saving.
SELECT model, countIf(cached_input_tokens > 0) AS requests_cached, countIf(ifNull(cached_input_tokens, 0) = 0) AS requests_uncached,
    100 * ifNull(sum(cached_input_tokens), 0) / sum(input_tokens) AS cached_percent,
    1000000 * toFloat64(sumIf(cost_usd, cached_input_tokens > 0)) / sumIf(input_tokens, cached_input_tokens > 0) AS cached_per_million_usd,
    1000000 * toFloat64(sumIf(cost_usd, ifNull(cached_input_tokens, 0) = 0)) / sumIf(input_tokens, ifNull(cached_input_tokens, 0) = 0) AS uncached_per_million_usd
FROM weir.requests
WHERE cost_usd IS NOT NULL AND {rows}
GROUP BY model
ORDER BY requests_cached DESC
LIMIT 100

-- panel Calls without a price
-- kind=table w=12 h=8
-- What they cost is in no sum.
SELECT provider, model, unpriced_reason, count() AS requests, sum(r.input_tokens) AS input_tokens, sum(r.output_tokens) AS output_tokens,
    max(ts) AS last
FROM weir.requests AS r
WHERE cost_usd IS NULL AND {rows}
GROUP BY provider, model, unpriced_reason
ORDER BY requests DESC
LIMIT 100

-- panel Price versions
-- kind=table w=12 h=8
-- Which price book, and which row of it, priced how much, and when.
SELECT splitByChar(':', toString(price_version))[1] AS price_book, provider, model, price_version, count() AS requests, sum(r.cost_usd) AS cost_usd,
    min(ts) AS first, max(ts) AS last
FROM weir.requests AS r
WHERE price_version != '' AND {rows}
GROUP BY provider, model, price_version
ORDER BY cost_usd DESC
LIMIT 200

-- panel Customers
-- kind=table w=12 h=8
-- End customers on whose behalf applications called.
SELECT customer, sum(r.cost_usd) AS cost_usd, count() AS requests
FROM weir.requests AS r
WHERE customer != '' AND {rows}
GROUP BY customer
ORDER BY cost_usd DESC, customer
LIMIT 100

-- panel Most expensive calls
-- kind=table w=24 h=8
-- Each leads to all that is known of it.
SELECT ts AS time, request_id, team, user, feature, model, cost_usd, waste_usd, input_tokens, output_tokens
FROM weir.requests
WHERE cost_usd IS NOT NULL AND {rows}
ORDER BY cost_usd DESC, time DESC
LIMIT 50
