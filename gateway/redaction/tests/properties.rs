//! No secret is kept, wherever it stands and however it is escaped; what is kept is JSON, and fits.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says what it was given"
)]

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};
use weir_redaction::{CustomPattern, Detail, Kept, Omitted, OptionalDetector, Redactor};

fn redactor() -> &'static Redactor {
    static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
        let own = CustomPattern {
            name: "employee".into(),
            regex: "E-[0-9]{6}".into(),
        };
        Redactor::new(&[OptionalDetector::Emails, OptionalDetector::Cards], &[own]).unwrap()
    });
    &REDACTOR
}

fn keep(body: &str) -> Kept {
    redactor()
        .keep(body.as_bytes(), Detail::Text, 1 << 20)
        .unwrap()
}

/// A secret of each kind, by the name of its detector.
fn secrets() -> impl Strategy<Value = (&'static str, String)> {
    prop_oneof![
        "weir_[0-9A-Za-z]{49}".prop_map(|it| ("weir_key", it)),
        "sk-(proj-|ant-api03-)?[0-9A-Za-z_-]{20,60}[0-9A-Za-z]".prop_map(|it| ("provider_key", it)),
        "(AKIA|ASIA)[0-9A-Z]{16}".prop_map(|it| ("aws_key", it)),
        "AIza[0-9A-Za-z]{35}".prop_map(|it| ("google_key", it)),
        "gh[ps]_[0-9A-Za-z]{36}".prop_map(|it| ("github_token", it)),
        "xoxb-[0-9]{11}-[0-9A-Za-z]{24}".prop_map(|it| ("slack_token", it)),
        "sk_live_[0-9A-Za-z]{24}".prop_map(|it| ("payment_key", it)),
        "eyJ[0-9A-Za-z]{20}\\.eyJ[0-9A-Za-z]{30}\\.[0-9A-Za-z]{20}".prop_map(|it| ("jwt", it)),
        "[0-9A-Za-z+/]{64}(\n[0-9A-Za-z+/]{64}){0,3}".prop_map(|body| {
            let key =
                format!("-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----");
            ("private_key", key)
        }),
        "[a-z]{3,8}@[a-z]{3,8}\\.(com|org)".prop_map(|it| ("email", it)),
        "E-[0-9]{6}".prop_map(|it| ("employee", it)),
        Just(("card", "4111 1111 1111 1111".to_owned())),
        Just(("card", "5500005555555559".to_owned())),
    ]
}

/// Text around a secret, from which it is told by its borders.
fn around() -> impl Strategy<Value = String> {
    "([ a-zéß中\n\"\\\\{}:,]{0,20}[ \n\"{}:,(])?"
}

fn behind() -> impl Strategy<Value = String> {
    "([ \n\"{},)][ a-zéß中\n\"\\\\{}:,]{0,20})?"
}

/// JSON with every character written as an escape.
fn all_escaped(text: &str) -> String {
    let units = text.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
    format!("\"{}\"", units.collect::<String>())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_secret_is_kept_wherever_it_stands(
        (name, secret) in secrets(), before in around(), after in behind(), place in 0_usize..5,
    ) {
        let text = format!("{before}{secret}{after}");
        let body = match place {
            0 => json!({"messages": [{"role": "user", "content": text}]}),
            1 => json!({"system": [{"type": "text", "text": text}], "max_tokens": 5}),
            2 => json!({"messages": [{"tool_calls": [{"function": {"arguments": json!({"k": text}).to_string()}}]}]}),
            3 => json!({"tools": {text: 1}}),
            _ => json!([json!({"a": json!({"b": json!([text]).to_string()}).to_string()}).to_string()]),
        };
        let kept = keep(&body.to_string());
        prop_assert!(is_without(&kept.json, &secret), "{secret} in {}", kept.json);
        prop_assert!(kept.found.count >= 1);
        prop_assert!(kept.found.names.contains(name), "{name} not in {:?}", kept.found);
        prop_assert!(serde_json::from_str::<Value>(&kept.json).is_ok());
    }

    #[test]
    fn no_escape_hides_a_secret((_, secret) in secrets(), depth in 1_usize..4) {
        let mut text = all_escaped(&secret);
        for _ in 1..depth {
            text = Value::String(text).to_string();
        }
        let kept = keep(&format!("{{\"content\":{text}}}"));
        prop_assert!(is_without(&kept.json, &secret), "{secret} in {}", kept.json);
    }

    #[test]
    fn a_part_that_is_escaped_goes_with_the_rest((_, secret) in secrets(), at in 1_usize..30) {
        let (plain, rest) = secret.split_at(at.min(secret.len() - 1));
        let half = format!("{plain}{}", all_escaped(rest).trim_matches('"'));
        let kept = keep(&json!({"arguments": format!("{{\"k\":\"{half}\"}}")}).to_string());
        prop_assert!(is_without(&kept.json, &secret), "{secret} in {}", kept.json);
        prop_assert!(!kept.json.contains("\\\\u"), "a tail is left: {}", kept.json);
    }

    #[test]
    fn shortening_leaves_no_part_of_a_secret(
        (_, secret) in secrets(), pad in 0_usize..3000, bytes_max in 400_usize..3000,
    ) {
        let body = json!({"content": format!("{} {secret} {}", "x ".repeat(pad), "y ".repeat(pad))});
        let kept = redactor().keep(body.to_string().as_bytes(), Detail::Text, bytes_max).unwrap();
        prop_assert!(kept.json.len() <= bytes_max);
        prop_assert!(serde_json::from_str::<Value>(&kept.json).is_ok());
        for part in 8..secret.len() {
            prop_assert!(!kept.json.contains(&secret[..part]), "{} in {}", &secret[..part], kept.json);
        }
    }

    #[test]
    fn structure_has_no_text(text in "[a-z]{12,30} [a-z]{12,30}", (_, secret) in secrets()) {
        for said in [&text, &secret] {
            let body = json!({
                "model": "fast-chat", "user": said, "metadata": {said: said}, said: 1,
                "messages": [
                    {"role": said, "content": said, "name": said},
                    {"role": "user", "content": [{"type": "text", "text": said}, {"type": "tool_use", "name": "look_up", "input": {"q": said}}]},
                ],
                "tools": [{"type": "function", "function": {"name": "look_up", "description": said, "parameters": {"type": "object", "properties": {said: {"type": said}}}}}],
            });
            let kept = redactor().keep(body.to_string().as_bytes(), Detail::Structure, 1 << 16).unwrap();
            prop_assert!(is_without(&kept.json, said), "{said} in {}", kept.json);
            let shape: Value = serde_json::from_str(&kept.json).unwrap();
            prop_assert_eq!(&shape["model"], "fast-chat");
            prop_assert_eq!(&shape["messages"][1]["content"][1]["name"], "look_up");
            prop_assert_eq!(&shape["tools"][0]["function"]["name"], "look_up");
            let size = format!("[{} bytes]", said.len());
            prop_assert_eq!(&shape["messages"][0]["content"], &size);
        }
    }

    #[test]
    fn whatever_the_bytes_nothing_panics_and_what_is_kept_is_json(
        bytes: Vec<u8>, text in ".*", bytes_max in 0_usize..300,
    ) {
        for body in [bytes, text.clone().into_bytes(), json!({"a": [text, {}]}).to_string().into_bytes()] {
            for detail in [Detail::Structure, Detail::Text] {
                match redactor().keep(&body, detail, bytes_max) {
                    Ok(kept) => {
                        prop_assert!(kept.json.len() <= bytes_max);
                        prop_assert!(serde_json::from_str::<Value>(&kept.json).is_ok());
                    }
                    Err(Omitted::Unreadable | Omitted::TooLarge) => {}
                }
            }
        }
    }
}

/// Whether neither the JSON nor what it says holds the text, in any view.
fn is_without(json: &str, text: &str) -> bool {
    let mut view = json.to_owned();
    for _ in 0..6 {
        if view.contains(text) {
            return false;
        }
        view = view
            .replace("\\\"", "\"")
            .replace("\\n", "\n")
            .replace("\\\\", "\\");
    }
    true
}

#[track_caller]
fn check(text: &str, expected: &str) {
    let kept = keep(&json!({ "content": text }).to_string());
    let shown: Value = serde_json::from_str(&kept.json).unwrap();
    assert_eq!(shown["content"], expected);
}

#[test]
fn a_field_whose_name_says_secret_is_one_in_any_spelling() {
    for name in [
        "password",
        "dbPassword",
        "DB_PASSWORD",
        "openaiApiKey",
        "awsSecretAccessKey",
        "x-auth-token",
        "Authorization",
        "Set-Cookie",
        "user.pwd",
    ] {
        for value in [json!("tell no-one"), json!(271_828), json!(["tell no-one"])] {
            let kept = keep(&json!({"input": {name: value}}).to_string());
            assert!(is_without(&kept.json, "tell no-one"), "{}", kept.json);
            assert!(is_without(&kept.json, "271828"), "{}", kept.json);
            assert!(kept.found.names.contains("assigned_secret"), "{name}");
        }
    }
    let kept = keep(r#"{"max_tokens":100000,"token":"weir","fortune_cookies":"two"}"#);
    assert_eq!(kept.found.count, 0, "{}", kept.json);
}

#[test]
fn token_ids_are_no_structure() {
    let body = br#"{"model":"m","input":[[9906,1917]],"dimensions":256}"#;
    let kept = redactor().keep(body, Detail::Structure, 1 << 10).unwrap();
    assert_eq!(
        kept.json,
        r#"{"model":"m","input":[["[number]","[number]"]],"dimensions":256}"#
    );
}

#[test]
fn what_is_told_by_what_stands_before_it_goes_alone() {
    check(
        "GET https://x.blob.core/a?sv=2024&sig=abcDEF123%2B4&se=1",
        "GET https://x.blob.core/a?sv=2024&sig=[redacted:url_secret]&se=1",
    );
    check(
        "https://s3/a?X-Amz-Date=2&X-Amz-Signature=0123456789abcdef",
        "https://s3/a?X-Amz-Date=2&X-Amz-Signature=[redacted:url_secret]",
    );
    check(
        "curl -H 'Authorization: Bearer abcdefghijklmnop' https://x",
        "curl -H 'Authorization: Bearer [redacted:bearer_token]' https://x",
    );
    check(
        "DB_PASSWORD=hunter22; x",
        "DB_PASSWORD=[redacted:assigned_secret]; x",
    );
    check(
        "{\"api_key\": \"0123456789abcdef\"}",
        "{\"api_key\": \"[redacted:assigned_secret]\"}",
    );
    check(
        "postgres://weir:hunter2@db/x",
        "postgres://weir:[redacted:url_password]@db/x",
    );
    check(
        "-----BEGIN PRIVATE KEY-----\nMIIEvQ",
        "[redacted:private_key]",
    );
}

#[test]
fn plain_words_and_numbers_stay() {
    for text in [
        "risk-management-and-mitigation-strategies",
        "my password is in the vault; what a secret!",
        "call +49 30 1234567 at 12:30, order 4111 1111 1111 1112",
        "https://example.com/a?b=c#d",
        "the basic idea of bearer bonds",
        r"a\nb \\server\share \u00e9",
    ] {
        check(text, text);
    }
}

#[test]
fn fields_named_for_secrets_are_emptied() {
    let kept = keep(
        r#"{"input":{"password":"x","Client_Secret":["y"],"max_tokens":7,"secret":{"type":"string"}}}"#,
    );
    assert_eq!(
        kept.json,
        r#"{"input":{"password":"[redacted:assigned_secret]","Client_Secret":["[redacted:assigned_secret]"],"max_tokens":7,"secret":{"type":"string"}}}"#
    );
}

#[test]
fn numbers_of_cards_go_as_json_numbers_too() {
    assert_eq!(
        keep(r#"{"n":4111111111111111,"m":4111111111111112}"#).json,
        r#"{"n":"[redacted:card]","m":4111111111111112}"#
    );
    check("12 4111-1111-1111-1111 99", "12 [redacted:card] 99");
}

#[test]
fn data_that_is_no_text_is_left_out() {
    let data = "iVBORw0K".repeat(200);
    check(
        &format!("data:image/png;base64,{data}"),
        "data:image/png;base64,[1600 bytes of data]",
    );
}

#[test]
fn a_pattern_that_cannot_be_used_is_named() {
    let pattern = |regex: &str| CustomPattern {
        name: "p".into(),
        regex: regex.into(),
    };
    for (regex, expected) in [
        ("(", "unclosed group"),
        ("a*", "matches \"\""),
        ("[0-9a-z]{100000}", "size limit"),
        (r"(a)\1", "backreference"),
    ] {
        let patterns = [pattern("fine"), pattern(regex)];
        let bad = Redactor::new(&[], &patterns).unwrap_err();
        assert_eq!(bad.index, Some(1), "{regex}");
        assert!(bad.reason.contains(expected), "{regex}: {}", bad.reason);
    }
    let many = vec![pattern("x"); 65];
    assert!(
        Redactor::new(&[], &many)
            .unwrap_err()
            .reason
            .contains("more than 64")
    );
}
