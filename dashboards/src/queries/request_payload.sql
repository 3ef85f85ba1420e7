-- The captured payload of one request, redacted.
SELECT
    ts, capture, share, request_bytes, answer_bytes, request_omitted, answer_omitted, request_truncated, answer_truncated,
    redactions, detectors, content_hash, request, answer
FROM weir.payloads
WHERE $scope AND request_id = {request_id:UUID}
ORDER BY ts
LIMIT 1
