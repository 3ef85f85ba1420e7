-- What routing did: deployments that went out of service and came back, and the tables that
-- gateways went by.

CREATE TABLE IF NOT EXISTS weir.deployment_states
(
    stream       UUID                   COMMENT 'Stream that the event belongs to: one writer, one boot, one shard.' CODEC(ZSTD(1)),
    seq          UInt64                 COMMENT 'Position in the stream: 1, 2, 3 … without gaps.' CODEC(Delta, ZSTD(1)),
    ts           DateTime64(6, 'UTC')   COMMENT 'When the state changed.' CODEC(Delta, ZSTD(1)),
    deployment   LowCardinality(String) COMMENT 'Deployment of the model at the provider: provider/model.' CODEC(ZSTD(1)),
    provider     LowCardinality(String) COMMENT 'Provider of the deployment.' CODEC(ZSTD(1)),
    model        LowCardinality(String) COMMENT 'Model of the deployment.' CODEC(ZSTD(1)),
    provider_key LowCardinality(String) COMMENT 'Which of the provider''s keys it uses: its name, never the key.' CODEC(ZSTD(1)),
    state        LowCardinality(String) COMMENT 'ejected or recovered.' CODEC(ZSTD(1)),
    cause        LowCardinality(String) COMMENT 'Why it was ejected: consecutive_failures, failure_ratio, stalled, retry_after, key, probe_failed.' CODEC(ZSTD(1)),
    until        Nullable(DateTime64(6, 'UTC')) COMMENT 'When it may be probed, if it was ejected.' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (deployment, ts)
SETTINGS
    non_replicated_deduplication_window = 10000,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1
COMMENT 'One row per change of a deployment''s state, as one gateway saw it.';

CREATE TABLE IF NOT EXISTS weir.routing_tables
(
    stream        UUID                   COMMENT 'Stream that the event belongs to: one writer, one boot, one shard.' CODEC(ZSTD(1)),
    seq           UInt64                 COMMENT 'Position in the stream: 1, 2, 3 … without gaps.' CODEC(Delta, ZSTD(1)),
    ts            DateTime64(6, 'UTC')   COMMENT 'When the table was adopted.' CODEC(Delta, ZSTD(1)),
    version       UInt64                 COMMENT 'Number of the table.' CODEC(T64, ZSTD(1)),
    made_at       DateTime64(6, 'UTC')   COMMENT 'When the table was made.' CODEC(ZSTD(1)),
    measured_from DateTime64(6, 'UTC')   COMMENT 'Begin of the period that was measured.' CODEC(ZSTD(1)),
    measured_to   DateTime64(6, 'UTC')   COMMENT 'End of the period that was measured.' CODEC(ZSTD(1)),
    origin        LowCardinality(String) COMMENT 'How the table came about: measured, frozen, pinned, rolled_back, reverted.' CODEC(ZSTD(1)),
    routing_table String                 COMMENT 'The whole table, as JSON.' CODEC(ZSTD(3))
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (version, ts)
SETTINGS
    non_replicated_deduplication_window = 10000,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1
COMMENT 'One row per adoption of a routing table by one gateway.';
