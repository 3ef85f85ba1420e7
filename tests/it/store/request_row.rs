//! A row of `weir.requests`, with everything that a row has.

use clickhouse::Row;
use serde::Serialize;
use uuid::Uuid;
use weir_schemas::StreamId;

/// All columns that are written, in the table's order.
#[derive(Clone, Debug, Default, Row, Serialize)]
pub(super) struct RequestRow {
    #[serde(with = "clickhouse::serde::uuid")]
    pub(super) stream: Uuid,
    pub(super) seq: u64,
    pub(super) ts: i64,
    #[serde(with = "clickhouse::serde::uuid")]
    pub(super) request_id: Uuid,
    pub(super) client_request_id: String,
    pub(super) trace_id: String,
    pub(super) organisation: String,
    pub(super) team: String,
    pub(super) project: String,
    pub(super) user: String,
    pub(super) key_id: String,
    pub(super) environment: String,
    pub(super) tier: String,
    pub(super) customer: String,
    pub(super) feature: String,
    pub(super) tags: Vec<(String, String)>,
    pub(super) client_ip: String,
    pub(super) user_agent: String,
    pub(super) dialect: String,
    pub(super) alias: String,
    pub(super) streamed: bool,
    pub(super) request_bytes: u64,
    pub(super) max_output_tokens: Option<u64>,
    pub(super) status: u16,
    pub(super) stage: String,
    pub(super) error_kind: String,
    pub(super) error_message: String,
    pub(super) provider: String,
    pub(super) deployment: String,
    pub(super) model: String,
    pub(super) response_model: String,
    pub(super) region: String,
    pub(super) attempts: u16,
    pub(super) finish_reason: String,
    pub(super) response_bytes: u64,
    pub(super) input_tokens: Option<u64>,
    pub(super) cached_input_tokens: Option<u64>,
    pub(super) cache_write_5m_tokens: Option<u64>,
    pub(super) cache_write_1h_tokens: Option<u64>,
    pub(super) audio_input_tokens: Option<u64>,
    pub(super) output_tokens: Option<u64>,
    pub(super) reasoning_tokens: Option<u64>,
    pub(super) audio_output_tokens: Option<u64>,
    pub(super) usage_source: String,
    pub(super) cost_usd: Option<i128>,
    pub(super) waste_usd: Option<i128>,
    pub(super) price_version: String,
    pub(super) queue_us: u64,
    pub(super) overhead_us: u64,
    pub(super) ttft_us: Option<u64>,
    pub(super) total_us: u64,
    pub(super) strategy: String,
    pub(super) table_version: Option<u64>,
    pub(super) route_seed: Option<u64>,
    pub(super) candidates: Vec<(String, Option<f32>, f32)>,
    pub(super) cache_verdict: String,
    pub(super) guard_verdict: String,
    pub(super) limit_verdict: String,
    pub(super) service_tier: String,
    pub(super) last_resort: String,
    pub(super) cache_write_30m_tokens: Option<u64>,
    pub(super) cache_write_12h_tokens: Option<u64>,
    pub(super) cached_audio_input_tokens: Option<u64>,
    pub(super) image_input_tokens: Option<u64>,
    pub(super) cached_image_input_tokens: Option<u64>,
    pub(super) video_input_tokens: Option<u64>,
    pub(super) image_output_tokens: Option<u64>,
    pub(super) video_output_tokens: Option<u64>,
    pub(super) citation_tokens: Option<u64>,
    pub(super) web_searches: Option<u64>,
    pub(super) file_searches: Option<u64>,
    pub(super) code_executions: Option<u64>,
    pub(super) audio_input_ms: Option<u64>,
    pub(super) inference_geo: String,
    pub(super) other_models: Vec<(String, Vec<(String, u64)>)>,
    pub(super) unpriced_reason: String,
}

/// Rows of one stream, one per sequence number.
pub(super) fn requests(stream: StreamId, seqs: std::ops::Range<u64>, ts: i64) -> Vec<RequestRow> {
    seqs.map(|seq| RequestRow {
        stream: stream.as_uuid(),
        seq,
        ts,
        request_id: Uuid::from_u128(stream.as_uuid().as_u128() ^ u128::from(seq)),
        team: format!("team-{}", seq % 5),
        user: format!("user-{}", seq % 100),
        model: "gpt".to_owned(),
        tags: vec![("run".to_owned(), (seq % 10).to_string())],
        status: 200,
        input_tokens: Some(seq),
        cost_usd: Some(i128::from(seq)),
        candidates: vec![("openai/gpt".to_owned(), None, 1.0)],
        ..RequestRow::default()
    })
    .collect()
}
