-- Prices that were put right later. What was said first stays in weir.attempts and weir.requests; the
-- views at the end show both.

CREATE TABLE IF NOT EXISTS weir.corrections
(
    stream               UUID                      COMMENT 'Stream that the event belongs to: one writer, one boot, one shard.' CODEC(ZSTD(1)),
    seq                  UInt64                    COMMENT 'Position in the stream: 1, 2, 3 … without gaps.' CODEC(Delta, ZSTD(1)),
    ts                   DateTime64(6, 'UTC')      COMMENT 'When the correction was made.' CODEC(Delta, ZSTD(1)),
    request_id           UUID                      COMMENT 'Request that the try belongs to.' CODEC(ZSTD(1)),
    attempt              UInt16                    COMMENT 'Number of the try within its request.' CODEC(ZSTD(1)),
    attempt_ts           DateTime64(6, 'UTC')      COMMENT 'When the try began.' CODEC(Delta, ZSTD(1)),
    delivered            Bool                      COMMENT 'Whether the client got the answer of the try: its cost is the request''s, otherwise it is waste.' CODEC(ZSTD(1)),
    cost_before_usd      Nullable(Decimal(38, 12)) COMMENT 'What the try was said to cost until then, in USD; NULL if it was unpriced.' CODEC(ZSTD(1)),
    cost_usd             Nullable(Decimal(38, 12)) COMMENT 'What it is said to cost now, in USD; NULL if it is unpriced.' CODEC(ZSTD(1)),
    price_version_before LowCardinality(String)    COMMENT 'Row of the price book that said so until then.' CODEC(ZSTD(1)),
    price_version        LowCardinality(String)    COMMENT 'Row of the price book that says so now.' CODEC(ZSTD(1)),
    actor                LowCardinality(String)    COMMENT 'Who made the correction.' CODEC(ZSTD(1)),
    reason               LowCardinality(String)    COMMENT 'Why, in words.' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (request_id, attempt, ts)
SETTINGS
    non_replicated_deduplication_window = 10000,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1
COMMENT 'One row per try that was priced anew. The latest one counts.';

CREATE OR REPLACE VIEW weir.rerated_requests
(
    ts               DateTime64(6, 'UTC')      COMMENT 'When the request arrived.',
    request_id       UUID                      COMMENT 'Id of the request.',
    organisation     LowCardinality(String)    COMMENT 'Organisation that the key belongs to.',
    team             LowCardinality(String)    COMMENT 'Team that pays.',
    project          LowCardinality(String)    COMMENT 'Project or service of the team.',
    user             LowCardinality(String)    COMMENT 'User of the key, or the one the application named.',
    environment      LowCardinality(String)    COMMENT 'Environment of the key.',
    feature          LowCardinality(String)    COMMENT 'Feature of the application that called.',
    alias            LowCardinality(String)    COMMENT 'Model or alias that the client asked for.',
    provider         LowCardinality(String)    COMMENT 'Provider whose answer was delivered.',
    model            LowCardinality(String)    COMMENT 'Model that the provider was asked for.',
    cost_before_usd  Nullable(Decimal(38, 12)) COMMENT 'What the request was said to cost first, in USD; NULL if it was unpriced.',
    cost_usd         Nullable(Decimal(38, 12)) COMMENT 'What it is said to cost now, in USD; NULL if it is unpriced.',
    waste_before_usd Nullable(Decimal(38, 12)) COMMENT 'What its other tries were said to cost first, in USD.',
    waste_usd        Nullable(Decimal(38, 12)) COMMENT 'What they are said to cost now, in USD.'
)
AS
SELECT
    r.ts AS ts, r.request_id AS request_id, r.organisation AS organisation, r.team AS team, r.project AS project,
    r.user AS user, r.environment AS environment, r.feature AS feature, r.alias AS alias, r.provider AS provider,
    r.model AS model, r.cost_usd AS cost_before_usd,
    if(c.corrected_answer, c.cost_now, r.cost_usd) AS cost_usd,
    r.waste_usd AS waste_before_usd, r.waste_usd + c.waste_change AS waste_usd
FROM weir.requests AS r
LEFT JOIN
(
    SELECT
        request_id,
        max(was_delivered) AS corrected_answer,
        anyIf(latest, was_delivered) AS cost_now,
        sumIf(ifNull(latest, 0) - ifNull(first, 0), NOT was_delivered) AS waste_change
    FROM
    (
        SELECT
            request_id, attempt, any(delivered) AS was_delivered,
            tupleElement(argMax(tuple(cost_usd), (ts, seq)), 1) AS latest,
            tupleElement(argMin(tuple(cost_before_usd), (ts, seq)), 1) AS first
        FROM weir.corrections
        GROUP BY request_id, attempt
    )
    GROUP BY request_id
) AS c ON c.request_id = r.request_id
COMMENT 'Requests with what they were said to cost first and what they are said to cost now, by the latest correction of each try.';
