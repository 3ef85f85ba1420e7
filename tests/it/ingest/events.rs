//! Events with known figures, in a journal.

use std::path::Path;

use weir_eventlog::{Journal, JournalOptions, StreamWriter};
use weir_ingestor::CHAINING;
use weir_schemas::event::{AttemptFinished, Caller, Event, RequestFinished, Tags};
use weir_schemas::{PicoUsd, RequestId, StreamId, Usage};

/// Requests come this far apart, so that a few thousand of them fall into several days.
const PACE_US: u64 = 40_000_000;

pub(super) const TEAMS: [&str; 3] = ["growth", "research", "support"];

pub(super) fn open_journal(dir: &Path) -> Journal {
    Journal::open(JournalOptions {
        segment_bytes: 256 << 10,
        total_bytes_max: 4 << 30,
        ..JournalOptions::new(dir)
    })
    .unwrap()
}

/// The same, sealed as a gateway's.
pub(super) fn open_sealed_journal(dir: &Path) -> Journal {
    Journal::open(JournalOptions {
        chaining: Some(CHAINING),
        ..JournalOptions::new(dir)
    })
    .unwrap()
}

/// Appends requests with their attempts, numbered from `from`, and returns their cost.
pub(crate) fn write(writer: &StreamWriter, from: u64, count: u64) -> i64 {
    write_since(writer, from, count, born_us(writer.id()))
}

/// The same, by a clock that showed `since_us` when the first of all was written.
pub(super) fn write_since(writer: &StreamWriter, from: u64, count: u64, since_us: u64) -> i64 {
    write_at(writer, from, count, |number| since_us + number * PACE_US)
}

/// The same, each at a time of its own.
pub(super) fn write_at(
    writer: &StreamWriter,
    from: u64,
    count: u64,
    ts_us: impl Fn(u64) -> u64,
) -> i64 {
    let mut cost = 0;
    for number in from..from + count {
        let request = request(number, ts_us(number));
        cost += request.cost_pico_usd.map_or(0, |PicoUsd(pico)| pico);
        let attempt = attempt(&request);
        let events = [
            Event::AttemptFinished(Box::new(attempt)),
            Event::RequestFinished(Box::new(request)),
        ];
        assert_eq!(writer.append(&events).unwrap().dropped, 0);
    }
    cost
}

/// When a stream was opened.
pub(super) fn born_us(stream: StreamId) -> u64 {
    let ms = stream.as_bytes()[..6].iter();
    ms.fold(0, |ms, byte| ms << 8 | u64::from(*byte)) * 1000
}

fn usage(number: u64) -> Usage {
    Usage {
        input_tokens: Some(100 + number % 1000),
        cached_input_tokens: (number.is_multiple_of(4)).then_some(50),
        output_tokens: Some(10 + number % 300),
        ..Usage::default()
    }
}

fn caller(number: u64) -> Caller<'static> {
    let team = usize::try_from(number % 3).unwrap();
    Caller {
        organisation: Some("acme"),
        team: Some(TEAMS[team]),
        project: Some("assistant"),
        user: Some(["ana", "ben", "cleo", "dan"][usize::try_from(number % 4).unwrap()]),
        key_id: Some("key-1"),
        environment: Some("prod"),
        tier: Some("paid"),
        feature: Some("onboarding"),
        tags: Tags(vec![("run", "7")]),
        ..Caller::default()
    }
}

/// One request in five hundred fails, one in seven has no price.
fn request(number: u64, ts_us: u64) -> RequestFinished<'static> {
    let fails = number % 500 == 499;
    let cost = i64::try_from(number).unwrap() * 1_000_003 + 7;
    RequestFinished {
        ts_us: ts_us.into(),
        request_id: RequestId::new(ts_us / 1000, [7; 10]),
        client_request_id: None,
        trace_id: None,
        caller: caller(number),
        client_ip: Some("10.0.0.7"),
        user_agent: Some("openai-python/3"),
        dialect: "openai.chat",
        alias: Some("fast-chat"),
        streamed: number.is_multiple_of(2),
        request_bytes: 900.into(),
        max_output_tokens: Some(512.into()),
        status: if fails { 502 } else { 200 },
        stage: fails.then_some("attempt"),
        error_kind: fails.then_some("server_error"),
        error_message: None,
        provider: Some("openai"),
        deployment: Some("openai/small"),
        model: Some("small"),
        response_model: Some("small-1"),
        region: None,
        attempts: 1,
        finish_reason: Some("stop"),
        response_bytes: 1200.into(),
        usage: usage(number),
        usage_source: "reported",
        cost_pico_usd: (!number.is_multiple_of(7)).then_some(PicoUsd(cost)),
        waste_pico_usd: Some(PicoUsd(0)),
        price_version: Some("test"),
        queue_us: 3.into(),
        overhead_us: 120.into(),
        ttft_us: Some((200_000 + number).into()),
        total_us: (900_000 + number).into(),
        strategy: Some("chain"),
        table_version: None,
        route_seed: None,
        candidates: Vec::new(),
        cache_verdict: None,
        guard_verdict: None,
        limit_verdict: None,
        service_tier: Some("standard"),
        last_resort: None,
        inference_geo: None,
        other_models: Vec::new(),
        unpriced_reason: number
            .is_multiple_of(7)
            .then_some("no row of the price book applies"),
    }
}

fn attempt(request: &RequestFinished<'static>) -> AttemptFinished<'static> {
    AttemptFinished {
        ts_us: request.ts_us,
        request_id: request.request_id,
        attempt: 1,
        kind: "first",
        cause: None,
        delay_us: 0.into(),
        caller: request.caller.clone(),
        dialect: request.dialect,
        alias: request.alias,
        streamed: request.streamed,
        provider: "openai",
        deployment: "openai/small",
        model: "small",
        response_model: request.response_model,
        region: None,
        provider_key: Some("key 1"),
        status: Some(request.status),
        error_kind: request.error_kind,
        error_message: None,
        retry_after_us: None,
        delivered: true,
        upstream_request_id: None,
        finish_reason: request.finish_reason,
        connection_reused: true,
        request_bytes: request.request_bytes,
        response_bytes: request.response_bytes,
        usage: request.usage,
        usage_source: request.usage_source,
        cost_pico_usd: request.cost_pico_usd,
        price_version: request.price_version,
        connect_us: None,
        headers_us: Some(100_000.into()),
        ttft_us: request.ttft_us,
        total_us: request.total_us,
        strategy: request.strategy,
        table_version: None,
        propensity: Some(1.0),
        service_tier: Some("standard"),
        inference_geo: None,
        other_models: Vec::new(),
        unpriced_reason: request.unpriced_reason,
    }
}
