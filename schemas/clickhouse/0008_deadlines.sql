-- A time by which an insert must have begun.
--
-- What an ingestor inserts rests on what the tables said they had. If it is stopped before it sends,
-- another one may have stored the same rows meanwhile, and so long ago that the insert's deduplication
-- token is forgotten. So the statement carries a time in its log_comment, `weir-insert by
-- 1700000000000000` (microseconds since 1970, by the clock of the store), and is refused afterwards,
-- by whoever keeps that clock. An insert without such a comment has no deadline.

ALTER TABLE weir.requests ADD CONSTRAINT IF NOT EXISTS sent_in_time CHECK throwIf(
    toUnixTimestamp64Micro(now64(6)) > ifNull(toInt64OrNull(extract(getSetting('log_comment'), '^weir-insert by ([0-9]+)')), 9223372036854775807),
    'the insert began after its deadline') = 0;

ALTER TABLE weir.attempts ADD CONSTRAINT IF NOT EXISTS sent_in_time CHECK throwIf(
    toUnixTimestamp64Micro(now64(6)) > ifNull(toInt64OrNull(extract(getSetting('log_comment'), '^weir-insert by ([0-9]+)')), 9223372036854775807),
    'the insert began after its deadline') = 0;

ALTER TABLE weir.control_changes ADD CONSTRAINT IF NOT EXISTS sent_in_time CHECK throwIf(
    toUnixTimestamp64Micro(now64(6)) > ifNull(toInt64OrNull(extract(getSetting('log_comment'), '^weir-insert by ([0-9]+)')), 9223372036854775807),
    'the insert began after its deadline') = 0;

ALTER TABLE weir.streams ADD CONSTRAINT IF NOT EXISTS sent_in_time CHECK throwIf(
    toUnixTimestamp64Micro(now64(6)) > ifNull(toInt64OrNull(extract(getSetting('log_comment'), '^weir-insert by ([0-9]+)')), 9223372036854775807),
    'the insert began after its deadline') = 0;

ALTER TABLE weir.deployment_states ADD CONSTRAINT IF NOT EXISTS sent_in_time CHECK throwIf(
    toUnixTimestamp64Micro(now64(6)) > ifNull(toInt64OrNull(extract(getSetting('log_comment'), '^weir-insert by ([0-9]+)')), 9223372036854775807),
    'the insert began after its deadline') = 0;

ALTER TABLE weir.routing_tables ADD CONSTRAINT IF NOT EXISTS sent_in_time CHECK throwIf(
    toUnixTimestamp64Micro(now64(6)) > ifNull(toInt64OrNull(extract(getSetting('log_comment'), '^weir-insert by ([0-9]+)')), 9223372036854775807),
    'the insert began after its deadline') = 0;

ALTER TABLE weir.corrections ADD CONSTRAINT IF NOT EXISTS sent_in_time CHECK throwIf(
    toUnixTimestamp64Micro(now64(6)) > ifNull(toInt64OrNull(extract(getSetting('log_comment'), '^weir-insert by ([0-9]+)')), 9223372036854775807),
    'the insert began after its deadline') = 0;
