-- The captured payload of one request: replace the zeros by its x-request-id. `request` and `answer` are
-- redacted JSON; JSONExtract and `FORMAT Vertical` help to read them.
SELECT
    p.ts AS ts, p.organisation AS organisation, p.team AS team, p.user AS user, p.key_id AS key_id,
    p.dialect AS dialect, p.alias AS alias, p.status AS status, p.capture AS capture,
    p.request_bytes AS request_bytes, p.answer_bytes AS answer_bytes,
    p.request_omitted AS request_omitted, p.answer_omitted AS answer_omitted,
    p.request_truncated AS request_truncated, p.answer_truncated AS answer_truncated,
    p.redactions AS redactions, p.detectors AS detectors,
    p.request AS request, p.answer AS answer
FROM weir.payloads AS p
WHERE p.request_id = '00000000-0000-0000-0000-000000000000'
ORDER BY ts
