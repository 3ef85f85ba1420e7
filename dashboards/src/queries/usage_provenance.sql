-- Where the token counts come from that costs are computed of.
SELECT usage_source, count() AS requests, sum(r.cost_usd) AS cost_usd
FROM weir.requests AS r
WHERE $rows
GROUP BY usage_source
ORDER BY requests DESC
LIMIT 20
