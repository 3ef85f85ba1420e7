//! What the journal costs: an append on the request path, and reading it back.
//!
//! `append_one` and `append_two` include the encoding; `encode_one` is the encoding alone.

use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use weir_eventlog::{
    BatchLimits, Journal, JournalOptions, JournalReader, SourceBatch, StreamWriter,
};
use weir_schemas::codec::Encoder;
use weir_schemas::event::{AttemptFinished, Caller, Event, Tags};
use weir_schemas::{EventId, RequestId, StreamId, Usage};

/// An event as a gateway writes it for every try.
fn attempt() -> Event<'static> {
    Event::AttemptFinished(Box::new(AttemptFinished {
        ts_us: 1_700_000_000_000_000.into(),
        request_id: RequestId::from_bytes([7; 16]),
        attempt: 1,
        kind: "first",
        cause: None,
        delay_us: 0.into(),
        caller: Caller {
            organisation: Some("acme"),
            team: Some("growth"),
            project: Some("onboarding"),
            user: Some("ada@example.com"),
            key_id: Some("key_01HZX2V6"),
            environment: Some("prod"),
            tags: Tags(vec![("feature", "welcome-mail"), ("release", "2026-11")]),
            ..Caller::default()
        },
        dialect: "openai.chat",
        alias: Some("fast-chat"),
        streamed: true,
        provider: "openai",
        deployment: "openai/gpt-4o-mini",
        model: "gpt-4o-mini",
        response_model: Some("gpt-4o-mini-2024-07-18"),
        region: None,
        provider_key: Some("default"),
        status: Some(200),
        error_kind: None,
        error_message: None,
        retry_after_us: None,
        delivered: true,
        upstream_request_id: Some("req_8f2c9a7e5b"),
        finish_reason: Some("stop"),
        connection_reused: true,
        request_bytes: 1834.into(),
        response_bytes: 9120.into(),
        usage: Usage {
            input_tokens: Some(412),
            output_tokens: Some(178),
            ..Usage::default()
        },
        usage_source: "reported",
        cost_pico_usd: None,
        price_version: None,
        connect_us: None,
        headers_us: Some(310_000.into()),
        ttft_us: Some(412_000.into()),
        total_us: 2_310_000.into(),
        strategy: Some("chain"),
        table_version: Some(42.into()),
        propensity: Some(1.0),
        service_tier: None,
        inference_geo: None,
        other_models: Vec::new(),
        unpriced_reason: None,
    }))
}

#[expect(clippy::expect_used, reason = "a benchmark has no one to report to")]
fn journal() -> (tempfile::TempDir, StreamWriter) {
    let dir = tempfile::tempdir().expect("make a directory");
    let options = JournalOptions {
        total_bytes_max: 1 << 40,
        ..JournalOptions::new(dir.path())
    };
    let journal = Journal::open(options).expect("open the journal");
    let writer = journal.open_stream(0).expect("open a stream");
    (dir, writer)
}

#[expect(clippy::expect_used, reason = "a benchmark has no one to report to")]
fn append(c: &mut Criterion) {
    let mut encoder = Encoder::default();
    let mut encoded = Vec::new();
    let event = attempt();
    let id = EventId {
        stream: StreamId::from_bytes([0; 16]),
        seq: 7,
    };
    c.bench_function("encode_one", |b| {
        b.iter(|| {
            encoded.clear();
            encoder.encode(id, &event, &mut encoded);
        });
    });

    let (_dir, writer) = journal();
    let one = [attempt()];
    c.bench_function("append_one", |b| {
        b.iter(|| writer.append(&one).expect("append"));
    });
    let two = [attempt(), attempt()];
    c.bench_function("append_two", |b| {
        b.iter(|| writer.append(&two).expect("append"));
    });
}

const BATCH: BatchLimits = BatchLimits {
    records_max: 100_000,
    bytes_max: 16 << 20,
    wait_max: Duration::ZERO,
};

/// Reads a backlog to its end, in batches, and commits each.
#[expect(clippy::expect_used, reason = "a benchmark has no one to report to")]
fn drain(mut reader: JournalReader) -> u64 {
    loop {
        let mut batch = SourceBatch::default();
        reader
            .fill(&mut batch, &BATCH, Instant::now())
            .expect("read");
        if batch.is_empty() {
            return reader.stats().records;
        }
        reader.seal(&batch);
        reader.commit(&batch).expect("commit");
    }
}

#[expect(clippy::expect_used, reason = "a benchmark has no one to report to")]
fn read(c: &mut Criterion) {
    const EVENTS: u64 = 200_000;
    let mut group = c.benchmark_group("read");
    group
        .throughput(Throughput::Elements(EVENTS))
        .sample_size(10);
    group.bench_function("drain", |b| {
        let backlog = || {
            let (dir, writer) = journal();
            let event = [attempt()];
            for _ in 0..EVENTS - 2 {
                let _ = writer.append(&event).expect("append");
            }
            writer.close().expect("close");
            let reader = JournalReader::open(dir.path()).expect("open the reader");
            (dir, reader)
        };
        b.iter_batched(
            backlog,
            |(dir, reader)| {
                assert_eq!(drain(reader), EVENTS);
                dir
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, append, read);
criterion_main!(benches);
