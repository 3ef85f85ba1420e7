//! Events to bytes and back: Avro single-object encoding.
//!
//! The first ten bytes name the schema that wrote the rest, so a reader decodes events of every
//! version it knows: one with fewer fields reads with the missing ones at their defaults, one with
//! more has them skipped.

use std::fmt;
use std::io::Read as _;
use std::marker::PhantomData;
use std::sync::LazyLock;

use data_encoding::HEXLOWER;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_avro_fast::Schema;
use serde_avro_fast::ser::SerializerConfig;

use crate::event::{self, Envelope, Event};
use crate::for_each_event;
use crate::ids::EventId;

/// Marker of single-object encoding, and the length of the fingerprint behind it.
const MARKER: [u8; 2] = [0xC3, 0x01];
const HEADER_BYTES: usize = 10;
/// What a stream's id takes.
const STREAM_BYTES: usize = 16;

macro_rules! declare_codec {
    ($($table:ident { $($name:ident($body:ty) [$($file:literal),+];)* })*) => {
        /// Which variant of [`Event`] a schema describes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum EventKind {
            $($($name,)*)*
        }

        impl EventKind {
            const ALL: &[Self] = &[$($(Self::$name,)*)*];

            const fn record(self) -> &'static str {
                match self {
                    $($(Self::$name => stringify!($name),)*)*
                }
            }
        }

        /// Every schema that was ever in use, oldest version first: the log may hold any of them.
        const SCHEMA_FILES: &[(EventKind, &str)] = &[$($($((
            EventKind::$name,
            include_str!(concat!("../avro/", $file)),
        ),)+)*)*];

        impl Encoder {
            /// Appends the event to `out`. There is none that cannot be written: numbers that Avro has no
            /// room for are no [`Count`](crate::Count).
            pub fn encode(&mut self, id: EventId, event: &Event<'_>, out: &mut Vec<u8>) {
                match event {
                    $($(Event::$name(event) => self.write(EventKind::$name, id, event, out),)*)*
                }
            }
        }

        fn read_event<'a>(
            known: &'static KnownSchema,
            datum: &'a [u8],
        ) -> Result<Envelope<'a>, DecodeError> {
            match known.kind {
                $($(EventKind::$name => {
                    let EventRecord { id, event } = read::<event::$name<'a>>(known, datum)?;
                    let event = Event::$name(event.into());
                    Ok(Envelope { id, event })
                })*)*
            }
        }
    };
}

for_each_event!(declare_codec);

/// A record: where the event stands, then what it says.
#[derive(Serialize)]
struct EventRecord<E> {
    #[serde(flatten)]
    id: EventId,
    #[serde(flatten)]
    event: E,
}

/// Instead of the derived one, which would copy the whole record to look for the fields of each part.
impl<'de, E: Deserialize<'de>> Deserialize<'de> for EventRecord<E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecordVisitor(PhantomData))
    }
}

struct RecordVisitor<E>(PhantomData<E>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum PositionField {
    Stream,
    Seq,
}

impl<'de, E: Deserialize<'de>> Visitor<'de> for RecordVisitor<E> {
    type Value = EventRecord<E>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record that begins with stream and seq")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let Some((PositionField::Stream, stream)) = map.next_entry()? else {
            return Err(A::Error::missing_field("stream"));
        };
        let Some((PositionField::Seq, seq)) = map.next_entry()? else {
            return Err(A::Error::missing_field("seq"));
        };
        let event = E::deserialize(MapAccessDeserializer::new(map))?;
        let id = EventId { stream, seq };
        Ok(EventRecord { id, event })
    }
}

struct KnownSchema {
    kind: EventKind,
    schema: Schema,
}

/// The schemas, parsed once, in the order of their files.
static SCHEMAS: LazyLock<Vec<KnownSchema>> = LazyLock::new(parse_schemas);

#[expect(
    clippy::expect_used,
    reason = "the files are part of the program; a test parses them"
)]
fn parse_schemas() -> Vec<KnownSchema> {
    let parse = |&(kind, json): &(EventKind, &str)| KnownSchema {
        kind,
        schema: json.parse().expect("a schema file is valid Avro"),
    };
    SCHEMA_FILES.iter().map(parse).collect()
}

/// A payload is not an event that this program knows.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("decode event: {bytes} bytes do not begin with the header of an Avro single object")]
    NotSingleObject { bytes: usize },
    #[error("decode event: schema {fingerprint} is unknown; was it written by a newer version?")]
    UnknownSchema { fingerprint: String },
    #[error("decode {record}: {source}")]
    Malformed {
        record: &'static str,
        source: serde_avro_fast::de::DeError,
    },
    #[error("decode {record}: bytes are left over behind the event")]
    TrailingBytes { record: &'static str },
}

/// Writes events one after the other, each with the newest version of its schema. Keep one per
/// writer: its buffers are reused.
pub struct Encoder {
    /// By kind.
    configs: Vec<SerializerConfig<'static>>,
}

impl Default for Encoder {
    fn default() -> Self {
        let newest = |kind: &EventKind| SCHEMAS.iter().rfind(|known| known.kind == *kind);
        let newest = EventKind::ALL.iter().filter_map(newest);
        Self {
            configs: newest
                .map(|known| SerializerConfig::new(&known.schema))
                .collect(),
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    #[expect(
        clippy::expect_used,
        reason = "the fields have types that their schema holds; a test writes the extremes of each"
    )]
    fn write(&mut self, kind: EventKind, id: EventId, event: impl Serialize, out: &mut Vec<u8>) {
        let record = EventRecord { id, event };
        let config = &mut self.configs[kind as usize];
        serde_avro_fast::to_single_object(&record, out, config).expect("an event fits its schema");
    }
}

/// Reads one event. Its text points into `payload`.
pub fn decode(payload: &[u8]) -> Result<Envelope<'_>, DecodeError> {
    let not_single_object = || DecodeError::NotSingleObject {
        bytes: payload.len(),
    };
    let (header, datum) = payload
        .split_at_checked(HEADER_BYTES)
        .ok_or_else(not_single_object)?;
    let fingerprint = header.strip_prefix(&MARKER).ok_or_else(not_single_object)?;
    let wrote_it = |known: &&KnownSchema| known.schema.rabin_fingerprint() == fingerprint;
    match SCHEMAS.iter().find(wrote_it) {
        Some(known) => read_event(known, datum),
        None => Err(DecodeError::UnknownSchema {
            fingerprint: HEXLOWER.encode(fingerprint),
        }),
    }
}

/// When an event happened, in microseconds since 1970, without reading the rest of it. None if it is
/// no event.
///
/// Every schema begins with stream, seq and time.
#[must_use]
pub fn time_us(payload: &[u8]) -> Option<u64> {
    let (header, datum) = payload.split_at_checked(HEADER_BYTES)?;
    header.strip_prefix(&MARKER)?;
    let behind_stream = datum.get(STREAM_BYTES..)?;
    let (_seq, behind_seq) = long(behind_stream)?;
    let (time, _) = long(behind_seq)?;
    u64::try_from(time).ok()
}

/// Avro's variable-length number at the beginning of some bytes, and what is behind it.
fn long(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let length = bytes.iter().take(10).position(|byte| byte & 0x80 == 0)? + 1;
    let (number, rest) = bytes.split_at(length);
    let zigzag = number
        .iter()
        .rev()
        .fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
    let magnitude = (zigzag >> 1).cast_signed();
    Some((magnitude ^ -(zigzag & 1).cast_signed(), rest))
}

fn read<'a, E: Deserialize<'a>>(
    known: &'static KnownSchema,
    datum: &'a [u8],
) -> Result<EventRecord<E>, DecodeError> {
    let record = known.kind.record();
    let slice = serde_avro_fast::de::read::SliceRead::new(datum);
    let config = serde_avro_fast::de::DeserializerConfig::new(&known.schema);
    let mut state = serde_avro_fast::de::DeserializerState::with_config(slice, config);
    let event = EventRecord::deserialize(state.deserializer())
        .map_err(|source| DecodeError::Malformed { record, source })?;
    match state.into_reader().read(&mut [0; 1]) {
        Ok(0) => Ok(event),
        _ => Err(DecodeError::TrailingBytes { record }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Count;
    use crate::event::{
        AttemptFinished, Caller, Candidate, OtherModel, PayloadCaptured, RequestFinished,
        StreamOpened, Tags,
    };
    use crate::ids::{RequestId, Salt, StreamId};
    use crate::usage::Usage;

    fn id(seq: u64) -> EventId {
        let stream = StreamId::new(1_700_000_000_000, [1; 10]);
        EventId { stream, seq }
    }

    fn encode(event: &Event<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        Encoder::default().encode(id(7), event, &mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Event<'_> {
        let Envelope { id: read, event } = decode(bytes).unwrap();
        assert_eq!(read, id(7));
        event
    }

    fn stream_opened() -> Event<'static> {
        Event::StreamOpened(StreamOpened {
            ts_us: 1_700_000_000_000_000.into(),
            instance: "gw-1",
            process: "gateway",
            shard: 0,
            version: "0.1.0",
            seal_key: Some("3a"),
        })
    }

    #[test]
    fn an_event_reads_back_as_it_was_written() {
        let event = stream_opened();
        assert_eq!(decoded(&encode(&event)), event);
    }

    #[test]
    fn a_cut_or_padded_event_is_refused() {
        let bytes = encode(&stream_opened());
        for length in 0..bytes.len() {
            assert!(
                decode(&bytes[..length]).is_err(),
                "{length} of {} bytes",
                bytes.len()
            );
        }
        let padded = [bytes.as_slice(), &[0]].concat();
        assert!(matches!(
            decode(&padded),
            Err(DecodeError::TrailingBytes { .. })
        ));
    }

    #[test]
    fn every_schema_begins_with_stream_seq_and_time() {
        for (_, json) in SCHEMA_FILES {
            let schema: serde_json::Value = serde_json::from_str(json).unwrap();
            let names = ["stream", "seq", "ts_us"];
            let fields = schema["fields"].as_array().unwrap().iter().zip(names);
            assert!(
                fields.clone().all(|(field, name)| field["name"] == name),
                "{schema}"
            );
            assert_eq!(schema["fields"][0]["type"]["size"], STREAM_BYTES);
        }
    }

    #[test]
    fn a_time_is_read_without_its_event() {
        for ts_us in [0, 1, 63, 64, 1_700_000_000_000_000, i64::MAX as u64] {
            let event = Event::StreamOpened(StreamOpened {
                ts_us: ts_us.into(),
                instance: "gw-1",
                process: "gateway",
                shard: 0,
                version: "0.1.0",
                seal_key: None,
            });
            let bytes = encode(&event);
            assert_eq!(time_us(&bytes), Some(ts_us));
            for length in 0..HEADER_BYTES + STREAM_BYTES + 2 {
                assert_eq!(time_us(&bytes[..length]), None, "{length} bytes");
            }
        }
        assert_eq!(time_us(&[0; 60]), None, "no event");
        let endless = [&MARKER, &[0xFF; 60][..]].concat();
        assert_eq!(time_us(&endless), None);
    }

    #[test]
    fn an_unknown_schema_is_named_by_its_fingerprint() {
        let mut bytes = encode(&stream_opened());
        bytes[2..10].copy_from_slice(&[0xAB; 8]);
        let message = decode(&bytes).unwrap_err().to_string();
        assert!(message.contains("abababababababab"), "{message}");
    }

    proptest! {
        #[test]
        fn requests_and_attempts_read_back_as_they_were_written(
            text in r"\PC{0,40}",
            number in 0..=i64::MAX as u64,
            present: bool,
            tag_count in 0_usize..5,
        ) {
            let text = text.as_str();
            let optional = present.then_some(text);
            let count = present.then_some(number);
            let caller = Caller {
                team: optional,
                user: Some(text),
                tags: Tags(vec![("feature", text); tag_count]),
                ..Caller::default()
            };
            let usage = Usage {
                input_tokens: count,
                image_input_tokens: Some(number),
                output_tokens: Some(0),
                audio_input_ms: count,
                ..Usage::default()
            };
            let others = vec![OtherModel { model: text, usage }; tag_count];
            let request_id = RequestId::new(number >> 20, [3; 10]);
            let request = Event::RequestFinished(Box::new(RequestFinished {
                ts_us: number.into(),
                request_id,
                client_request_id: optional,
                trace_id: None,
                caller: caller.clone(),
                client_ip: Some("127.0.0.1"),
                user_agent: optional,
                dialect: "openai.chat",
                alias: Some(text),
                streamed: present,
                request_bytes: number.into(),
                max_output_tokens: count.map(Into::into),
                status: 200,
                stage: None,
                error_kind: optional,
                error_message: optional,
                provider: optional,
                deployment: optional,
                model: optional,
                response_model: optional,
                region: None,
                attempts: 3,
                finish_reason: Some("stop"),
                response_bytes: number.into(),
                usage,
                usage_source: "reported",
                cost_pico_usd: present.then_some(crate::money::PicoUsd(-5)),
                waste_pico_usd: None,
                price_version: optional,
                queue_us: Count::MAX,
                overhead_us: 12.into(),
                ttft_us: count.map(Into::into),
                total_us: number.into(),
                strategy: Some("chain"),
                table_version: None,
                route_seed: count.map(Into::into),
                candidates: vec![
                    Candidate { target: text, score: Some(0.5), propensity: 0.25 };
                    tag_count
                ],
                cache_verdict: None,
                guard_verdict: None,
                limit_verdict: None,
                service_tier: optional,
                last_resort: optional,
                inference_geo: optional,
                other_models: others.clone(),
                unpriced_reason: optional,
            }));
            let bytes = encode(&request);
            prop_assert_eq!(decoded(&bytes), request);

            let attempt = Event::AttemptFinished(Box::new(AttemptFinished {
                ts_us: number.into(),
                request_id,
                attempt: 2,
                kind: "retry",
                cause: optional,
                delay_us: number.into(),
                caller,
                dialect: "openai.chat",
                alias: optional,
                streamed: present,
                provider: text,
                deployment: text,
                model: text,
                response_model: optional,
                region: None,
                provider_key: optional,
                status: present.then_some(429),
                error_kind: optional,
                error_message: optional,
                retry_after_us: count.map(Into::into),
                delivered: present,
                upstream_request_id: optional,
                finish_reason: None,
                connection_reused: present,
                request_bytes: number.into(),
                response_bytes: number.into(),
                usage,
                usage_source: "none",
                cost_pico_usd: None,
                price_version: None,
                connect_us: count.map(Into::into),
                headers_us: count.map(Into::into),
                ttft_us: count.map(Into::into),
                total_us: number.into(),
                strategy: optional,
                table_version: count.map(Into::into),
                propensity: present.then_some(0.5),
                service_tier: optional,
                inference_geo: optional,
                other_models: others,
                unpriced_reason: optional,
            }));
            let bytes = encode(&attempt);
            prop_assert_eq!(decoded(&bytes), attempt);
        }

        #[test]
        fn captured_payloads_read_back(
            text in ".*", other in ".*", present: bool, number in 0_u64..i64::MAX as u64,
        ) {
            let optional = present.then_some(text.as_str());
            let payload = Event::PayloadCaptured(Box::new(PayloadCaptured {
                ts_us: number.into(),
                request_id: RequestId::new(1_700_000_000_000, [2; 10]),
                caller: Caller { team: optional, ..Caller::default() },
                dialect: "anthropic.messages",
                alias: optional,
                streamed: present,
                status: 200,
                capture: "sampled",
                share: 0.25,
                request_bytes: number.into(),
                answer_bytes: number.into(),
                request: optional,
                answer: Some(&other),
                request_omitted: optional,
                answer_omitted: None,
                request_truncated: present,
                answer_truncated: !present,
                redactions: number.into(),
                detectors: vec![text.as_str(); usize::from(present)],
                salt: Salt::new(0, [9; 10]),
            }));
            let bytes = encode(&payload);
            prop_assert_eq!(decoded(&bytes), payload);
        }

        #[test]
        fn hostile_payloads_are_errors_and_never_panics(bytes: Vec<u8>, datum: Vec<u8>) {
            let _ = decode(&bytes);
            for known in SCHEMAS.iter() {
                let header = [&MARKER[..], known.schema.rabin_fingerprint()].concat();
                let _ = decode(&[header, datum.clone()].concat());
            }
        }
    }

    /// Bytes that the first version wrote, of events with 1200 tokens in (1000 cached) and 30 out.
    const REQUEST_V1: &str = "c3019dcfb3b9b8d4c4a4018bcfe56800710181010101010101010e8080f28183898506018bcfe5680073038303\
         030303030303000000020c67726f77746800000000000000000000166f70656e61692e6368617402026d001400\
         90030000000202700206702f6d02026d000002020873746f702802e01202d00f000000023c0000107265706f72\
         7465640280e888874302000202760002020406020a636861696e000000000000020e64656661756c7400";
    const ATTEMPT_V1: &str = "c301a10d28403841553a018bcfe56800710181010101010101010e8080f28183898506018bcfe5680073038303\
         030303030303020a6669727374000000020c67726f7774680000000000000000166f70656e61692e6368617402\
         026d00027006702f6d026d0000000290030000000100020873746f7000142802e01202d00f000000023c000010\
         7265706f727465640280e8888743020276000202020406020a636861696e0002000000000000f03f020e646566\
         61756c74";
    const CORRECTION_V1: &str = "c30153c2ab78a7719d02018bcfe56800710181010101010101010e8080f28183898506018bcfe5680073038303\
         030303030303028080f281838985060100000002027602610272";

    #[test]
    fn events_of_the_first_version_read_without_what_came_later() {
        let bytes = |hex: &str| HEXLOWER.decode(hex.as_bytes()).unwrap();
        let usage = Usage {
            input_tokens: Some(1200),
            cached_input_tokens: Some(1000),
            output_tokens: Some(30),
            ..Usage::default()
        };
        let request = bytes(REQUEST_V1);
        let Event::RequestFinished(request) = decoded(&request) else {
            panic!("not a request");
        };
        assert_eq!((request.usage, request.total_us.get()), (usage, 3));
        assert_eq!(
            (request.inference_geo, request.unpriced_reason),
            (None, None)
        );
        assert_eq!(request.other_models, []);
        let attempt = bytes(ATTEMPT_V1);
        let Event::AttemptFinished(attempt) = decoded(&attempt) else {
            panic!("not an attempt");
        };
        assert_eq!(
            (attempt.usage, attempt.service_tier),
            (usage, Some("default"))
        );
        assert_eq!(
            (attempt.inference_geo, attempt.unpriced_reason),
            (None, None)
        );
        assert_eq!(attempt.other_models, []);
        let correction = bytes(CORRECTION_V1);
        let Event::Correction(correction) = decoded(&correction) else {
            panic!("not a correction");
        };
        assert_eq!((correction.reason, correction.unpriced_reason), ("r", None));
    }

    /// Every version of a record must read what every other version wrote, both ways: readers and
    /// writers are upgraded in any order, and the log holds 90 days of all of them.
    #[test]
    fn schema_versions_are_fully_and_transitively_compatible() {
        use apache_avro::schema_compatibility::SchemaCompatibility;

        let parsed: Vec<_> = SCHEMA_FILES
            .iter()
            .map(|(kind, json)| (kind, apache_avro::Schema::parse_str(json).unwrap()))
            .collect();
        let mut pairs_checked = 0;
        for (kind, writer) in &parsed {
            for (_, reader) in parsed.iter().filter(|it| it.0 == *kind) {
                SchemaCompatibility::can_read(writer, reader)
                    .unwrap_or_else(|error| panic!("{:?}: {error}", kind));
                pairs_checked += 1;
            }
        }
        assert!(pairs_checked >= SCHEMA_FILES.len());
    }

    #[test]
    fn every_record_has_its_name_and_begins_with_its_position() {
        for (kind, json) in SCHEMA_FILES {
            let schema: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(schema["name"], kind.record());
            assert_eq!(schema["fields"][0]["name"], "stream");
            assert_eq!(schema["fields"][1]["name"], "seq");
        }
    }

    #[test]
    fn every_field_says_what_it_is() {
        for (kind, json) in SCHEMA_FILES {
            let schema: serde_json::Value = serde_json::from_str(json).unwrap();
            for field in schema["fields"].as_array().unwrap() {
                let doc = field["doc"].as_str().unwrap_or_default();
                assert!(
                    doc.ends_with(['.', '…']),
                    "{}.{} lacks its sentence",
                    kind.record(),
                    field["name"]
                );
            }
        }
    }
}
