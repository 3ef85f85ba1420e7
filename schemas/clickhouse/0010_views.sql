-- Views that say the same under every client's settings, and whose times other formats know for times.
--
-- A view runs with the settings of whoever asks. With join_use_nulls, what a join did not find is NULL;
-- with aggregate_functions_null_for_empty, so is a sum of nothing; with an empty join_default_strictness,
-- a join has to say whether it is ANY or ALL. So the view says what absent means, and which join it is.
--
-- DateTime is a plain number in Arrow and in Avro; DateTime64(3) is a timestamp in both. (Of other scales,
-- Avro knows 6 only.) The projections stay as they are: the views convert their keys, and filters on the
-- converted column still use the projections' index.

CREATE OR REPLACE VIEW weir.usage_by_minute
(
    minute              DateTime64(3, 'UTC')      COMMENT 'Minute in which the requests arrived.',
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
    hour                DateTime64(3, 'UTC')      COMMENT 'Hour in which the requests arrived.',
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
    if(ifNull(c.corrected_answer, false), c.cost_now, r.cost_usd) AS cost_usd,
    r.waste_usd AS waste_before_usd, r.waste_usd + ifNull(c.waste_change, 0) AS waste_usd
FROM weir.requests AS r
LEFT ANY JOIN
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
