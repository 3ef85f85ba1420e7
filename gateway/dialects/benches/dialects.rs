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
    ClientApi, ClientRequest, ResponseContext, ResponseMachine, Target, UpstreamRequest, inspect,
    prepare, vendors,
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

fn exchange(stream: bool) -> ResponseContext {
    let body = chat_request(stream);
    prepared(ClientApi::ChatCompletions, &body, &native()).context
}

/// What a deployment keeps: the vendor's row and the model's are found once.
fn target(vendor: &str, model: &'static str) -> Target<'static> {
    Target::new(vendors::find(vendor).expect("the row exists"), model)
}

fn native() -> Target<'static> {
    target("openai", "gpt-4o-mini-2024-07-18")
}

fn prepared(api: ClientApi, body: &Bytes, target: &Target<'_>) -> UpstreamRequest {
    let facts = inspect(api, body).expect("the request is good");
    let headers = HeaderMap::new();
    let request = ClientRequest {
        api,
        headers: &headers,
        query: None,
        body,
        facts: &facts,
        output_limit: None,
        request_id: "r1",
        now_s: 0,
    };
    prepare(&request, target).expect("prepares")
}

fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request/passthrough");
    let native = native();
    for (name, stream) in [("plain", false), ("stream", true)] {
        let body = chat_request(stream);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| prepared(ClientApi::ChatCompletions, black_box(&body), &native));
        });
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

const TOOLS: &str = r#"[{"type":"function","function":{"name":"get_weather","description":"Current weather","parameters":{"type":"object","properties":{"location":{"type":"string"}},"required":["location"]}}}]"#;

/// A conversation with about 1 KiB of messages, tools and a tool's result, in each client's API.
fn conversation(api: ClientApi) -> String {
    let text = "The river is let through and measured exactly. ".repeat(KIB / 47);
    match api {
        ClientApi::Messages => format!(
            r#"{{"model":"m","max_tokens":1024,"stream":true,"system":"Be brief.","tools":[{{"name":"get_weather","description":"Current weather","input_schema":{{"type":"object","properties":{{"location":{{"type":"string"}}}}}}}}],"messages":[{{"role":"user","content":"{text}"}},{{"role":"assistant","content":[{{"type":"tool_use","id":"toolu_1","name":"get_weather","input":{{"location":"Paris"}}}}]}},{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"toolu_1","content":"14"}}]}}]}}"#
        ),
        ClientApi::Responses => format!(
            r#"{{"model":"m","stream":true,"instructions":"Be brief.","tools":[{{"type":"function","name":"get_weather","description":"Current weather","parameters":{{"type":"object","properties":{{"location":{{"type":"string"}}}}}}}}],"input":[{{"role":"user","content":"{text}"}},{{"type":"function_call","call_id":"c1","name":"get_weather","arguments":"{{\"location\":\"Paris\"}}"}},{{"type":"function_call_output","call_id":"c1","output":"14"}}]}}"#
        ),
        _ => format!(
            r#"{{"model":"m","stream":true,"max_tokens":1024,"tools":{TOOLS},"messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"{text}"}},{{"role":"assistant","content":null,"tool_calls":[{{"id":"c1","type":"function","function":{{"name":"get_weather","arguments":"{{\"location\":\"Paris\"}}"}}}}]}},{{"role":"tool","tool_call_id":"c1","content":"14"}}]}}"#
        ),
    }
}

const WAYS: [(&str, ClientApi, &str); 7] = [
    ("chat to anthropic", ClientApi::ChatCompletions, "anthropic"),
    ("chat to gemini", ClientApi::ChatCompletions, "gemini"),
    (
        "chat to responses",
        ClientApi::ChatCompletions,
        "openai-responses",
    ),
    ("messages to openai", ClientApi::Messages, "openai"),
    ("messages to gemini", ClientApi::Messages, "gemini"),
    ("responses to anthropic", ClientApi::Responses, "anthropic"),
    ("responses to deepseek", ClientApi::Responses, "deepseek"),
];

fn translated_requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("request/translated");
    for (name, api, vendor) in WAYS {
        let body = Bytes::from(conversation(api));
        group.throughput(Throughput::Bytes(body.len() as u64));
        let target = target(vendor, "the-model");
        group.bench_function(name, |b| {
            b.iter(|| prepared(api, black_box(&body), &target))
        });
    }
    let body = chat_request(true);
    let mistral = target("mistral", "the-model");
    group.bench_function("chat to mistral, edited", |b| {
        b.iter(|| prepared(ClientApi::ChatCompletions, black_box(&body), &mistral));
    });
    group.finish();
}

/// The first event of a stream, and one with text, of each provider.
fn events(vendor: &str) -> (&'static str, &'static str) {
    match vendor {
        "anthropic" => (
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude\",\"usage\":{\"input_tokens\":25}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" river\"}}\n\n",
        ),
        "gemini" => (
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"The\"}],\"role\":\"model\"},\"index\":0}],\"modelVersion\":\"gemini\",\"responseId\":\"r\"}\r\n\r\n",
            "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \" river\"}],\"role\": \"model\"},\"index\": 0}],\"usageMetadata\": {\"promptTokenCount\": 5,\"candidatesTokenCount\": 3,\"totalTokenCount\": 8},\"modelVersion\": \"gemini-2.5-flash\",\"responseId\": \"mAitaLmkHPPlz7IPvtfUqQ4\"}\r\n\r\n",
        ),
        "openai-responses" => (
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"model\":\"gpt\"}}\n\n",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":9,\"item_id\":\"msg_67c9fdcf\",\"output_index\":0,\"content_index\":0,\"delta\":\" river\",\"logprobs\":[],\"obfuscation\":\"abcdefg\"}\n\n",
        ),
        _ => (CHUNK, CHUNK),
    }
}

const CHUNKS: usize = 64;

fn translated_chunks(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunk/translated");
    group.throughput(Throughput::Elements(CHUNKS as u64));
    for (name, api, vendor) in WAYS {
        let body = Bytes::from(conversation(api));
        let upstream = prepared(api, &body, &target(vendor, "the-model"));
        let (first, chunk) = events(vendor);
        let chunk = Bytes::from_static(chunk.as_bytes());
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let mut machine = ResponseMachine::new(&upstream.context, true);
                    let _ = machine.push(Bytes::from_static(first.as_bytes()));
                    machine
                },
                |mut machine| {
                    for _ in 0..CHUNKS {
                        let _ = black_box(machine.push(black_box(chunk.clone())));
                    }
                    machine
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    requests,
    chunks,
    bodies,
    translated_requests,
    translated_chunks
);
criterion_main!(benches);
