-- board Audit
-- uid=weir-audit from=now-7d annotations=budgets
-- Who called what, with which key and from where; who changed what; who was refused. `weir audit verify` proves that nothing is missing.

-- panel Who called what
-- kind=table w=24 h=10
-- Users and the models that they called.
SELECT user, team, alias, model, count() AS requests, sum(r.cost_usd) AS cost_usd, min(ts) AS first, max(ts) AS last
FROM weir.requests AS r
WHERE {rows}
GROUP BY user, team, alias, model
ORDER BY requests DESC, user, alias, model
LIMIT 500

-- panel Keys from new addresses
-- kind=table
-- Keys used in the last 24 hours of the range from an address that they were not used from in the 89 days before. New keys are not listed.
SELECT key_id, client_ip, any(team) AS of_team, any(user) AS of_user, count() AS requests, min(ts) AS first
FROM weir.requests
WHERE ts > $__toTime - INTERVAL 1 DAY AND ts <= $__toTime AND {filters}
  AND (key_id, client_ip) NOT IN (
    SELECT key_id, client_ip FROM weir.requests WHERE ts > $__toTime - INTERVAL 90 DAY AND ts <= $__toTime - INTERVAL 1 DAY
) AND key_id IN (
    SELECT key_id FROM weir.requests WHERE ts > $__toTime - INTERVAL 90 DAY AND ts <= $__toTime - INTERVAL 1 DAY
)
GROUP BY key_id, client_ip
ORDER BY first, key_id
LIMIT 100

-- panel Keys in use
-- kind=table
-- Each key's calls, and from how many addresses and programs.
SELECT key_id, any(team) AS of_team, uniq(user) AS users, count() AS requests, uniq(client_ip) AS addresses, uniq(user_agent) AS programs, max(ts) AS last
FROM weir.requests
WHERE {rows}
GROUP BY key_id
ORDER BY requests DESC, key_id
LIMIT 200

-- panel Who changed what
-- kind=table w=24 h=9
-- Keys, teams, budgets, limits, rules, tokens and routing tables.
SELECT ts AS time, actor, action, object_kind, object_id, before, after
FROM weir.control_changes
WHERE action NOT IN ('threshold', 'overspent') AND $__timeFilter_ms(ts)
ORDER BY time DESC
LIMIT 500

-- panel Refused
-- kind=table
-- Calls that were tried nowhere, and which limit, budget or rule refused them.
SELECT team, status, error_kind, limit_verdict, count() AS requests, max(ts) AS last
FROM weir.requests
WHERE attempts = 0 AND error_kind != '' AND {rows}
GROUP BY team, status, error_kind, limit_verdict
ORDER BY requests DESC, team
LIMIT 200

-- panel Calls without a valid key
-- kind=table
-- Addresses that tried. The first calls of each stand in weir.requests; these are the further ones.
SELECT address, reason, sum(r.refused) AS refused, sum(r.limited) AS answered_429, min(ts) AS first, max(r.last) AS last
FROM weir.refusals AS r
WHERE $__timeFilter_ms(ts)
GROUP BY address, reason
ORDER BY refused DESC, address
LIMIT 200

-- panel Prompts and answers kept
-- kind=table
-- How many payloads are kept by which rule, and what redaction found. The texts are read in the console, by those who may.
SELECT team, capture, count() AS payloads, sum(p.redactions) AS redactions, arrayStringConcat(arraySort(groupUniqArrayArray(detectors)), ', ') AS found
FROM weir.payloads AS p
WHERE $__timeFilter_ms(ts)
GROUP BY team, capture
ORDER BY payloads DESC, team
LIMIT 100

-- panel Last calls
-- kind=table
-- Each leads to all that is known of it.
SELECT ts AS time, request_id, user, team, key_id, client_ip, alias, model, status, cost_usd
FROM weir.requests
WHERE {rows}
ORDER BY ts DESC
LIMIT 100
