-- What clients sent and got, where a rule keeps it. A row says that there was something and what its
-- hash is, and lives as long as the request's; its texts have a retention of their own, after which
-- they are '' and the rest of the row still proves what `weir audit verify` seals.

CREATE TABLE IF NOT EXISTS weir.payloads
(
    stream            UUID                                COMMENT 'Stream that the event belongs to: one writer, one boot, one shard.' CODEC(ZSTD(1)),
    seq               UInt64                              COMMENT 'Position in the stream: 1, 2, 3 … without gaps.' CODEC(Delta, ZSTD(1)),
    ts                DateTime64(6, 'UTC')                COMMENT 'When the request arrived.' CODEC(Delta, ZSTD(1)),
    request_id        UUID                                COMMENT 'Request whose payload it is.' CODEC(ZSTD(1)),
    organisation      LowCardinality(String)              COMMENT 'Organisation that the key belongs to.' CODEC(ZSTD(1)),
    team              LowCardinality(String)              COMMENT 'Team that pays.' CODEC(ZSTD(1)),
    project           LowCardinality(String)              COMMENT 'Project or service of the team.' CODEC(ZSTD(1)),
    user              LowCardinality(String)              COMMENT 'User of the key, or the one the application named.' CODEC(ZSTD(1)),
    key_id            LowCardinality(String)              COMMENT 'Virtual key that was used. The key itself is nowhere.' CODEC(ZSTD(1)),
    environment       LowCardinality(String)              COMMENT 'Environment of the key: prod, staging, dev …' CODEC(ZSTD(1)),
    tier              LowCardinality(String)              COMMENT 'Tier of the key: free, paid, enterprise, internal.' CODEC(ZSTD(1)),
    customer          String                              COMMENT 'End customer on whose behalf the application called.' CODEC(ZSTD(1)),
    feature           LowCardinality(String)              COMMENT 'Feature of the application that called.' CODEC(ZSTD(1)),
    tags              Map(LowCardinality(String), String) COMMENT 'Free tags of the request.' CODEC(ZSTD(1)),
    dialect           LowCardinality(String)              COMMENT 'API that the client spoke: openai.chat, openai.embeddings …' CODEC(ZSTD(1)),
    alias             LowCardinality(String)              COMMENT 'Model or alias that the client asked for.' CODEC(ZSTD(1)),
    streamed          Bool                                COMMENT 'Whether the client asked for a stream.' CODEC(ZSTD(1)),
    status            UInt16                              COMMENT 'HTTP status sent to the client; 499 if it left before there was one.' CODEC(ZSTD(1)),
    capture           LowCardinality(String)              COMMENT 'What is kept by the rule that held: metadata, sampled or full.' CODEC(ZSTD(1)),
    share             Float32                             COMMENT 'Share of the requests that are kept by the rule that held.' CODEC(ZSTD(1)),
    request_bytes     UInt64                              COMMENT 'Size of the request body.' CODEC(T64, ZSTD(1)),
    answer_bytes      UInt64                              COMMENT 'Bytes of response body handed to the client.' CODEC(T64, ZSTD(1)),
    request_omitted   LowCardinality(String)              COMMENT 'Why the request body is left out: unreadable, too_large, busy; '''' if it is not.' CODEC(ZSTD(1)),
    answer_omitted    LowCardinality(String)              COMMENT 'Why the answer is left out: unreadable, too_large, busy, none; '''' if it is not.' CODEC(ZSTD(1)),
    request_truncated Bool                                COMMENT 'Whether texts of the request were shortened to fit.' CODEC(ZSTD(1)),
    answer_truncated  Bool                                COMMENT 'Whether texts of the answer were shortened to fit, or the answer was cut.' CODEC(ZSTD(1)),
    redactions        UInt64                              COMMENT 'Secrets and matches of patterns that were taken out.' CODEC(T64, ZSTD(1)),
    detectors         Array(LowCardinality(String))       COMMENT 'What found them.' CODEC(ZSTD(1)),
    content_hash      String                              COMMENT 'SHA-256 of salt, size and texts of request and answer, as sealed: lower(hex(SHA256(concat(toString(salt), '':'', toString(length(request)), '':'', request, answer)))).' CODEC(ZSTD(1)),
    salt              UUID                                COMMENT 'Keeps what was stored from being guessed from its hash; erased with it.' CODEC(NONE),
    request           String                              COMMENT 'Request body, redacted, as JSON; with metadata its structure without text; '''' if it is left out or erased.' CODEC(ZSTD(3)),
    answer            String                              COMMENT 'Answer, put together and redacted, as JSON; with metadata its structure without text; '''' if it is left out or erased.' CODEC(ZSTD(3)),

    -- What finds one request, and a stretch of a stream.
    INDEX by_request request_id TYPE bloom_filter(0.025) GRANULARITY 1,
    INDEX by_stream stream TYPE set(64) GRANULARITY 1,
    INDEX by_seq seq TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (organisation, team, user, ts)
SETTINGS
    non_replicated_deduplication_window = 10000,
    -- Texts go before rows: with 1, a part would keep them for as long as its rows.
    ttl_only_drop_parts = 0,
    materialize_ttl_recalculate_only = 1
COMMENT 'One row per request whose payload was captured: what the client sent and got, redacted.';

-- As 0008_deadlines.sql does with the other tables of events.
ALTER TABLE weir.payloads ADD CONSTRAINT IF NOT EXISTS sent_in_time CHECK throwIf(
    toUnixTimestamp64Micro(now64(6)) > ifNull(toInt64OrNull(extract(getSetting('log_comment'), '^weir-insert by ([0-9]+)')), 9223372036854775807),
    'the insert began after its deadline') = 0;
