-- The tables that events end in.
--
-- Every statement can be run again: a runner that was killed between two of them starts over.
--
-- requests and attempts are ordered by who called, because the questions are: what did this team
-- spend, what did this user call. That order also stores each dimension of attribution in next to
-- nothing. A partition is a day: it is what retention drops, and recent time is found through it.
--
-- Text that is absent is '': one way to say so, and GROUP BY shows it. Numbers that are absent are
-- NULL, because absent is not zero.

CREATE DATABASE IF NOT EXISTS weir;

CREATE TABLE IF NOT EXISTS weir.migrations
(
    version    UInt32                 COMMENT 'Number of the migration.',
    name       String                 COMMENT 'Name of the migration.',
    checksum   String                 COMMENT 'SHA-256 of its text: an applied migration must not change.',
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When it was applied.',
    applied_by String                 COMMENT 'Version of the program that applied it.'
)
ENGINE = MergeTree
ORDER BY version
SETTINGS non_replicated_deduplication_window = 100
COMMENT 'Migrations applied to this database.';

CREATE TABLE IF NOT EXISTS weir.requests
(
    stream                UUID                                COMMENT 'Stream that the event belongs to: one writer, one boot, one shard.' CODEC(ZSTD(1)),
    seq                   UInt64                              COMMENT 'Position in the stream: 1, 2, 3 … without gaps.' CODEC(Delta, ZSTD(1)),
    ts                    DateTime64(6, 'UTC')                COMMENT 'When the request arrived.' CODEC(Delta, ZSTD(1)),
    request_id            UUID                                COMMENT 'Id of the request; equals the x-request-id header of the response.' CODEC(ZSTD(1)),
    client_request_id     String                              COMMENT 'The x-request-id that the client sent, if any.' CODEC(ZSTD(1)),
    trace_id              String                              COMMENT 'Trace id from the W3C traceparent header, if any.' CODEC(ZSTD(1)),
    organisation          LowCardinality(String)              COMMENT 'Organisation that the key belongs to.' CODEC(ZSTD(1)),
    team                  LowCardinality(String)              COMMENT 'Team that pays.' CODEC(ZSTD(1)),
    project               LowCardinality(String)              COMMENT 'Project or service of the team.' CODEC(ZSTD(1)),
    user                  LowCardinality(String)              COMMENT 'User of the key, or the one the application named.' CODEC(ZSTD(1)),
    key_id                LowCardinality(String)              COMMENT 'Virtual key that was used. The key itself is nowhere.' CODEC(ZSTD(1)),
    environment           LowCardinality(String)              COMMENT 'Environment of the key: prod, staging, dev …' CODEC(ZSTD(1)),
    tier                  LowCardinality(String)              COMMENT 'Tier of the key: free, paid, enterprise, internal.' CODEC(ZSTD(1)),
    customer              String                              COMMENT 'End customer on whose behalf the application called.' CODEC(ZSTD(1)),
    feature               LowCardinality(String)              COMMENT 'Feature of the application that called.' CODEC(ZSTD(1)),
    tags                  Map(LowCardinality(String), String) COMMENT 'Free tags of the request.' CODEC(ZSTD(1)),
    client_ip             LowCardinality(String)              COMMENT 'Address that the request came from.' CODEC(ZSTD(1)),
    user_agent            LowCardinality(String)              COMMENT 'User-Agent header, shortened.' CODEC(ZSTD(1)),
    dialect               LowCardinality(String)              COMMENT 'API that the client spoke: openai.chat, openai.embeddings …' CODEC(ZSTD(1)),
    alias                 LowCardinality(String)              COMMENT 'Model or alias that the client asked for.' CODEC(ZSTD(1)),
    streamed              Bool                                COMMENT 'Whether the client asked for a stream.' CODEC(ZSTD(1)),
    request_bytes         UInt64                              COMMENT 'Size of the request body.' CODEC(T64, ZSTD(1)),
    max_output_tokens     Nullable(UInt64)                    COMMENT 'Limit on output tokens that the client set.' CODEC(T64, ZSTD(1)),
    status                UInt16                              COMMENT 'HTTP status sent to the client; 499 if it left before there was one.' CODEC(ZSTD(1)),
    stage                 LowCardinality(String)              COMMENT 'Stage of the pipeline that ended the request early.' CODEC(ZSTD(1)),
    error_kind            LowCardinality(String)              COMMENT 'What went wrong, as a closed set of words.' CODEC(ZSTD(1)),
    error_message         String                              COMMENT 'What went wrong, in words, shortened.' CODEC(ZSTD(1)),
    provider              LowCardinality(String)              COMMENT 'Provider whose answer was delivered.' CODEC(ZSTD(1)),
    deployment            LowCardinality(String)              COMMENT 'Deployment of the model at the provider: provider/model.' CODEC(ZSTD(1)),
    model                 LowCardinality(String)              COMMENT 'Model that the provider was asked for.' CODEC(ZSTD(1)),
    response_model        LowCardinality(String)              COMMENT 'Model that the provider says it used.' CODEC(ZSTD(1)),
    region                LowCardinality(String)              COMMENT 'Region of the deployment.' CODEC(ZSTD(1)),
    attempts              UInt16                              COMMENT 'Tries made: first, retries, fallbacks and hedges.' CODEC(ZSTD(1)),
    finish_reason         LowCardinality(String)              COMMENT 'Why the model stopped.' CODEC(ZSTD(1)),
    response_bytes        UInt64                              COMMENT 'Bytes of response body handed to the client.' CODEC(T64, ZSTD(1)),
    input_tokens          Nullable(UInt64)                    COMMENT 'Input tokens, cached and cache-write ones included.' CODEC(T64, ZSTD(1)),
    cached_input_tokens   Nullable(UInt64)                    COMMENT 'Input tokens read from the provider''s prompt cache.' CODEC(T64, ZSTD(1)),
    cache_write_5m_tokens Nullable(UInt64)                    COMMENT 'Input tokens written to the prompt cache for 5 minutes.' CODEC(T64, ZSTD(1)),
    cache_write_1h_tokens Nullable(UInt64)                    COMMENT 'Input tokens written to the prompt cache for 1 hour.' CODEC(T64, ZSTD(1)),
    audio_input_tokens    Nullable(UInt64)                    COMMENT 'Input tokens that were audio.' CODEC(T64, ZSTD(1)),
    output_tokens         Nullable(UInt64)                    COMMENT 'Output tokens, reasoning ones included.' CODEC(T64, ZSTD(1)),
    reasoning_tokens      Nullable(UInt64)                    COMMENT 'Output tokens spent on reasoning.' CODEC(T64, ZSTD(1)),
    audio_output_tokens   Nullable(UInt64)                    COMMENT 'Output tokens that were audio.' CODEC(T64, ZSTD(1)),
    usage_source          LowCardinality(String)              COMMENT 'Where the token counts come from: reported, drained, estimated, none.' CODEC(ZSTD(1)),
    cost_usd              Nullable(Decimal(38, 12))           COMMENT 'What the request is charged, in USD; NULL if unpriced.' CODEC(ZSTD(1)),
    waste_usd             Nullable(Decimal(38, 12))           COMMENT 'What the tries cost whose answer was not delivered, in USD.' CODEC(ZSTD(1)),
    price_version         LowCardinality(String)              COMMENT 'Version of the price book and row that priced it.' CODEC(ZSTD(1)),
    queue_us              UInt64                              COMMENT 'Time spent waiting for admission.' CODEC(T64, ZSTD(1)),
    overhead_us           UInt64                              COMMENT 'Time spent in the gateway itself until the first byte to the provider.' CODEC(T64, ZSTD(1)),
    ttft_us               Nullable(UInt64)                    COMMENT 'Time from arrival to the first token handed to the client.' CODEC(T64, ZSTD(1)),
    ttft_ms               Nullable(Float64) ALIAS ttft_us / 1000 COMMENT 'ttft_us in milliseconds.',
    total_us              UInt64                              COMMENT 'Time from arrival to the end of the response.' CODEC(T64, ZSTD(1)),
    total_ms              Float64 ALIAS total_us / 1000       COMMENT 'total_us in milliseconds.',
    strategy              LowCardinality(String)              COMMENT 'Routing strategy that decided.' CODEC(ZSTD(1)),
    table_version         Nullable(UInt64)                    COMMENT 'Routing table that decided.' CODEC(T64, ZSTD(1)),
    route_seed            Nullable(UInt64)                    COMMENT 'Seed of the random draw that decided.' CODEC(ZSTD(1)),
    candidates            Array(Tuple(LowCardinality(String), Nullable(Float32), Float32)) COMMENT 'Deployments that routing considered: (provider/model, score, propensity).' CODEC(ZSTD(1)),
    cache_verdict         LowCardinality(String)              COMMENT 'What the response cache decided.' CODEC(ZSTD(1)),
    guard_verdict         LowCardinality(String)              COMMENT 'What the guardrails decided.' CODEC(ZSTD(1)),
    limit_verdict         LowCardinality(String)              COMMENT 'Limit or budget that refused the request, or came close.' CODEC(ZSTD(1)),

    INDEX by_request request_id TYPE bloom_filter(0.025) GRANULARITY 1,
    INDEX by_stream stream TYPE set(64) GRANULARITY 1,
    INDEX by_seq seq TYPE minmax GRANULARITY 1,
    INDEX by_user user TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX by_key key_id TYPE bloom_filter(0.01) GRANULARITY 1,

    -- Spend by day. It is written, merged and dropped together with the rows that it sums, so it
    -- cannot disagree with them. A query profits if it filters by toDate(ts) instead of ts.
    PROJECTION daily
    (
        SELECT
            toDate(ts), organisation, team, project, environment, feature, provider, model,
            count(), countIf(error_kind != ''), sum(cost_usd), sum(waste_usd),
            sum(input_tokens), sum(cached_input_tokens), sum(output_tokens), sum(reasoning_tokens)
        GROUP BY toDate(ts), organisation, team, project, environment, feature, provider, model
    )
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (organisation, team, user, ts)
SETTINGS
    non_replicated_deduplication_window = 10000,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1
COMMENT 'One row per request of a client, however it ended; refused ones too.';

CREATE TABLE IF NOT EXISTS weir.attempts
(
    stream                UUID                                COMMENT 'Stream that the event belongs to: one writer, one boot, one shard.' CODEC(ZSTD(1)),
    seq                   UInt64                              COMMENT 'Position in the stream: 1, 2, 3 … without gaps.' CODEC(Delta, ZSTD(1)),
    ts                    DateTime64(6, 'UTC')                COMMENT 'When the try began.' CODEC(Delta, ZSTD(1)),
    request_id            UUID                                COMMENT 'Request that the try belongs to.' CODEC(ZSTD(1)),
    attempt               UInt16                              COMMENT 'Number of the try within its request, from 1.' CODEC(ZSTD(1)),
    kind                  LowCardinality(String)              COMMENT 'first, retry, fallback, hedge or shadow.' CODEC(ZSTD(1)),
    cause                 LowCardinality(String)              COMMENT 'Error kind of the try before, which led to this one.' CODEC(ZSTD(1)),
    delay_us              UInt64                              COMMENT 'Pause before the try.' CODEC(T64, ZSTD(1)),
    organisation          LowCardinality(String)              COMMENT 'Organisation that the key belongs to.' CODEC(ZSTD(1)),
    team                  LowCardinality(String)              COMMENT 'Team that pays.' CODEC(ZSTD(1)),
    project               LowCardinality(String)              COMMENT 'Project or service of the team.' CODEC(ZSTD(1)),
    user                  LowCardinality(String)              COMMENT 'User of the key, or the one the application named.' CODEC(ZSTD(1)),
    key_id                LowCardinality(String)              COMMENT 'Virtual key that was used. The key itself is nowhere.' CODEC(ZSTD(1)),
    environment           LowCardinality(String)              COMMENT 'Environment of the key: prod, staging, dev …' CODEC(ZSTD(1)),
    tier                  LowCardinality(String)              COMMENT 'Tier of the key: free, paid, enterprise, internal.' CODEC(ZSTD(1)),
    customer              String                              COMMENT 'End customer on whose behalf the application called.' CODEC(ZSTD(1)),
    feature               LowCardinality(String)              COMMENT 'Feature of the application that called.' CODEC(ZSTD(1)),
    tags                  Map(LowCardinality(String), String) COMMENT 'Free tags of the request.' CODEC(ZSTD(1)),
    dialect               LowCardinality(String)              COMMENT 'API that the client spoke.' CODEC(ZSTD(1)),
    alias                 LowCardinality(String)              COMMENT 'Model or alias that the client asked for.' CODEC(ZSTD(1)),
    streamed              Bool                                COMMENT 'Whether the client asked for a stream.' CODEC(ZSTD(1)),
    provider              LowCardinality(String)              COMMENT 'Provider that was tried.' CODEC(ZSTD(1)),
    deployment            LowCardinality(String)              COMMENT 'Deployment that was tried: provider/model.' CODEC(ZSTD(1)),
    model                 LowCardinality(String)              COMMENT 'Model that the provider was asked for.' CODEC(ZSTD(1)),
    response_model        LowCardinality(String)              COMMENT 'Model that the provider says it used.' CODEC(ZSTD(1)),
    region                LowCardinality(String)              COMMENT 'Region of the deployment.' CODEC(ZSTD(1)),
    provider_key          LowCardinality(String)              COMMENT 'Which of the provider''s keys was used: its name, never the key.' CODEC(ZSTD(1)),
    status                Nullable(UInt16)                    COMMENT 'HTTP status of the provider; NULL if there was none.' CODEC(ZSTD(1)),
    error_kind            LowCardinality(String)              COMMENT 'What went wrong, as a closed set of words.' CODEC(ZSTD(1)),
    error_message         String                              COMMENT 'What went wrong, in words, shortened.' CODEC(ZSTD(1)),
    retry_after_us        Nullable(UInt64)                    COMMENT 'Pause that the provider asked for.' CODEC(T64, ZSTD(1)),
    delivered             Bool                                COMMENT 'Whether this try''s answer went to the client.' CODEC(ZSTD(1)),
    upstream_request_id   String                              COMMENT 'Request id that the provider gave.' CODEC(ZSTD(1)),
    finish_reason         LowCardinality(String)              COMMENT 'Why the model stopped.' CODEC(ZSTD(1)),
    connection_reused     Bool                                COMMENT 'Whether an idle connection was reused.' CODEC(ZSTD(1)),
    request_bytes         UInt64                              COMMENT 'Size of the body sent to the provider.' CODEC(T64, ZSTD(1)),
    response_bytes        UInt64                              COMMENT 'Bytes of body received from the provider.' CODEC(T64, ZSTD(1)),
    input_tokens          Nullable(UInt64)                    COMMENT 'Input tokens, cached and cache-write ones included.' CODEC(T64, ZSTD(1)),
    cached_input_tokens   Nullable(UInt64)                    COMMENT 'Input tokens read from the provider''s prompt cache.' CODEC(T64, ZSTD(1)),
    cache_write_5m_tokens Nullable(UInt64)                    COMMENT 'Input tokens written to the prompt cache for 5 minutes.' CODEC(T64, ZSTD(1)),
    cache_write_1h_tokens Nullable(UInt64)                    COMMENT 'Input tokens written to the prompt cache for 1 hour.' CODEC(T64, ZSTD(1)),
    audio_input_tokens    Nullable(UInt64)                    COMMENT 'Input tokens that were audio.' CODEC(T64, ZSTD(1)),
    output_tokens         Nullable(UInt64)                    COMMENT 'Output tokens, reasoning ones included.' CODEC(T64, ZSTD(1)),
    reasoning_tokens      Nullable(UInt64)                    COMMENT 'Output tokens spent on reasoning.' CODEC(T64, ZSTD(1)),
    audio_output_tokens   Nullable(UInt64)                    COMMENT 'Output tokens that were audio.' CODEC(T64, ZSTD(1)),
    usage_source          LowCardinality(String)              COMMENT 'Where the token counts come from: reported, drained, estimated, none.' CODEC(ZSTD(1)),
    cost_usd              Nullable(Decimal(38, 12))           COMMENT 'What the try cost, in USD; NULL if unpriced.' CODEC(ZSTD(1)),
    price_version         LowCardinality(String)              COMMENT 'Version of the price book and row that priced it.' CODEC(ZSTD(1)),
    connect_us            Nullable(UInt64)                    COMMENT 'Time to connect; NULL if a connection was reused.' CODEC(T64, ZSTD(1)),
    headers_us            Nullable(UInt64)                    COMMENT 'Time from the start of the try to the response headers.' CODEC(T64, ZSTD(1)),
    ttft_us               Nullable(UInt64)                    COMMENT 'Time from the start of the try to the first token.' CODEC(T64, ZSTD(1)),
    ttft_ms               Nullable(Float64) ALIAS ttft_us / 1000 COMMENT 'ttft_us in milliseconds.',
    total_us              UInt64                              COMMENT 'Time from the start of the try to its end.' CODEC(T64, ZSTD(1)),
    total_ms              Float64 ALIAS total_us / 1000       COMMENT 'total_us in milliseconds.',
    strategy              LowCardinality(String)              COMMENT 'Routing strategy that decided.' CODEC(ZSTD(1)),
    table_version         Nullable(UInt64)                    COMMENT 'Routing table that decided.' CODEC(T64, ZSTD(1)),
    propensity            Nullable(Float32)                   COMMENT 'Probability with which this deployment was chosen for this try.' CODEC(ZSTD(1)),

    INDEX by_request request_id TYPE bloom_filter(0.025) GRANULARITY 1,
    INDEX by_stream stream TYPE set(64) GRANULARITY 1,
    INDEX by_seq seq TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (deployment, ts)
SETTINGS
    non_replicated_deduplication_window = 10000,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1
COMMENT 'One row per try at a deployment: first, retry, fallback, hedge or shadow.';

CREATE TABLE IF NOT EXISTS weir.control_changes
(
    stream      UUID                   COMMENT 'Stream that the event belongs to: one writer, one boot, one shard.',
    seq         UInt64                 COMMENT 'Position in the stream: 1, 2, 3 … without gaps.',
    ts          DateTime64(6, 'UTC')   COMMENT 'When the change was made.',
    change_id   UUID                   COMMENT 'Id of the change.',
    actor       LowCardinality(String) COMMENT 'Who made the change.',
    action      LowCardinality(String) COMMENT 'What was done: create, revoke, rotate, update, delete.',
    object_kind LowCardinality(String) COMMENT 'What was changed: key, team, budget, limit, table.',
    object_id   String                 COMMENT 'Id of what was changed.',
    before      String                 COMMENT 'State before, as JSON without secrets; empty if it did not exist.' CODEC(ZSTD(1)),
    after       String                 COMMENT 'State after, as JSON without secrets; empty if it is gone.' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toStartOfYear(ts)
ORDER BY (object_kind, object_id, ts)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Changes of keys, teams, budgets, limits and tables, and who made them. Kept for good.';

CREATE TABLE IF NOT EXISTS weir.streams
(
    stream     UUID                          COMMENT 'Stream that the event belongs to: one writer, one boot, one shard.',
    seq        UInt64                        COMMENT 'Position in the stream: 1, 2, 3 … without gaps.',
    ts         DateTime64(6, 'UTC')          COMMENT 'When it happened.',
    event      LowCardinality(String)        COMMENT 'opened: first event of a stream. closed: last one. dropped: events were not written, because the journal was full.',
    instance   LowCardinality(String)        COMMENT 'opened: name of the process''s installation: host name, or the configured one.',
    process    LowCardinality(String)        COMMENT 'opened: program that writes: gateway, cli.',
    shard      Nullable(UInt32)              COMMENT 'opened: number of the stream within its process.',
    version    LowCardinality(String)        COMMENT 'opened: version of the program.',
    reason     LowCardinality(String)        COMMENT 'closed: shutdown, or recovered if the writer died and a later process closed it. dropped: journal_full.',
    torn_bytes Nullable(UInt64)              COMMENT 'closed: bytes of an unfinished event that were cut off at recovery.',
    events     Nullable(UInt64)              COMMENT 'dropped: how many events were dropped.',
    since      Nullable(DateTime64(6, 'UTC')) COMMENT 'dropped: when the first of them was dropped.'
)
ENGINE = MergeTree
PARTITION BY toStartOfYear(ts)
ORDER BY (stream, seq)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'When streams were opened and closed, and what they say is missing from them. Kept for good: the proof of completeness starts here.';

CREATE TABLE IF NOT EXISTS weir.dead_letters
(
    ts       DateTime64(6, 'UTC')   COMMENT 'When the ingestor gave the record up.',
    source   LowCardinality(String) COMMENT 'Where the record was read: journal or kafka.',
    location String                 COMMENT 'journal: path of the segment. kafka: topic and partition, as topic/partition.',
    position UInt64                 COMMENT 'journal: byte offset in the segment. kafka: offset in the partition.',
    stream   Nullable(UUID)         COMMENT 'Stream that the event belongs to, if it could be read.',
    seq      Nullable(UInt64)       COMMENT 'Position in the stream, if it could be read.',
    reason   String                 COMMENT 'Why the record could not be stored.' CODEC(ZSTD(1)),
    payload  String                 COMMENT 'The record as it was read, byte for byte.' CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (source, location, position)
SETTINGS
    non_replicated_deduplication_window = 10000,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1
COMMENT 'Records that could not become rows, with where they stood and why.';
