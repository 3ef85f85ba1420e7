-- What a call was served with, and that routing had nothing better left.

ALTER TABLE weir.requests
    ADD COLUMN IF NOT EXISTS service_tier LowCardinality(String) COMMENT 'Service tier that the provider says it served the answer with; '''' if it named none.' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS last_resort  LowCardinality(String) COMMENT 'Why the target that was tried first was only a last resort: ejected, over_limit, too_small …; '''' if it was none.' CODEC(ZSTD(1));

ALTER TABLE weir.attempts
    ADD COLUMN IF NOT EXISTS service_tier LowCardinality(String) COMMENT 'Service tier that the provider says it served; '''' if it named none.' CODEC(ZSTD(1));
