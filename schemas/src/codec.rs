//! Events to bytes and back: Avro single-object encoding.
//!
//! The first ten bytes name the schema that wrote the rest, so a reader decodes events of every
//! version it knows: one with fewer fields reads with the missing ones at their defaults, one with
//! more has them skipped.

use std::fmt;
use std::io::Read as _;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_avro_fast::Schema;
use serde_avro_fast::ser::SerializerConfig;

use crate::event::Event;

/// Marker of single-object encoding, and the length of the fingerprint behind it.
const MARKER: [u8; 2] = [0xC3, 0x01];
const HEADER_BYTES: usize = 10;

/// A record of the log, in one version. Versions stay here for as long as the log may hold them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaFile {
    pub record: &'static str,
    pub version: u32,
    pub json: &'static str,
}

macro_rules! schema_files {
    ($($record:literal $version:literal $file:literal;)*) => {
        /// Every schema that was ever in use, oldest version first.
        pub const SCHEMA_FILES: &[SchemaFile] = &[$(SchemaFile {
            record: $record,
            version: $version,
            json: include_str!(concat!("../avro/", $file)),
        }),*];
    };
}

schema_files! {
    "RequestFinished" 1 "request_finished.v1.avsc";
    "AttemptFinished" 1 "attempt_finished.v1.avsc";
    "ControlChanged" 1 "control_changed.v1.avsc";
    "StreamOpened" 1 "stream_opened.v1.avsc";
    "StreamClosed" 1 "stream_closed.v1.avsc";
    "EventsDropped" 1 "events_dropped.v1.avsc";
    "DeploymentStateChanged" 1 "deployment_state_changed.v1.avsc";
    "RoutingTableAdopted" 1 "routing_table_adopted.v1.avsc";
    "Correction" 1 "correction.v1.avsc";
    "PayloadCaptured" 1 "payload_captured.v1.avsc";
}

/// Which variant of [`Event`] a schema describes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    RequestFinished,
    AttemptFinished,
    ControlChanged,
    StreamOpened,
    StreamClosed,
    EventsDropped,
    DeploymentStateChanged,
    RoutingTableAdopted,
    Correction,
    PayloadCaptured,
}

impl Kind {
    const ALL: [Self; 10] = [
        Self::RequestFinished,
        Self::AttemptFinished,
        Self::ControlChanged,
        Self::StreamOpened,
        Self::StreamClosed,
        Self::EventsDropped,
        Self::DeploymentStateChanged,
        Self::RoutingTableAdopted,
        Self::Correction,
        Self::PayloadCaptured,
    ];

    const fn record(self) -> &'static str {
        match self {
            Self::RequestFinished => "RequestFinished",
            Self::AttemptFinished => "AttemptFinished",
            Self::ControlChanged => "ControlChanged",
            Self::StreamOpened => "StreamOpened",
            Self::StreamClosed => "StreamClosed",
            Self::EventsDropped => "EventsDropped",
            Self::DeploymentStateChanged => "DeploymentStateChanged",
            Self::RoutingTableAdopted => "RoutingTableAdopted",
            Self::Correction => "Correction",
            Self::PayloadCaptured => "PayloadCaptured",
        }
    }

    fn of(event: &Event<'_>) -> Self {
        match event {
            Event::RequestFinished(_) => Self::RequestFinished,
            Event::AttemptFinished(_) => Self::AttemptFinished,
            Event::ControlChanged(_) => Self::ControlChanged,
            Event::StreamOpened(_) => Self::StreamOpened,
            Event::StreamClosed(_) => Self::StreamClosed,
            Event::EventsDropped(_) => Self::EventsDropped,
            Event::DeploymentStateChanged(_) => Self::DeploymentStateChanged,
            Event::RoutingTableAdopted(_) => Self::RoutingTableAdopted,
            Event::Correction(_) => Self::Correction,
            Event::PayloadCaptured(_) => Self::PayloadCaptured,
        }
    }
}

struct KnownSchema {
    kind: Kind,
    schema: Schema,
}

/// The schemas, parsed once. Events of a kind are written with the newest of its versions.
struct Registry {
    known: Vec<KnownSchema>,
    newest: [usize; Kind::ALL.len()],
}

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::parse);

impl Registry {
    #[expect(
        clippy::expect_used,
        reason = "the files are part of the program; a test parses them"
    )]
    fn parse() -> Self {
        let mut known = Vec::with_capacity(SCHEMA_FILES.len());
        let mut newest = [0; Kind::ALL.len()];
        for file in SCHEMA_FILES {
            let index = Kind::ALL
                .iter()
                .position(|kind| kind.record() == file.record)
                .expect("a schema file names a known record");
            newest[index] = known.len();
            let schema = file.json.parse().expect("a schema file is valid Avro");
            known.push(KnownSchema {
                kind: Kind::ALL[index],
                schema,
            });
        }
        Self { known, newest }
    }

    fn newest(&self, kind: Kind) -> &Schema {
        &self.known[self.newest[kind as usize]].schema
    }

    fn by_fingerprint(&self, fingerprint: &[u8]) -> Option<&KnownSchema> {
        self.known
            .iter()
            .find(|known| known.schema.rabin_fingerprint() == fingerprint)
    }
}

/// An event could not be written: it holds a number that Avro has no room for.
#[derive(Debug, thiserror::Error)]
#[error("encode event: {0}")]
pub struct EncodeError(#[from] serde_avro_fast::ser::SerError);

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

/// Writes events one after the other. Keep one per writer: its buffers are reused.
pub struct Encoder {
    configs: [SerializerConfig<'static>; Kind::ALL.len()],
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    #[must_use]
    pub fn new() -> Self {
        Self {
            configs: Kind::ALL.map(|kind| SerializerConfig::new(REGISTRY.newest(kind))),
        }
    }

    /// Appends the event to `out`. On error `out` is as it was.
    pub fn encode(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        let config = &mut self.configs[Kind::of(event) as usize];
        let written = match event {
            Event::RequestFinished(event) => write(event, config, out),
            Event::AttemptFinished(event) => write(event, config, out),
            Event::ControlChanged(event) => write(event, config, out),
            Event::StreamOpened(event) => write(event, config, out),
            Event::StreamClosed(event) => write(event, config, out),
            Event::EventsDropped(event) => write(event, config, out),
            Event::DeploymentStateChanged(event) => write(event, config, out),
            Event::RoutingTableAdopted(event) => write(event, config, out),
            Event::Correction(event) => write(event, config, out),
            Event::PayloadCaptured(event) => write(event, config, out),
        };
        if written.is_err() {
            out.truncate(start);
        }
        written
    }
}

fn write<T: Serialize>(
    record: &T,
    config: &mut SerializerConfig<'static>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    serde_avro_fast::to_single_object(record, out, config)?;
    Ok(())
}

/// Reads one event. Its text points into `payload`.
pub fn decode(payload: &[u8]) -> Result<Event<'_>, DecodeError> {
    let not_single_object = || DecodeError::NotSingleObject {
        bytes: payload.len(),
    };
    let (header, datum) = payload
        .split_at_checked(HEADER_BYTES)
        .ok_or_else(not_single_object)?;
    let fingerprint = header.strip_prefix(&MARKER).ok_or_else(not_single_object)?;
    let Some(known) = REGISTRY.by_fingerprint(fingerprint) else {
        return Err(DecodeError::UnknownSchema {
            fingerprint: hex(fingerprint),
        });
    };
    Ok(match known.kind {
        Kind::RequestFinished => Event::RequestFinished(Box::new(read(known, datum)?)),
        Kind::AttemptFinished => Event::AttemptFinished(Box::new(read(known, datum)?)),
        Kind::ControlChanged => Event::ControlChanged(read(known, datum)?),
        Kind::StreamOpened => Event::StreamOpened(read(known, datum)?),
        Kind::StreamClosed => Event::StreamClosed(read(known, datum)?),
        Kind::EventsDropped => Event::EventsDropped(read(known, datum)?),
        Kind::DeploymentStateChanged => Event::DeploymentStateChanged(read(known, datum)?),
        Kind::RoutingTableAdopted => Event::RoutingTableAdopted(read(known, datum)?),
        Kind::Correction => Event::Correction(read(known, datum)?),
        Kind::PayloadCaptured => Event::PayloadCaptured(Box::new(read(known, datum)?)),
    })
}

fn read<'a, T: Deserialize<'a>>(
    known: &'static KnownSchema,
    datum: &'a [u8],
) -> Result<T, DecodeError> {
    let record = known.kind.record();
    let slice = serde_avro_fast::de::read::SliceRead::new(datum);
    let config = serde_avro_fast::de::DeserializerConfig::new(&known.schema);
    let mut state = serde_avro_fast::de::DeserializerState::with_config(slice, config);
    let event = T::deserialize(state.deserializer())
        .map_err(|source| DecodeError::Malformed { record, source })?;
    match state.into_reader().read(&mut [0; 1]) {
        Ok(0) => Ok(event),
        _ => Err(DecodeError::TrailingBytes { record }),
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{
        AttemptFinished, Caller, Candidate, PayloadCaptured, RequestFinished, StreamOpened, Tags,
    };
    use crate::ids::{RequestId, Salt, StreamId};
    use crate::usage::Usage;

    fn encode(event: &Event<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        Encoder::new().encode(event, &mut bytes).unwrap();
        bytes
    }

    fn stream() -> StreamId {
        StreamId::new(1_700_000_000_000, [1; 10])
    }

    fn stream_opened() -> Event<'static> {
        Event::StreamOpened(StreamOpened {
            stream: stream(),
            seq: 1,
            ts_us: 1_700_000_000_000_000,
            instance: "gw-1",
            process: "gateway",
            shard: 0,
            version: "0.1.0",
        })
    }

    #[test]
    fn an_event_reads_back_as_it_was_written() {
        let event = stream_opened();
        assert_eq!(decode(&encode(&event)).unwrap(), event);
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
    fn an_unknown_schema_is_named_by_its_fingerprint() {
        let mut bytes = encode(&stream_opened());
        bytes[2..10].copy_from_slice(&[0xAB; 8]);
        let message = decode(&bytes).unwrap_err().to_string();
        assert!(message.contains("abababababababab"), "{message}");
    }

    #[test]
    fn a_number_beyond_avro_is_an_error_that_leaves_the_buffer_as_it_was() {
        let mut event = stream_opened();
        event.stamp(stream(), u64::MAX);
        let mut bytes = vec![1, 2, 3];
        assert!(Encoder::new().encode(&event, &mut bytes).is_err());
        assert_eq!(bytes, [1, 2, 3]);
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
            let usage = Usage { input_tokens: count, output_tokens: Some(0), ..Usage::default() };
            let request_id = RequestId::new(number >> 20, [3; 10]);
            let request = Event::RequestFinished(Box::new(RequestFinished {
                stream: stream(),
                seq: number,
                ts_us: number,
                request_id,
                client_request_id: optional,
                trace_id: None,
                caller: caller.clone(),
                client_ip: Some("127.0.0.1"),
                user_agent: optional,
                dialect: "openai.chat",
                alias: Some(text),
                streamed: present,
                request_bytes: number,
                max_output_tokens: count,
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
                response_bytes: number,
                usage,
                usage_source: "reported",
                cost_pico_usd: present.then_some(crate::money::PicoUsd(-5)),
                waste_pico_usd: None,
                price_version: optional,
                queue_us: 0,
                overhead_us: 12,
                ttft_us: count,
                total_us: number,
                strategy: Some("chain"),
                table_version: None,
                route_seed: count,
                candidates: vec![
                    Candidate { target: text, score: Some(0.5), propensity: 0.25 };
                    tag_count
                ],
                cache_verdict: None,
                guard_verdict: None,
                limit_verdict: None,
                service_tier: optional,
                last_resort: optional,
            }));
            let bytes = encode(&request);
            prop_assert_eq!(decode(&bytes).unwrap(), request);

            let attempt = Event::AttemptFinished(Box::new(AttemptFinished {
                stream: stream(),
                seq: number,
                ts_us: number,
                request_id,
                attempt: 2,
                kind: "retry",
                cause: optional,
                delay_us: number,
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
                retry_after_us: count,
                delivered: present,
                upstream_request_id: optional,
                finish_reason: None,
                connection_reused: present,
                request_bytes: number,
                response_bytes: number,
                usage,
                usage_source: "none",
                cost_pico_usd: None,
                price_version: None,
                connect_us: count,
                headers_us: count,
                ttft_us: count,
                total_us: number,
                strategy: optional,
                table_version: count,
                propensity: present.then_some(0.5),
                service_tier: optional,
            }));
            let bytes = encode(&attempt);
            prop_assert_eq!(decode(&bytes).unwrap(), attempt);
        }

        #[test]
        fn captured_payloads_read_back(
            text in ".*", other in ".*", present: bool, number in 0_u64..i64::MAX as u64,
        ) {
            let optional = present.then_some(text.as_str());
            let payload = Event::PayloadCaptured(Box::new(PayloadCaptured {
                stream: stream(),
                seq: number,
                ts_us: number,
                request_id: RequestId::new(1_700_000_000_000, [2; 10]),
                caller: Caller { team: optional, ..Caller::default() },
                dialect: "anthropic.messages",
                alias: optional,
                streamed: present,
                status: 200,
                capture: "sampled",
                share: 0.25,
                request_bytes: number,
                answer_bytes: number,
                request: optional,
                answer: Some(&other),
                request_omitted: optional,
                answer_omitted: None,
                request_truncated: present,
                answer_truncated: !present,
                redactions: number,
                detectors: vec![text.as_str(); usize::from(present)],
                salt: Salt::new(0, [9; 10]),
            }));
            let bytes = encode(&payload);
            prop_assert_eq!(decode(&bytes).unwrap(), payload);
        }

        #[test]
        fn hostile_payloads_are_errors_and_never_panics(bytes: Vec<u8>, datum: Vec<u8>) {
            let _ = decode(&bytes);
            for known in &REGISTRY.known {
                let header = [&MARKER[..], known.schema.rabin_fingerprint()].concat();
                let _ = decode(&[header, datum.clone()].concat());
            }
        }
    }

    /// Every version of a record must read what every other version wrote, both ways: readers and
    /// writers are upgraded in any order, and the log holds 90 days of all of them.
    #[test]
    fn schema_versions_are_fully_and_transitively_compatible() {
        use apache_avro::schema_compatibility::SchemaCompatibility;

        let parsed: Vec<_> = SCHEMA_FILES
            .iter()
            .map(|file| (file, apache_avro::Schema::parse_str(file.json).unwrap()))
            .collect();
        let mut pairs_checked = 0;
        for (writer_file, writer) in &parsed {
            for (reader_file, reader) in parsed.iter().filter(|r| r.0.record == writer_file.record)
            {
                SchemaCompatibility::can_read(writer, reader).unwrap_or_else(|error| {
                    panic!(
                        "{} v{} cannot read v{}: {error}",
                        writer_file.record, reader_file.version, writer_file.version
                    )
                });
                pairs_checked += 1;
            }
        }
        assert!(pairs_checked >= SCHEMA_FILES.len());
    }

    #[test]
    fn every_field_says_what_it_is() {
        for file in SCHEMA_FILES {
            let schema: serde_json::Value = serde_json::from_str(file.json).unwrap();
            for field in schema["fields"].as_array().unwrap() {
                let doc = field["doc"].as_str().unwrap_or_default();
                assert!(
                    doc.ends_with(['.', '…']),
                    "{}.{} lacks its sentence",
                    file.record,
                    field["name"]
                );
            }
        }
    }
}
