//! What a target refuses never reaches it: requests of every kind, held against the target's rule.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at what it does not expect"
)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Value, json};
use weir_dialects::{
    ClientApi, ClientRequest, PrepareError, Target, Unsupported, UpstreamRequest, inspect, prepare,
    vendors,
};

fn try_prepare(
    api: ClientApi,
    body: &Value,
    (vendor, model): (&str, &str),
    unsupported: Unsupported,
) -> Result<UpstreamRequest, PrepareError> {
    let body = Bytes::from(body.to_string());
    let facts = inspect(api, &body).unwrap();
    let request = ClientRequest {
        api,
        headers: &HeaderMap::new(),
        query: None,
        body: &body,
        facts: &facts,
        request_id: "01a2",
        now_s: 1_700_000_000,
    };
    let target = Target::new(vendors::find(vendor).unwrap(), model);
    prepare(
        &request,
        &Target {
            unsupported,
            ..target
        },
    )
}

fn body_of(upstream: &UpstreamRequest) -> Value {
    serde_json::from_slice(&upstream.body.to_bytes()).unwrap()
}

/// The request that a target gets under the policy `drop`, and what was dropped.
fn sent(api: ClientApi, body: &Value, target: (&str, &str)) -> (Value, Vec<String>) {
    let upstream = try_prepare(api, body, target, Unsupported::Drop).unwrap();
    (body_of(&upstream), upstream.dropped)
}

const CHAT: ClientApi = ClientApi::ChatCompletions;
const CLAUDE: (&str, &str) = ("anthropic", "claude-sonnet-4-5");

/// The field that refuses a request.
fn refused(api: ClientApi, body: &Value, target: (&str, &str)) -> String {
    let refusal = try_prepare(api, body, target, Unsupported::Refuse).unwrap_err();
    refusal.field().unwrap().to_owned()
}

// Blank text.

/// Anthropic's rule: every text has something in it, the first message is the user's, and the last
/// does not end in white space if it is the assistant's.
fn assert_no_blank_text(request: &Value) {
    let messages = request["messages"].as_array().unwrap();
    assert_eq!(messages[0]["role"], "user", "{request}");
    let mut texts: Vec<&str> = request["system"].as_str().into_iter().collect();
    for message in messages {
        add_texts(&message["content"], &mut texts);
    }
    assert!(
        texts.iter().all(|text| !text.trim().is_empty()),
        "{request}"
    );
    let last = messages.last().unwrap();
    let content = &last["content"];
    let ending = match content.as_array() {
        Some(blocks) => blocks.last().unwrap()["text"].as_str(),
        None => content.as_str(),
    };
    let ends_well = ending.is_none_or(|text| text.trim_end() == text);
    assert!(last["role"] == "user" || ends_well, "{request}");
}

fn add_texts<'v>(content: &'v Value, texts: &mut Vec<&'v str>) {
    if let Some(text) = content.as_str() {
        texts.push(text);
    }
    for block in content.as_array().into_iter().flatten() {
        texts.extend(block["text"].as_str());
        if block["type"] == "tool_result" {
            add_texts(&block["content"], texts);
        }
    }
}

fn message() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[ \t\n\r\u{b}\u{c}\u{85}\u{a0}\u{2028}\u{3000}]{0,3}",
        "[a-z \n]{1,4}"
    ];
    let content = prop_oneof![
        text.clone().prop_map(Value::from),
        prop::collection::vec(
            text.prop_map(|text| json!({"type": "text", "text": text})),
            1..3
        )
        .prop_map(Value::from),
    ];
    let role = prop_oneof!["user", "assistant", "call", "tool", "system"];
    (role, content).prop_map(|(role, content)| match role.as_str() {
        "call" => json!({"role": "assistant", "content": content, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
        "tool" => json!({"role": "tool", "tool_call_id": "c", "content": content}),
        role => json!({"role": role, "content": content}),
    })
}

proptest! {
    #[test]
    fn no_blank_text_reaches_claude(messages in prop::collection::vec(message(), 1..6)) {
        let mut messages = messages;
        messages.insert(0, json!({"role": "user", "content": "\n"}));
        let body = json!({"model": "m", "messages": messages});
        assert_no_blank_text(&sent(CHAT, &body, CLAUDE).0);
    }
}

#[test]
fn a_blank_message_beside_calls_is_left_out_without_a_word() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "\n\n", "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "r"}]});
    let (request, dropped) = sent(CHAT, &body, CLAUDE);
    let blocks = request["messages"][1]["content"].as_array().unwrap();
    assert_eq!((blocks.len(), &blocks[0]["type"]), (1, &json!("tool_use")));
    assert_eq!(dropped, [""; 0]);
}

#[test]
fn a_blank_turn_of_the_user_keeps_its_place() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": " \u{2003}\n"}]});
    let (request, dropped) = sent(CHAT, &body, CLAUDE);
    assert_eq!(
        request["messages"][2],
        json!({"role": "user", "content": "(empty message)"})
    );
    assert_eq!(dropped, ["messages[].content (blank)"]);
}

#[test]
fn a_prefill_loses_the_white_space_at_its_end_and_says_so() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": "a"}, {"role": "assistant", "content": "Answer: \n"}]});
    let (request, dropped) = sent(CHAT, &body, CLAUDE);
    assert_eq!(request["messages"][1]["content"], "Answer:");
    assert_eq!(dropped, ["messages[].content (white space at the end)"]);
}

// Media.

fn with_file(media_type: &str, bytes: &[u8]) -> Value {
    let data = BASE64.encode(bytes);
    json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "text", "text": "x"},
        {"type": "file", "file": {"filename": "f", "file_data": format!("data:{media_type};base64,{data}")}}]}]})
}

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[test]
fn text_files_become_documents_of_text() {
    for media_type in [
        "text/plain",
        "text/csv",
        "TEXT/CSV",
        "text/markdown",
        "application/json",
        "application/xml",
        "application/x-yaml",
        "application/ld+json",
        "image/svg+xml",
        "text/plain;charset=utf-8",
    ] {
        let (request, _) = sent(CHAT, &with_file(media_type, "é,\"1\"\n".as_bytes()), CLAUDE);
        let source = json!({"type": "text", "media_type": "text/plain", "data": "é,\"1\"\n"});
        let document = json!({"type": "document", "source": source, "title": "f"});
        assert_eq!(
            request["messages"][0]["content"][1], document,
            "{media_type}"
        );
    }
}

#[test]
fn what_is_no_document_is_refused_by_name() {
    for media_type in [
        "application/zip",
        "application/gzip",
        "application/octet-stream",
        "video/mp4",
        "audio/wav",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "image/tiff",
        "x",
    ] {
        let field = refused(CHAT, &with_file(media_type, b"PK\x03\x04"), CLAUDE);
        assert_eq!(field, format!("messages[].content[].file ({media_type})"));
    }
    let field = refused(CHAT, &with_file("text/plain", b"\xff\xfe"), CLAUDE);
    assert_eq!(field, "messages[].content[].file (text/plain, not UTF-8)");
}

/// The images and documents of a request to Claude, which it refuses in any other form.
fn assert_media_of_claude(request: &Value) {
    for block in request["messages"][0]["content"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let source = &block["source"];
        let (kind, media_type) = (&source["type"], source["media_type"].as_str());
        match (block["type"].as_str().unwrap(), kind.as_str()) {
            ("text", _) => {}
            ("image", Some("base64")) => assert!(
                ["image/jpeg", "image/png", "image/gif", "image/webp"]
                    .contains(&media_type.unwrap()),
                "{block}"
            ),
            ("document", Some("base64")) => assert_eq!(media_type, Some("application/pdf")),
            ("document", Some("text")) => assert_eq!(media_type, Some("text/plain")),
            _ => panic!("{block}"),
        }
    }
}

proptest! {
    #[test]
    fn claude_gets_no_media_that_it_does_not_take(
        media_type in "(text|image|application|audio|video|[a-z]{0,3})/(plain|png|jpg|jpeg|pdf|zip|json|csv|svg\\+xml|webp|[a-z.+-]{0,6})",
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..8),
            Just(PNG.to_vec()),
            Just(b"%PDF-1.4".to_vec()),
            Just(b"plain".to_vec()),
        ],
        as_image in any::<bool>(),
    ) {
        let body = if as_image {
            let url = format!("data:{media_type};base64,{}", BASE64.encode(&bytes));
            json!({"model": "m", "messages": [{"role": "user", "content": [
                {"type": "text", "text": "x"},
                {"type": "image_url", "image_url": {"url": url}}]}]})
        } else {
            with_file(&media_type, &bytes)
        };
        assert_media_of_claude(&sent(CHAT, &body, CLAUDE).0);
        if let Ok(upstream) = try_prepare(CHAT, &body, CLAUDE, Unsupported::Refuse) {
            assert_media_of_claude(&body_of(&upstream));
        }
    }
}

#[test]
fn an_image_is_called_what_it_is() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": format!("data:image/jpeg;base64,{}", BASE64.encode(PNG))}}]}]});
    let (request, _) = sent(CHAT, &body, CLAUDE);
    assert_eq!(
        request["messages"][0]["content"][0]["source"]["media_type"],
        "image/png"
    );
}

#[test]
fn each_target_takes_images_of_its_own_kinds() {
    let body = |kind: &str| {
        json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "image", "source": {"type": "base64", "media_type": kind, "data": "AAAA"}}]}],
        "max_tokens": 9})
    };
    for (kind, vendor, takes) in [
        ("image/gif", "gemini", false),
        ("image/heic", "gemini", true),
        ("image/heic", "openai", false),
        ("image/bmp", "openai-responses", false),
        ("image/bmp", "vllm", true),
        ("image/webp", "openai", true),
        ("image/webp", "gemini", true),
    ] {
        let sent = try_prepare(
            ClientApi::Messages,
            &body(kind),
            (vendor, "m"),
            Unsupported::Refuse,
        );
        assert_eq!(sent.is_ok(), takes, "{kind} {vendor}");
    }
}

// Bookkeeping of a client.

#[test]
fn the_prompt_of_claude_code_begins_alike_in_every_request_elsewhere() {
    let body = |note: &str, is_text: bool| {
        let system = match is_text {
            true => json!(format!("{note}\nYou are Claude Code.")),
            false => {
                json!([{"type": "text", "text": note}, {"type": "text", "text": "You are Claude Code."}])
            }
        };
        json!({"model": "m", "max_tokens": 9, "system": system,
            "messages": [{"role": "user", "content": "x-anthropic-billing-header: is what?"}]})
    };
    let notes = [
        "x-anthropic-billing-header: cc_version=2.1.1.a1; cc_entrypoint=cli; cch=00001;",
        "x-anthropic-billing-header: cc_version=2.1.2.b2; cc_entrypoint=sdk; cch=fffff;",
    ];
    for vendor in vendors::all()
        .iter()
        .filter(|vendor| vendor.name != "anthropic")
    {
        let target = (vendor.name, "m");
        for is_text in [false, true] {
            let [first, second] =
                notes.map(|note| sent(ClientApi::Messages, &body(note, is_text), target));
            assert_eq!(first, second, "{}", vendor.name);
            let (request, dropped) = (first.0.to_string(), first.1);
            assert_eq!(
                request.matches("x-anthropic-billing-header").count(),
                1,
                "{request}"
            );
            assert!(request.contains("You are Claude Code."), "{request}");
            assert_eq!(dropped, [""; 0], "{}", vendor.name);
        }
    }
    let (request, _) = sent(ClientApi::Messages, &body(notes[0], false), CLAUDE);
    assert_eq!(request["system"][0]["text"], notes[0]);
}
