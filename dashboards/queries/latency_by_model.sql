-- Time to first token and total time by model, for the answers of the last 24 hours.
SELECT
    provider, model,
    count() AS requests,
    round(quantileTDigest(0.5)(ttft_us) / 1000, 1) AS ttft_ms_p50,
    round(quantileTDigest(0.95)(ttft_us) / 1000, 1) AS ttft_ms_p95,
    round(quantileTDigest(0.5)(total_us) / 1000, 1) AS total_ms_p50,
    round(quantileTDigest(0.95)(total_us) / 1000, 1) AS total_ms_p95
FROM weir.requests
WHERE ts > now() - INTERVAL 1 DAY AND status = 200
GROUP BY provider, model
ORDER BY requests DESC, provider, model
