-- board Usage
-- uid=weir-usage from=now-7d annotations=routing
-- Requests and tokens: how many, whose, through which alias, and where the counts come from.

-- panel In this range
-- kind=stat w=24 h=4
-- Requests, tokens, and how many tokens of the input came from prompt caches.
SELECT count() AS requests, sum(r.input_tokens) AS input_tokens, sum(r.output_tokens) AS output_tokens,
    100 * ifNull(sum(cached_input_tokens), 0) / sum(r.input_tokens) AS cached_percent
FROM weir.requests AS r
WHERE {hours}

-- panel Requests by alias
-- draw=bars stack=normal series=alias interval=1h points=120
-- What applications asked for.
SELECT {hour_bucket} AS time, toString(r.alias) AS alias, count() AS requests
FROM weir.requests AS r
WHERE {hours}
GROUP BY time, alias
ORDER BY time, alias

-- panel Tokens by kind
-- draw=bars stack=normal interval=1h points=120
-- Cached input is part of the input, reasoning part of the output; each token stands here once.
SELECT {hour_bucket} AS time,
    sum(input_tokens) - ifNull(sum(cached_input_tokens), 0) AS input, ifNull(sum(cached_input_tokens), 0) AS cached_input,
    sum(output_tokens) - ifNull(sum(reasoning_tokens), 0) AS output, ifNull(sum(reasoning_tokens), 0) AS reasoning
FROM weir.requests
WHERE {hours}
GROUP BY time
ORDER BY time

-- panel Where token counts come from
-- draw=bars stack=percent series=usage_source interval=1h points=120
-- reported: the provider said so. drained: it said so after the client had left. estimated: Weir counted. none: nobody knows.
SELECT {hour_bucket} AS time, toString(r.usage_source) AS usage_source, count() AS requests
FROM weir.requests AS r
WHERE {rows}
GROUP BY time, usage_source
ORDER BY time, usage_source

-- panel Asked for and answered by
-- kind=table
-- The alias that was asked for, the model that was called, and the one that the provider says it used.
SELECT alias, model, response_model, count() AS requests, 100 * requests / sum(requests) OVER (PARTITION BY alias) AS alias_percent
FROM weir.requests
WHERE {rows}
GROUP BY alias, model, response_model
ORDER BY alias, requests DESC
LIMIT 200

-- panel Users
-- kind=table h=9
-- Who calls most.
SELECT user, team, count() AS requests, sum(r.input_tokens) AS input_tokens, sum(r.output_tokens) AS output_tokens, sum(r.cost_usd) AS cost_usd
FROM weir.requests AS r
WHERE {rows}
GROUP BY user, team
ORDER BY requests DESC, user
LIMIT 100

-- panel Teams and features
-- kind=table h=9
-- What calls most.
SELECT team, feature, environment, count() AS requests, sum(r.input_tokens) AS input_tokens, sum(r.output_tokens) AS output_tokens
FROM weir.requests AS r
WHERE {days}
GROUP BY team, feature, environment
ORDER BY requests DESC, team, feature, environment
LIMIT 100

-- panel Why models stopped
-- draw=bars stack=normal series=finish_reason interval=1h points=120
-- Many at `length` mean answers that were cut.
SELECT {hour_bucket} AS time, toString(r.finish_reason) AS finish_reason, count() AS requests
FROM weir.requests AS r
WHERE finish_reason != '' AND {rows}
GROUP BY time, finish_reason
ORDER BY time, finish_reason

-- panel APIs and clients
-- kind=table
-- Which API and which program called, streamed or not.
SELECT dialect, user_agent, streamed, count() AS requests
FROM weir.requests
WHERE {rows}
GROUP BY dialect, user_agent, streamed
ORDER BY requests DESC, user_agent, streamed
LIMIT 100
