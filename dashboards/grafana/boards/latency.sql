-- board Latency and errors
-- uid=weir-latency from=now-24h annotations=routing refresh=1m
-- How long callers wait, what fails, and how fast that uses up an error budget of 1 %.

-- panel Now
-- kind=stat w=24 h=4
-- Requests in the range: how many, how many failed, and the medians and 95th percentiles of waiting.
SELECT count() AS requests, 100 * countIf(error_kind != '') / count() AS error_percent,
    quantile(0.5)(ttft_us) / 1000 AS first_token_p50_ms, quantile(0.95)(ttft_us) / 1000 AS first_token_p95_ms,
    quantile(0.5)(total_us) / 1000 AS total_p50_ms, quantile(0.95)(total_us) / 1000 AS total_p95_ms
FROM weir.requests
WHERE {rows}

-- panel First token by provider, 95th percentile
-- unit=ms series=provider
-- From arrival to the first token handed to the client.
SELECT {bucket} AS time, toString(r.provider) AS provider, quantileTDigest(0.95)(ttft_us) / 1000 AS first_token_p95_ms
FROM weir.requests AS r
WHERE ttft_us IS NOT NULL AND {rows}
GROUP BY time, provider
ORDER BY time, provider

-- panel Total time by alias, 95th percentile
-- unit=ms series=alias
-- From arrival to the end of the answer.
SELECT {bucket} AS time, toString(r.alias) AS alias, quantileTDigest(0.95)(total_us) / 1000 AS total_p95_ms
FROM weir.requests AS r
WHERE {rows}
GROUP BY time, alias
ORDER BY time, alias

-- panel First token, spread
-- kind=heatmap points=100
-- Requests by time to first token.
SELECT {bucket} AS time,
    countIf(ttft_us <= 100000) AS `100 ms`, countIf(ttft_us > 100000 AND ttft_us <= 200000) AS `200 ms`,
    countIf(ttft_us > 200000 AND ttft_us <= 400000) AS `400 ms`, countIf(ttft_us > 400000 AND ttft_us <= 800000) AS `800 ms`,
    countIf(ttft_us > 800000 AND ttft_us <= 1600000) AS `1.6 s`, countIf(ttft_us > 1600000 AND ttft_us <= 3200000) AS `3.2 s`,
    countIf(ttft_us > 3200000 AND ttft_us <= 6400000) AS `6.4 s`, countIf(ttft_us > 6400000) AS `longer`
FROM weir.requests
WHERE {rows}
GROUP BY time
ORDER BY time

-- panel Total time, spread
-- kind=heatmap points=100
-- Requests by total time.
SELECT {bucket} AS time,
    countIf(total_us <= 500000) AS `0.5 s`, countIf(total_us > 500000 AND total_us <= 1000000) AS `1 s`,
    countIf(total_us > 1000000 AND total_us <= 2000000) AS `2 s`, countIf(total_us > 2000000 AND total_us <= 4000000) AS `4 s`,
    countIf(total_us > 4000000 AND total_us <= 8000000) AS `8 s`, countIf(total_us > 8000000 AND total_us <= 16000000) AS `16 s`,
    countIf(total_us > 16000000 AND total_us <= 32000000) AS `32 s`, countIf(total_us > 32000000) AS `longer`
FROM weir.requests
WHERE {rows}
GROUP BY time
ORDER BY time

-- panel Error budget burn
-- above=1,14.4
-- Share of failed requests over the 1 % that a target of 99 % allows: at 1 the budget lasts exactly, at 14.4 a month's is gone in two days. What callers did wrong (status 4xx but 408 and 429) does not count.
SELECT {bucket} AS time, countIf(error_kind != '' AND (status >= 500 OR status IN (408, 429))) / count() / 0.01 AS burn
FROM weir.requests
WHERE {rows}
GROUP BY time
ORDER BY time

-- panel Errors by kind
-- draw=bars stack=normal series=error_kind
-- What callers saw, after retries and fallbacks.
SELECT {bucket} AS time, toString(r.error_kind) AS error_kind, count() AS requests
FROM weir.requests AS r
WHERE error_kind != '' AND {rows}
GROUP BY time, error_kind
ORDER BY time, error_kind

-- panel Providers' errors
-- kind=table
-- Attempts by what became of them, those that a retry or fallback made good included.
SELECT provider, deployment, error_kind, count() AS attempts, 100 * attempts / sum(attempts) OVER (PARTITION BY deployment) AS deployment_percent
FROM weir.attempts
WHERE {rows}
GROUP BY provider, deployment, error_kind
ORDER BY error_kind = '', attempts DESC, deployment
LIMIT 200

-- panel Models
-- kind=table
-- Medians, tails and output speed of answers.
SELECT model, count() AS requests, quantileTDigest(0.5)(ttft_us) / 1000 AS first_token_p50_ms, quantileTDigest(0.99)(ttft_us) / 1000 AS first_token_p99_ms,
    quantileTDigest(0.5)(total_us) / 1000 AS total_p50_ms, quantileTDigest(0.99)(total_us) / 1000 AS total_p99_ms,
    1000000 * sumIf(output_tokens, total_us > ttft_us) / sumIf(total_us - ttft_us, total_us > ttft_us) AS output_tokens_per_second
FROM weir.requests
WHERE status < 400 AND {rows}
GROUP BY model
ORDER BY requests DESC
LIMIT 100

-- panel The gateway's own time
-- unit=ms
-- Waiting for admission, and the gateway's work until the first byte to the provider.
SELECT {bucket} AS time, quantileTDigest(0.5)(overhead_us) / 1000 AS work_p50, quantileTDigest(0.99)(overhead_us) / 1000 AS work_p99,
    quantileTDigest(0.99)(queue_us) / 1000 AS wait_p99
FROM weir.requests
WHERE {rows}
GROUP BY time
ORDER BY time

-- panel Slowest calls
-- kind=table
-- Each leads to all that is known of it.
SELECT ts AS time, request_id, team, alias, model, status, error_kind, ttft_us / 1000 AS first_token_ms, total_us / 1000 AS all_ms, attempts
FROM weir.requests
WHERE {rows}
ORDER BY total_us DESC, time DESC
LIMIT 50
