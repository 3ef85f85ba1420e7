-- Changes of keys, teams, budgets, limits, rules and tokens, and who made them.
SELECT ts, actor, action, object_kind, object_id, before, after
FROM weir.control_changes
WHERE $rows
ORDER BY ts DESC
LIMIT 1000
