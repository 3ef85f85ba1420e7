-- Changes of deployments' states, newest first.
SELECT ts, deployment, provider_key, state, cause, until
FROM weir.deployment_states
WHERE $rows
ORDER BY ts DESC, deployment
LIMIT 200
