-- Rollups that cannot disagree with the rows, and signed checkpoints of the rows.
--
-- The rollups are projections: each part of weir.requests carries the sums of its own rows, written,
-- merged and dropped together with them. No kill can leave one without the other. They are read
-- through the views below; `weir rollups rebuild` makes them anew from the rows.
--
-- Users are in none of them: that there are many would make the sums about as many as the rows. The
-- rows of one user lie side by side in weir.requests, so asking there is fast.
--
-- A view's columns can be filtered and summed further. Quantiles of larger groups can't be had from
-- quantiles of smaller ones: ask weir.requests for the same function over the wider group, as in
-- SELECT toStartOfHour(toStartOfMinute(ts)), quantilesTDigest(0.5, 0.9, 0.95, 0.99)(total_us) …

ALTER TABLE weir.requests ADD PROJECTION IF NOT EXISTS by_minute
(
    SELECT
        toStartOfMinute(ts), organisation, team, environment, alias, provider, model,
        count(), countIf(error_kind != ''), countIf(cost_usd IS NULL), sum(attempts),
        sum(cost_usd), sum(waste_usd),
        sum(input_tokens), sum(cached_input_tokens), sum(output_tokens), sum(reasoning_tokens),
        quantilesTDigest(0.5, 0.9, 0.95, 0.99)(total_us),
        quantilesTDigest(0.5, 0.9, 0.95, 0.99)(ttft_us)
    GROUP BY toStartOfMinute(ts), organisation, team, environment, alias, provider, model
);

ALTER TABLE weir.requests ADD PROJECTION IF NOT EXISTS by_hour
(
    SELECT
        toStartOfHour(ts), organisation, team, project, environment, feature, alias, provider, model,
        count(), countIf(error_kind != ''), countIf(cost_usd IS NULL), sum(attempts),
        sum(cost_usd), sum(waste_usd),
        sum(input_tokens), sum(cached_input_tokens), sum(output_tokens), sum(reasoning_tokens),
        quantilesTDigest(0.5, 0.9, 0.95, 0.99)(total_us),
        quantilesTDigest(0.5, 0.9, 0.95, 0.99)(ttft_us)
    GROUP BY toStartOfHour(ts), organisation, team, project, environment, feature, alias, provider, model
);

-- Takes the place of daily, and has all that the other two have.
ALTER TABLE weir.requests ADD PROJECTION IF NOT EXISTS by_day
(
    SELECT
        toDate(ts), organisation, team, project, environment, feature, alias, provider, model,
        count(), countIf(error_kind != ''), countIf(cost_usd IS NULL), sum(attempts),
        sum(cost_usd), sum(waste_usd),
        sum(input_tokens), sum(cached_input_tokens), sum(output_tokens), sum(reasoning_tokens),
        quantilesTDigest(0.5, 0.9, 0.95, 0.99)(total_us),
        quantilesTDigest(0.5, 0.9, 0.95, 0.99)(ttft_us)
    GROUP BY toDate(ts), organisation, team, project, environment, feature, alias, provider, model
);

ALTER TABLE weir.requests DROP PROJECTION IF EXISTS daily;

ALTER TABLE weir.requests MATERIALIZE PROJECTION IF EXISTS by_minute;

ALTER TABLE weir.requests MATERIALIZE PROJECTION IF EXISTS by_hour;

ALTER TABLE weir.requests MATERIALIZE PROJECTION IF EXISTS by_day;

CREATE OR REPLACE VIEW weir.usage_by_minute
(
    minute              DateTime('UTC')           COMMENT 'Minute in which the requests arrived.',
    organisation        LowCardinality(String)    COMMENT 'Organisation that the key belongs to.',
    team                LowCardinality(String)    COMMENT 'Team that pays.',
    environment         LowCardinality(String)    COMMENT 'Environment of the key.',
    alias               LowCardinality(String)    COMMENT 'Model or alias that the client asked for.',
    provider            LowCardinality(String)    COMMENT 'Provider whose answer was delivered.',
    model               LowCardinality(String)    COMMENT 'Model that the provider was asked for.',
    requests            UInt64                    COMMENT 'Requests.',
    errors              UInt64                    COMMENT 'Requests that ended with an error.',
    unpriced            UInt64                    COMMENT 'Requests without a price: what they cost is not in cost_usd.',
    attempts            UInt64                    COMMENT 'Tries made for them: first, retries, fallbacks and hedges.',
    cost_usd            Nullable(Decimal(38, 12)) COMMENT 'What the requests are charged, in USD; NULL if all are unpriced.',
    waste_usd           Nullable(Decimal(38, 12)) COMMENT 'What the tries cost whose answer was not delivered, in USD.',
    input_tokens        Nullable(UInt64)          COMMENT 'Input tokens, cached and cache-write ones included.',
    cached_input_tokens Nullable(UInt64)          COMMENT 'Input tokens read from prompt caches.',
    output_tokens       Nullable(UInt64)          COMMENT 'Output tokens, reasoning ones included.',
    reasoning_tokens    Nullable(UInt64)          COMMENT 'Output tokens spent on reasoning.',
    total_us_quantiles  Array(Float32)            COMMENT 'Quantiles of total_us at 50, 90, 95 and 99 per cent.',
    ttft_us_quantiles   Array(Float32)            COMMENT 'Quantiles of ttft_us at 50, 90, 95 and 99 per cent.'
)
AS
SELECT
    toStartOfMinute(ts) AS minute, organisation, team, environment, alias, provider, model,
    count() AS requests, countIf(error_kind != '') AS errors, countIf(r.cost_usd IS NULL) AS unpriced,
    sum(r.attempts) AS attempts, sum(r.cost_usd) AS cost_usd, sum(r.waste_usd) AS waste_usd,
    sum(r.input_tokens) AS input_tokens, sum(r.cached_input_tokens) AS cached_input_tokens,
    sum(r.output_tokens) AS output_tokens, sum(r.reasoning_tokens) AS reasoning_tokens,
    quantilesTDigest(0.5, 0.9, 0.95, 0.99)(total_us) AS total_us_quantiles,
    quantilesTDigest(0.5, 0.9, 0.95, 0.99)(ttft_us) AS ttft_us_quantiles
FROM weir.requests AS r
GROUP BY minute, organisation, team, environment, alias, provider, model
COMMENT 'Usage by minute and team, environment, alias, provider and model: the sums of weir.requests, from its projection by_minute.';

CREATE OR REPLACE VIEW weir.usage_by_hour
(
    hour                DateTime('UTC')           COMMENT 'Hour in which the requests arrived.',
    organisation        LowCardinality(String)    COMMENT 'Organisation that the key belongs to.',
    team                LowCardinality(String)    COMMENT 'Team that pays.',
    project             LowCardinality(String)    COMMENT 'Project or service of the team.',
    environment         LowCardinality(String)    COMMENT 'Environment of the key.',
    feature             LowCardinality(String)    COMMENT 'Feature of the application that called.',
    alias               LowCardinality(String)    COMMENT 'Model or alias that the client asked for.',
    provider            LowCardinality(String)    COMMENT 'Provider whose answer was delivered.',
    model               LowCardinality(String)    COMMENT 'Model that the provider was asked for.',
    requests            UInt64                    COMMENT 'Requests.',
    errors              UInt64                    COMMENT 'Requests that ended with an error.',
    unpriced            UInt64                    COMMENT 'Requests without a price: what they cost is not in cost_usd.',
    attempts            UInt64                    COMMENT 'Tries made for them: first, retries, fallbacks and hedges.',
    cost_usd            Nullable(Decimal(38, 12)) COMMENT 'What the requests are charged, in USD; NULL if all are unpriced.',
    waste_usd           Nullable(Decimal(38, 12)) COMMENT 'What the tries cost whose answer was not delivered, in USD.',
    input_tokens        Nullable(UInt64)          COMMENT 'Input tokens, cached and cache-write ones included.',
    cached_input_tokens Nullable(UInt64)          COMMENT 'Input tokens read from prompt caches.',
    output_tokens       Nullable(UInt64)          COMMENT 'Output tokens, reasoning ones included.',
    reasoning_tokens    Nullable(UInt64)          COMMENT 'Output tokens spent on reasoning.',
    total_us_quantiles  Array(Float32)            COMMENT 'Quantiles of total_us at 50, 90, 95 and 99 per cent.',
    ttft_us_quantiles   Array(Float32)            COMMENT 'Quantiles of ttft_us at 50, 90, 95 and 99 per cent.'
)
AS
SELECT
    toStartOfHour(ts) AS hour, organisation, team, project, environment, feature, alias, provider, model,
    count() AS requests, countIf(error_kind != '') AS errors, countIf(r.cost_usd IS NULL) AS unpriced,
    sum(r.attempts) AS attempts, sum(r.cost_usd) AS cost_usd, sum(r.waste_usd) AS waste_usd,
    sum(r.input_tokens) AS input_tokens, sum(r.cached_input_tokens) AS cached_input_tokens,
    sum(r.output_tokens) AS output_tokens, sum(r.reasoning_tokens) AS reasoning_tokens,
    quantilesTDigest(0.5, 0.9, 0.95, 0.99)(total_us) AS total_us_quantiles,
    quantilesTDigest(0.5, 0.9, 0.95, 0.99)(ttft_us) AS ttft_us_quantiles
FROM weir.requests AS r
GROUP BY hour, organisation, team, project, environment, feature, alias, provider, model
COMMENT 'Usage by hour and the dimensions of attribution but the user: the sums of weir.requests, from its projection by_hour.';

CREATE OR REPLACE VIEW weir.usage_by_day
(
    day                 Date                      COMMENT 'Day on which the requests arrived, in UTC.',
    organisation        LowCardinality(String)    COMMENT 'Organisation that the key belongs to.',
    team                LowCardinality(String)    COMMENT 'Team that pays.',
    project             LowCardinality(String)    COMMENT 'Project or service of the team.',
    environment         LowCardinality(String)    COMMENT 'Environment of the key.',
    feature             LowCardinality(String)    COMMENT 'Feature of the application that called.',
    alias               LowCardinality(String)    COMMENT 'Model or alias that the client asked for.',
    provider            LowCardinality(String)    COMMENT 'Provider whose answer was delivered.',
    model               LowCardinality(String)    COMMENT 'Model that the provider was asked for.',
    requests            UInt64                    COMMENT 'Requests.',
    errors              UInt64                    COMMENT 'Requests that ended with an error.',
    unpriced            UInt64                    COMMENT 'Requests without a price: what they cost is not in cost_usd.',
    attempts            UInt64                    COMMENT 'Tries made for them: first, retries, fallbacks and hedges.',
    cost_usd            Nullable(Decimal(38, 12)) COMMENT 'What the requests are charged, in USD; NULL if all are unpriced.',
    waste_usd           Nullable(Decimal(38, 12)) COMMENT 'What the tries cost whose answer was not delivered, in USD.',
    input_tokens        Nullable(UInt64)          COMMENT 'Input tokens, cached and cache-write ones included.',
    cached_input_tokens Nullable(UInt64)          COMMENT 'Input tokens read from prompt caches.',
    output_tokens       Nullable(UInt64)          COMMENT 'Output tokens, reasoning ones included.',
    reasoning_tokens    Nullable(UInt64)          COMMENT 'Output tokens spent on reasoning.',
    total_us_quantiles  Array(Float32)            COMMENT 'Quantiles of total_us at 50, 90, 95 and 99 per cent.',
    ttft_us_quantiles   Array(Float32)            COMMENT 'Quantiles of ttft_us at 50, 90, 95 and 99 per cent.'
)
AS
SELECT
    toDate(ts) AS day, organisation, team, project, environment, feature, alias, provider, model,
    count() AS requests, countIf(error_kind != '') AS errors, countIf(r.cost_usd IS NULL) AS unpriced,
    sum(r.attempts) AS attempts, sum(r.cost_usd) AS cost_usd, sum(r.waste_usd) AS waste_usd,
    sum(r.input_tokens) AS input_tokens, sum(r.cached_input_tokens) AS cached_input_tokens,
    sum(r.output_tokens) AS output_tokens, sum(r.reasoning_tokens) AS reasoning_tokens,
    quantilesTDigest(0.5, 0.9, 0.95, 0.99)(total_us) AS total_us_quantiles,
    quantilesTDigest(0.5, 0.9, 0.95, 0.99)(ttft_us) AS ttft_us_quantiles
FROM weir.requests AS r
GROUP BY day, organisation, team, project, environment, feature, alias, provider, model
COMMENT 'Usage by day and the dimensions of attribution but the user: the sums of weir.requests, from its projection by_day.';

-- One place in the log can have two: a record that cannot be read, and word of events lost before it.
ALTER TABLE weir.dead_letters ADD COLUMN IF NOT EXISTS kind LowCardinality(String)
    COMMENT 'lost: events that cannot be had any more. rejected: a message that is no record. unreadable: a record that is no event of its place. refused: a row that the store does not take.'
    AFTER position;

CREATE TABLE IF NOT EXISTS weir.checkpoints
(
    signer    String                 COMMENT 'Public key (Ed25519, hex) of who signed.',
    number    UInt64                 COMMENT 'Number of the checkpoint among its signer''s: 1, 2, 3 … without gaps.',
    ts        DateTime64(6, 'UTC')   COMMENT 'When it was made.',
    leaves    UInt64                 COMMENT 'Leaves under the root.',
    root      FixedString(32)        COMMENT 'Merkle root (SHA-256) over the leaves.',
    previous  FixedString(32)        COMMENT 'Hash of the signer''s checkpoint before; zeros for the first.',
    hash      FixedString(32)        COMMENT 'SHA-256 over all of the above.',
    signature String                 COMMENT 'Signature of the hash (Ed25519, hex).'
)
ENGINE = MergeTree
ORDER BY (signer, number)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Signed checkpoints of the stored events. Kept for good.';

CREATE TABLE IF NOT EXISTS weir.checkpoint_leaves
(
    signer       String               COMMENT 'Signer of the checkpoint that the leaf is under.' CODEC(ZSTD(1)),
    number       UInt64               COMMENT 'Number of that checkpoint.' CODEC(ZSTD(1)),
    position     UInt64               COMMENT 'Position among the leaves of the checkpoint, from 0.' CODEC(ZSTD(1)),
    ts           DateTime64(6, 'UTC') COMMENT 'When the checkpoint was made.' CODEC(ZSTD(1)),
    version      UInt8                COMMENT 'Which columns of the rows are hashed: a later version has those that a later program added.',
    stream       UUID                 COMMENT 'Stream that the leaf covers a piece of.',
    first_seq    UInt64               COMMENT 'First event of the piece.',
    last_seq     UInt64               COMMENT 'Last event of the piece.',
    first_ts     DateTime64(6, 'UTC') COMMENT 'Oldest time of an event in the piece.',
    last_ts      DateTime64(6, 'UTC') COMMENT 'Newest time of an event in the piece.',
    chain_before FixedString(32)      COMMENT 'The stream''s hash chain before the piece.',
    chain_after  FixedString(32)      COMMENT 'The stream''s hash chain after the piece.',
    fingerprints Array(UInt64)        COMMENT 'First eight bytes of each event''s hash, by seq; 0 where there was none. They name the event that was changed.' CODEC(NONE)
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (stream, first_seq)
SETTINGS
    non_replicated_deduplication_window = 10000,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1
COMMENT 'Pieces of streams under the checkpoints'' roots.';
