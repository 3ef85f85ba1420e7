-- What the gateways say that they wrote.
--
-- About once a second the writer of a stream hashes the rows that its events become, and writes the
-- hashes into the stream. Whoever changes a row afterwards, in the log, on the way or in the tables,
-- makes it differ from its seal.

CREATE TABLE IF NOT EXISTS weir.seals
(
    stream       UUID                COMMENT 'Stream that the event belongs to: one writer, one boot, one shard.' CODEC(ZSTD(1)),
    seq          UInt64              COMMENT 'Position in the stream: 1, 2, 3 … without gaps.' CODEC(Delta, ZSTD(1)),
    ts           DateTime64(6, 'UTC') COMMENT 'When the seal was made.' CODEC(Delta, ZSTD(1)),
    version      UInt8               COMMENT 'Which columns of the rows are hashed: a later version has those that a later program added.' CODEC(ZSTD(1)),
    first_seq    UInt64              COMMENT 'First event under the seal.' CODEC(Delta, ZSTD(1)),
    last_seq     UInt64              COMMENT 'Last event under the seal.' CODEC(Delta, ZSTD(1)),
    chain        String              COMMENT 'The stream''s hash chain after that event (SHA-256, hex).' CODEC(ZSTD(1)),
    fingerprints Array(UInt64)       COMMENT 'First eight bytes of each event''s hash, by seq. They name the event that was changed.' CODEC(NONE)
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (stream, seq)
SETTINGS
    non_replicated_deduplication_window = 10000,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1
COMMENT 'Seals of the gateways: one row per stream and second in which it wrote.';

-- As 0008_deadlines.sql does with the other tables of events.
ALTER TABLE weir.seals ADD CONSTRAINT IF NOT EXISTS sent_in_time CHECK throwIf(
    toUnixTimestamp64Micro(now64(6)) > ifNull(toInt64OrNull(extract(getSetting('log_comment'), '^weir-insert by ([0-9]+)')), 9223372036854775807),
    'the insert began after its deadline') = 0;
