-- Everything that is billed, by day: what usage_by_day has no sums for.
--
-- The projections sum the main counts, and a view over them that asked for more would read the rows
-- anyway. This one always does. What was consumed at other models within a call is in
-- weir.requests.other_models and in no sum here.

CREATE OR REPLACE VIEW weir.meters_by_day
(
    day                       Date                      COMMENT 'Day on which the requests arrived, in UTC.',
    organisation              LowCardinality(String)    COMMENT 'Organisation that the key belongs to.',
    team                      LowCardinality(String)    COMMENT 'Team that pays.',
    project                   LowCardinality(String)    COMMENT 'Project or service of the team.',
    environment               LowCardinality(String)    COMMENT 'Environment of the key.',
    feature                   LowCardinality(String)    COMMENT 'Feature of the application that called.',
    alias                     LowCardinality(String)    COMMENT 'Model or alias that the client asked for.',
    provider                  LowCardinality(String)    COMMENT 'Provider whose answer was delivered.',
    model                     LowCardinality(String)    COMMENT 'Model that the provider was asked for.',
    service_tier              LowCardinality(String)    COMMENT 'Service tier that the provider reported.',
    inference_geo             LowCardinality(String)    COMMENT 'Where the provider says the model ran, if that has a price of its own.',
    unpriced_reason           LowCardinality(String)    COMMENT 'Why these requests have no price; '''' if they have one.',
    requests                  UInt64                    COMMENT 'Requests.',
    cost_usd                  Nullable(Decimal(38, 12)) COMMENT 'What the requests are charged, in USD; NULL if they are unpriced.',
    waste_usd                 Nullable(Decimal(38, 12)) COMMENT 'What the tries cost whose answer was not delivered, in USD.',
    input_tokens              Nullable(UInt64)          COMMENT 'Input tokens, cached and cache-write ones included.',
    cached_input_tokens       Nullable(UInt64)          COMMENT 'Input tokens read from prompt caches.',
    cache_write_5m_tokens     Nullable(UInt64)          COMMENT 'Input tokens written to the prompt cache for five minutes, or for a lifetime that the provider did not name.',
    cache_write_30m_tokens    Nullable(UInt64)          COMMENT 'Input tokens written to the prompt cache for 30 minutes.',
    cache_write_1h_tokens     Nullable(UInt64)          COMMENT 'Input tokens written to the prompt cache for an hour.',
    cache_write_12h_tokens    Nullable(UInt64)          COMMENT 'Input tokens written to the prompt cache for 12 hours.',
    audio_input_tokens        Nullable(UInt64)          COMMENT 'Input tokens that were audio.',
    cached_audio_input_tokens Nullable(UInt64)          COMMENT 'Input tokens that were audio and read from the prompt cache; both sums include them.',
    image_input_tokens        Nullable(UInt64)          COMMENT 'Input tokens that were images.',
    cached_image_input_tokens Nullable(UInt64)          COMMENT 'Input tokens that were images and read from the prompt cache; both sums include them.',
    video_input_tokens        Nullable(UInt64)          COMMENT 'Input tokens that were video.',
    output_tokens             Nullable(UInt64)          COMMENT 'Output tokens, reasoning ones included.',
    reasoning_tokens          Nullable(UInt64)          COMMENT 'Output tokens spent on reasoning.',
    audio_output_tokens       Nullable(UInt64)          COMMENT 'Output tokens that were audio.',
    image_output_tokens       Nullable(UInt64)          COMMENT 'Output tokens that were images.',
    video_output_tokens       Nullable(UInt64)          COMMENT 'Output tokens that were video.',
    citation_tokens           Nullable(UInt64)          COMMENT 'Output tokens that were citations.',
    web_searches              Nullable(UInt64)          COMMENT 'Web searches that ran at the provider.',
    file_searches             Nullable(UInt64)          COMMENT 'Searches of files that ran at the provider.',
    code_executions           Nullable(UInt64)          COMMENT 'Executions of code, or containers for them, at the provider.',
    audio_input_ms            Nullable(UInt64)          COMMENT 'Milliseconds of audio input, where the provider bills by duration.'
)
AS
SELECT
    toDate(r.ts) AS day, organisation, team, project, environment, feature, alias, provider, model,
    service_tier, inference_geo, unpriced_reason,
    count() AS requests, sum(r.cost_usd) AS cost_usd, sum(r.waste_usd) AS waste_usd,
    sum(r.input_tokens) AS input_tokens,
    sum(r.cached_input_tokens) AS cached_input_tokens,
    sum(r.cache_write_5m_tokens) AS cache_write_5m_tokens,
    sum(r.cache_write_30m_tokens) AS cache_write_30m_tokens,
    sum(r.cache_write_1h_tokens) AS cache_write_1h_tokens,
    sum(r.cache_write_12h_tokens) AS cache_write_12h_tokens,
    sum(r.audio_input_tokens) AS audio_input_tokens,
    sum(r.cached_audio_input_tokens) AS cached_audio_input_tokens,
    sum(r.image_input_tokens) AS image_input_tokens,
    sum(r.cached_image_input_tokens) AS cached_image_input_tokens,
    sum(r.video_input_tokens) AS video_input_tokens,
    sum(r.output_tokens) AS output_tokens,
    sum(r.reasoning_tokens) AS reasoning_tokens,
    sum(r.audio_output_tokens) AS audio_output_tokens,
    sum(r.image_output_tokens) AS image_output_tokens,
    sum(r.video_output_tokens) AS video_output_tokens,
    sum(r.citation_tokens) AS citation_tokens,
    sum(r.web_searches) AS web_searches,
    sum(r.file_searches) AS file_searches,
    sum(r.code_executions) AS code_executions,
    sum(r.audio_input_ms) AS audio_input_ms
FROM weir.requests AS r
GROUP BY day, organisation, team, project, environment, feature, alias, provider, model, service_tier, inference_geo, unpriced_reason
COMMENT 'Every count that is billed, and the cost, by day and the dimensions of attribution but the user, by service tier, place and reason for the lack of a price: the sums of the rows of weir.requests.';
