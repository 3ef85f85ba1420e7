-- Whose key signs what the gateways say that they wrote.

ALTER TABLE weir.streams
    ADD COLUMN IF NOT EXISTS seal_key String COMMENT 'Public key that the stream''s seals are signed with (Ed25519, hex); '''' if they are not signed.' CODEC(ZSTD(1));

ALTER TABLE weir.seals
    ADD COLUMN IF NOT EXISTS signature String COMMENT 'Signature by the stream''s key (Ed25519, hex); '''' if the stream has none.' CODEC(NONE);
