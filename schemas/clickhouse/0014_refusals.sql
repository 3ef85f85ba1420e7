-- Calls without a valid key beyond the first ones, which have rows of their own in weir.requests.

CREATE TABLE IF NOT EXISTS weir.refusals
(
    stream  UUID                   COMMENT 'Stream that the event belongs to: one writer, one boot, one shard.' CODEC(ZSTD(1)),
    seq     UInt64                 COMMENT 'Position in the stream: 1, 2, 3 … without gaps.' CODEC(Delta, ZSTD(1)),
    ts      DateTime64(6, 'UTC')   COMMENT 'When the first of them arrived.' CODEC(Delta, ZSTD(1)),
    last    DateTime64(6, 'UTC')   COMMENT 'When the last of them arrived.' CODEC(Delta, ZSTD(1)),
    address String                 COMMENT 'Address that they came from; of IPv6 the network of 64 bits; other: those beyond the addresses that are counted apart.' CODEC(ZSTD(1)),
    reason  LowCardinality(String) COMMENT 'What was wrong with the key: missing, malformed, unknown, revoked, rotated, expired, admin_token.' CODEC(ZSTD(1)),
    refused UInt64                 COMMENT 'How many there were.' CODEC(T64, ZSTD(1)),
    limited UInt64                 COMMENT 'How many of them were answered 429, because there were too many from the address.' CODEC(T64, ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toDate(ts)
ORDER BY (address, ts)
SETTINGS
    non_replicated_deduplication_window = 10000,
    ttl_only_drop_parts = 1,
    materialize_ttl_recalculate_only = 1
COMMENT 'Calls without a valid key: one row per address, reason and minute.';

ALTER TABLE weir.refusals ADD CONSTRAINT IF NOT EXISTS sent_in_time CHECK throwIf(
    toUnixTimestamp64Micro(now64(6)) > ifNull(toInt64OrNull(extract(getSetting('log_comment'), '^weir-insert by ([0-9]+)')), 9223372036854775807),
    'the insert began after its deadline') = 0;
