//! What a request and a chunk cost. `cargo bench -p weir-dialects`

#![expect(
    clippy::expect_used,
    reason = "a benchmark whose input is wrong should stop"
)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use http::HeaderMap;
use weir_dialects::{
    ClientApi, ClientRequest, Exchange, ResponseMachine, Target, inspect, prepare, vendors,
};

const KIB: usize = 1024;

/// A chat request with about 1 KiB of messages.
fn chat_request(stream: bool) -> Bytes {
    let text = "The river is let through and measured exactly. ".repeat(KIB / 47);
    format!(
        r#"{{"model":"fast-chat","stream":{stream},"temperature":0.7,"max_tokens":256,"messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{text}"}}]}}"#
    )
    .into()
}

fn exchange(stream: bool) -> Exchange {
    prepared(&chat_request(stream)).exchange
}

fn prepared(body: &Bytes) -> weir_dialects::UpstreamRequest {
    let facts = inspect(ClientApi::ChatCompletions, body).expect("the request is good");
    let headers = HeaderMap::new();
    let api = ClientApi::ChatCompletions;
    let request = ClientRequest {
        api,
        headers: &headers,
        query: None,
        body,
        facts: &facts,
        request_id: "r1",
        now_s: 0,
    };
    let vendor = vendors::find("openai").expect("the row exists");
    prepare(&request, &Target::new(vendor, "gpt-4o-mini-2024-07-18")).expect("prepares")
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request/passthrough");
    for (name, stream) in [("plain", false), ("stream", true)] {
        let body = chat_request(stream);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| b.iter(|| prepared(black_box(&body))));
    }
    group.finish();
}

const CHUNK: &str = "data: {\"id\":\"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG\",\"object\":\"chat.completion.chunk\",\"created\":1741570283,\"model\":\"gpt-4o-2024-08-06\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" river\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"x1Qe\"}\n\n";

fn chunks(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunk/passthrough");
    let exchange = exchange(true);
    for (name, chunk) in [
        ("whole event", Bytes::from_static(CHUNK.as_bytes())),
        ("8 events", Bytes::from(CHUNK.repeat(8))),
    ] {
        let mut machine = ResponseMachine::new(&exchange, true);
        group.bench_function(name, |b| b.iter(|| machine.push(black_box(chunk.clone()))));
    }
    let mut machine = ResponseMachine::new(&exchange, true);
    let (a, b) = CHUNK.split_at(150);
    let (head, tail) = (
        Bytes::from_static(a.as_bytes()),
        Bytes::from_static(b.as_bytes()),
    );
    group.bench_function("event in two pieces", |bencher| {
        bencher.iter(|| (machine.push(head.clone()), machine.push(tail.clone())));
    });
    group.finish();
}

fn bodies(c: &mut Criterion) {
    let mut group = c.benchmark_group("body/passthrough");
    let exchange = exchange(false);
    let text = "measured exactly ".repeat(KIB / 17);
    let chat = format!(
        r#"{{"id":"c1","object":"chat.completion","created":1,"model":"gpt-4o","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,"prompt_tokens_details":{{"cached_tokens":4}}}}}}"#
    );
    let vector = vec!["-0.0069292834"; 1536].join(",");
    let embedding = format!(
        r#"{{"object":"list","data":[{{"object":"embedding","index":0,"embedding":[{vector}]}}],"model":"e","usage":{{"prompt_tokens":8,"total_tokens":8}}}}"#
    );
    for (name, body) in [
        ("chat", Bytes::from(chat)),
        ("embedding", Bytes::from(embedding)),
    ] {
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| {
            b.iter_batched(
                || (ResponseMachine::new(&exchange, false), body.clone()),
                |(mut machine, body)| {
                    let _ = black_box(machine.push(body));
                    machine
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, requests, chunks, bodies);
criterion_main!(benches);
