-- Rows that are stored twice go.
--
-- Up to here, an ingestor looked for what it had stored from the day before a stream's birth on. What was
-- written by a clock that had been set back further it did not find, and stored again and again. With this
-- migration the program deletes the copies, in the days that have some
-- (ingestor/store/src/doubles.rs). The rollups are made anew with their rows.

ALTER TABLE weir.requests MODIFY SETTING deduplicate_merge_projection_mode = 'rebuild';
