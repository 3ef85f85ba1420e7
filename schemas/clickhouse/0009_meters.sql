-- What was consumed, by everything that providers bill apart, and why a call has no price.
--
-- Counts of input tokens are parts of input_tokens, and those of output tokens of output_tokens. Cached
-- audio and cached images are parts of two counts. Searches, executions and milliseconds stand alone.

ALTER TABLE weir.requests
    ADD COLUMN IF NOT EXISTS cache_write_30m_tokens    Nullable(UInt64) COMMENT 'Input tokens written to the prompt cache for 30 minutes.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cache_write_12h_tokens    Nullable(UInt64) COMMENT 'Input tokens written to the prompt cache for 12 hours.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cached_audio_input_tokens Nullable(UInt64) COMMENT 'Input tokens that were audio and read from the prompt cache; both counts include them.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS image_input_tokens        Nullable(UInt64) COMMENT 'Input tokens that were images.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cached_image_input_tokens Nullable(UInt64) COMMENT 'Input tokens that were images and read from the prompt cache; both counts include them.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS video_input_tokens        Nullable(UInt64) COMMENT 'Input tokens that were video.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS image_output_tokens       Nullable(UInt64) COMMENT 'Output tokens that were images.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS video_output_tokens       Nullable(UInt64) COMMENT 'Output tokens that were video.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS citation_tokens           Nullable(UInt64) COMMENT 'Output tokens that were citations.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS web_searches              Nullable(UInt64) COMMENT 'Web searches that ran at the provider.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS file_searches             Nullable(UInt64) COMMENT 'Searches of files that ran at the provider.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS code_executions           Nullable(UInt64) COMMENT 'Executions of code that ran at the provider.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS audio_input_ms            Nullable(UInt64) COMMENT 'Milliseconds of audio input, where the provider bills by duration.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS inference_geo             LowCardinality(String) COMMENT 'Where the provider says the model ran, if that has a price of its own; '''' if it named no place.' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS other_models              Map(LowCardinality(String), Map(LowCardinality(String), UInt64)) COMMENT 'What was consumed at other models within the same call, by model and column of this table; those columns do not include it.' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS unpriced_reason           LowCardinality(String) COMMENT 'Why cost_usd is NULL; '''' if it is not.' CODEC(ZSTD(1));

ALTER TABLE weir.attempts
    ADD COLUMN IF NOT EXISTS cache_write_30m_tokens    Nullable(UInt64) COMMENT 'Input tokens written to the prompt cache for 30 minutes.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cache_write_12h_tokens    Nullable(UInt64) COMMENT 'Input tokens written to the prompt cache for 12 hours.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cached_audio_input_tokens Nullable(UInt64) COMMENT 'Input tokens that were audio and read from the prompt cache; both counts include them.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS image_input_tokens        Nullable(UInt64) COMMENT 'Input tokens that were images.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS cached_image_input_tokens Nullable(UInt64) COMMENT 'Input tokens that were images and read from the prompt cache; both counts include them.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS video_input_tokens        Nullable(UInt64) COMMENT 'Input tokens that were video.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS image_output_tokens       Nullable(UInt64) COMMENT 'Output tokens that were images.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS video_output_tokens       Nullable(UInt64) COMMENT 'Output tokens that were video.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS citation_tokens           Nullable(UInt64) COMMENT 'Output tokens that were citations.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS web_searches              Nullable(UInt64) COMMENT 'Web searches that ran at the provider.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS file_searches             Nullable(UInt64) COMMENT 'Searches of files that ran at the provider.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS code_executions           Nullable(UInt64) COMMENT 'Executions of code that ran at the provider.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS audio_input_ms            Nullable(UInt64) COMMENT 'Milliseconds of audio input, where the provider bills by duration.' CODEC(T64, ZSTD(1)),
    ADD COLUMN IF NOT EXISTS inference_geo             LowCardinality(String) COMMENT 'Where the provider says the model ran, if that has a price of its own; '''' if it named no place.' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS other_models              Map(LowCardinality(String), Map(LowCardinality(String), UInt64)) COMMENT 'What was consumed at other models within the same call, by model and column of this table; those columns do not include it.' CODEC(ZSTD(1)),
    ADD COLUMN IF NOT EXISTS unpriced_reason           LowCardinality(String) COMMENT 'Why cost_usd is NULL; '''' if it is not.' CODEC(ZSTD(1));

ALTER TABLE weir.corrections
    ADD COLUMN IF NOT EXISTS unpriced_reason LowCardinality(String) COMMENT 'Why cost_usd is NULL; '''' if it is not.' CODEC(ZSTD(1));
