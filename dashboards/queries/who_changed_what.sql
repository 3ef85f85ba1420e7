-- Changes of keys, teams, budgets and limits in the last 90 days, and who made them.
SELECT ts, actor, action, object_kind, object_id, before, after
FROM weir.control_changes
WHERE ts > now() - INTERVAL 90 DAY
ORDER BY ts DESC
