//! What clients send and get, kept where a rule says so.
//!
//! The way through: [`Payloads::begin`] looks at the rule for the key, and at the draw for the request;
//! the client's body is held as it is, without a copy, and the answer is put together while it passes
//! ([`weir_dialects::Transcript`]); when the events are written, [`PayloadCapture::close`] redacts both
//! ([`weir_redaction`]) and gives the event that goes into the journal with them.
//!
//! Nothing that was not redacted leaves this process, and what cannot be searched is left out. Where
//! nothing is kept, this costs a look at the rule. What is held at once is bounded; what is beyond is
//! left out, and the event says so.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use weir_dialects::{ClientApi, NoTranscript, Transcript};
use weir_redaction::{
    BadPattern, CustomPattern, Detail, Kept, Omitted, OptionalDetector, READ_BYTES_MAX, Redactions,
    Redactor,
};
use weir_schemas::event::{Event, PayloadCaptured};
use weir_schemas::{RequestId, Salt};

use crate::caps::{PAYLOAD_BEYOND_BYTES_MAX, PAYLOAD_KEPT_BYTES_MAX, PAYLOAD_KEPT_BYTES_MIN};
use crate::record::context::RequestContext;
use crate::record::trail::RequestRecord;
use crate::setup::config::PayloadsConfig;
use crate::setup::problem::ConfigProblem;
use weir_governance::clock::Moment;
use weir_governance::control::Identity;
use weir_governance::control::record::{Capture, CaptureMode};

/// What has no memory left for it.
const BUSY: &str = "busy";
/// What never came.
const NONE: &str = "none";

/// Keeps payloads. One for all workers.
#[derive(Debug)]
pub struct Payloads {
    /// Made when first needed, unless somebody's patterns must be looked at: its automata take memory
    /// that a gateway which keeps nothing can do without.
    redactor: OnceLock<Redactor>,
    optional: Vec<OptionalDetector>,
    default: Capture,
    bytes_max: usize,
    memory: Memory,
}

impl Payloads {
    /// Settings that can be used, or all that is wrong with them.
    pub fn build(config: &PayloadsConfig) -> Result<Self, Vec<ConfigProblem>> {
        let mut problems = Vec::new();
        let mut add = |setting: &str, message: String| {
            problems.push(ConfigProblem::new(setting, message).within("payloads"));
        };
        let default =
            Capture::new(config.capture, config.share).map_err(|bad| add(bad.setting, bad.message));
        let bytes_max = config.bytes_max;
        if !(PAYLOAD_KEPT_BYTES_MIN..=PAYLOAD_KEPT_BYTES_MAX).contains(&bytes_max) {
            let message = format!(
                "is {bytes_max}; it must be between {PAYLOAD_KEPT_BYTES_MIN} and {PAYLOAD_KEPT_BYTES_MAX}, so \
                 that an event with two of them fits into a message of Kafka's",
            );
            add("bytes_max", message);
        }
        let redactor = match config.patterns.is_empty() {
            true => OnceLock::new(),
            false => redactor_with_patterns(config, add).map_or_else(OnceLock::new, OnceLock::from),
        };
        match default {
            Ok(default) if problems.is_empty() => Ok(Self {
                redactor,
                optional: config.redact.clone(),
                default,
                bytes_max,
                memory: Memory::new(config.memory_bytes_max),
            }),
            _ => Err(problems),
        }
    }

    fn redactor(&self) -> &Redactor {
        #[expect(
            clippy::expect_used,
            reason = "a test makes it, with all that can be asked for"
        )]
        self.redactor.get_or_init(|| {
            Redactor::new(&self.optional, &[]).expect("what is built in can be used")
        })
    }

    /// Begins to keep a request's payload, if a rule says so and the draw is for it.
    pub(crate) fn begin(
        self: &Arc<Self>,
        identity: &Identity,
        request_id: RequestId,
        api: ClientApi,
        body: &Bytes,
    ) -> Option<Box<PayloadCapture>> {
        let capture = identity.policy().capture.unwrap_or(self.default);
        if capture.mode == CaptureMode::Off || !capture.share.holds(request_id) {
            return None;
        }
        let mut held = self.memory.reserve();
        let request = match held.take(body.len()) {
            true => Ok(body.clone()),
            false => Err(BUSY),
        };
        Some(Box::new(PayloadCapture {
            payloads: self.clone(),
            capture,
            api,
            request_bytes: body.len(),
            request,
            answer: Err(NONE),
            answer_bytes: 0,
            has_client_left: false,
            held,
        }))
    }

    /// Takes out what detectors find of what a provider said of an error: it may repeat what it got.
    pub(crate) fn clean(&self, message: &mut String) {
        if let Some(clean) = self.redactor().clean(message) {
            *message = clean;
        }
    }

    pub(crate) fn held_bytes(&self) -> Gauge {
        self.memory.gauge.clone()
    }
}

/// A redactor that looks for the operator's patterns too. `add` is told the setting that is wrong, and
/// the problem.
fn redactor_with_patterns(
    config: &PayloadsConfig,
    mut add: impl FnMut(&str, String),
) -> Option<Redactor> {
    let PayloadsConfig {
        redact, patterns, ..
    } = config;
    let made = Redactor::new(redact, patterns);
    if let Err(BadPattern { index, reason }) = &made {
        let (setting, of) = match index.and_then(|index| Some((index, patterns.get(index)?))) {
            Some((index, CustomPattern { name, .. })) => (
                format!("patterns[{index}].regex"),
                format!("of the pattern \"{name}\" "),
            ),
            None => ("patterns".to_owned(), String::new()),
        };
        add(&setting, format!("{of}cannot be used: {reason}"));
    }
    for (index, CustomPattern { name, .. }) in patterns.iter().enumerate() {
        let of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || !name.bytes().all(of_name) {
            add(
                &format!("patterns[{index}].name"),
                "must be letters, digits, _ and -: it stands in the place of what is found".into(),
            );
        }
    }
    made.ok()
}

/// The payload of one request, on its way.
#[derive(Debug)]
pub(crate) struct PayloadCapture {
    payloads: Arc<Payloads>,
    capture: Capture,
    api: ClientApi,
    request_bytes: usize,
    /// The body, or why it is left out.
    request: Result<Bytes, &'static str>,
    /// What there is of the answer, and whether it is a stream; or why it is left out.
    answer: Result<(Transcript, bool), &'static str>,
    answer_bytes: usize,
    /// What comes now the client does not get.
    has_client_left: bool,
    held: HeldMemory,
}

impl PayloadCapture {
    /// The answer begins.
    pub(crate) fn answer_begins(&mut self, is_stream: bool) {
        if self.has_client_left {
            return;
        }
        let bytes_max = match is_stream {
            true => self.payloads.bytes_max + PAYLOAD_BEYOND_BYTES_MAX,
            false => READ_BYTES_MAX,
        };
        self.answer = if is_stream && !self.held.take(bytes_max) {
            Err(BUSY)
        } else {
            Ok((Transcript::new(self.api, is_stream, bytes_max), is_stream))
        };
    }

    /// What the client gets next.
    pub(crate) fn answered(&mut self, piece: &Bytes) {
        if self.has_client_left {
            return;
        }
        self.answer_bytes += piece.len();
        if let Ok((transcript, is_stream)) = &mut self.answer {
            if *is_stream || self.held.take(piece.len()) {
                transcript.push(piece);
            } else {
                self.answer = Err(BUSY);
            }
        }
    }

    /// From here on the client gets nothing.
    pub(crate) fn client_left(&mut self) {
        self.has_client_left = true;
    }

    /// Redacts what was held. `is_complete` is whether the client got the whole answer.
    pub(crate) fn close(self, is_complete: bool) -> CapturedPayload {
        let payloads = &*self.payloads;
        let detail = match self.capture.mode {
            CaptureMode::Off | CaptureMode::Metadata => Detail::Structure,
            CaptureMode::Sampled | CaptureMode::Full => Detail::Text,
        };
        let keep = |body: &[u8]| {
            let kept = payloads.redactor().keep(body, detail, payloads.bytes_max);
            kept.map_err(Omitted::as_str)
        };
        let request = self.request.and_then(|body| keep(&body));
        let answer = self.answer.and_then(|(transcript, _)| {
            transcript.finish(is_complete).map_err(|none| match none {
                NoTranscript::Unreadable => Omitted::Unreadable.as_str(),
                NoTranscript::TooLarge => Omitted::TooLarge.as_str(),
            })
        });
        let is_cut = answer.as_ref().is_ok_and(|(_, is_cut)| *is_cut);
        let answer = answer.and_then(|(json, _)| keep(&json));
        let mut found = Redactions::default();
        for kept in [&request, &answer].into_iter().flatten() {
            found.count += kept.found.count;
            found.names.extend(kept.found.names.iter().cloned());
        }
        CapturedPayload {
            capture: self.capture,
            request_bytes: self.request_bytes as u64,
            answer_bytes: self.answer_bytes as u64,
            request,
            answer,
            is_cut,
            found,
            salt: Salt::new(Moment::now().unix_ms(), rand::random()),
        }
    }
}

/// What is kept of a payload.
#[derive(Debug)]
pub(crate) struct CapturedPayload {
    capture: Capture,
    request_bytes: u64,
    answer_bytes: u64,
    request: Result<Kept, &'static str>,
    answer: Result<Kept, &'static str>,
    /// Whether some of the answer is missing.
    is_cut: bool,
    found: Redactions,
    salt: Salt,
}

impl CapturedPayload {
    pub(crate) fn event<'a>(
        &'a self,
        context: &'a RequestContext,
        record: &RequestRecord,
    ) -> Event<'a> {
        let json =
            |side: &'a Result<Kept, &'static str>| side.as_ref().ok().map(|kept| &*kept.json);
        let omitted = |side: &'a Result<Kept, &'static str>| side.as_ref().err().copied();
        let is_truncated =
            |side: &Result<Kept, &'static str>| side.as_ref().is_ok_and(|kept| kept.is_truncated);
        Event::PayloadCaptured(Box::new(PayloadCaptured {
            ts_us: context.arrived.unix_us.into(),
            request_id: context.id,
            caller: context.caller(),
            dialect: context.dialect,
            alias: context.alias(),
            streamed: context.streamed,
            status: record.status,
            capture: self.capture.mode.as_str(),
            share: f64::from(self.capture.share),
            request_bytes: self.request_bytes.into(),
            answer_bytes: self.answer_bytes.into(),
            request: json(&self.request),
            answer: json(&self.answer),
            request_omitted: omitted(&self.request),
            answer_omitted: omitted(&self.answer),
            request_truncated: is_truncated(&self.request),
            answer_truncated: self.is_cut || is_truncated(&self.answer),
            redactions: self.found.count.into(),
            detectors: self.found.names.iter().map(String::as_str).collect(),
            salt: self.salt,
        }))
    }
}

/// What all payloads together may hold, in bytes. The gauge is the count.
#[derive(Clone, Debug)]
struct Memory {
    gauge: Gauge,
    bytes_max: i64,
}

impl Memory {
    fn new(bytes_max: usize) -> Self {
        Self {
            gauge: Gauge::default(),
            bytes_max: signed(bytes_max),
        }
    }

    fn reserve(&self) -> HeldMemory {
        HeldMemory {
            memory: self.clone(),
            bytes: 0,
        }
    }
}

/// What one payload holds. Given back when it is dropped.
#[derive(Debug)]
struct HeldMemory {
    memory: Memory,
    bytes: i64,
}

impl HeldMemory {
    /// Whether there was room for so much more.
    fn take(&mut self, bytes: usize) -> bool {
        let bytes = signed(bytes);
        let before = self.memory.gauge.inc_by(bytes);
        let has_room = before.saturating_add(bytes) <= self.memory.bytes_max;
        if has_room {
            self.bytes += bytes;
        } else {
            self.memory.gauge.dec_by(bytes);
        }
        has_room
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        self.memory.gauge.dec_by(self.bytes);
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(config: &PayloadsConfig) -> Vec<String> {
        let problems = Payloads::build(config).unwrap_err();
        let problems = problems.into_iter();
        problems
            .map(|it| format!("{}: {}", it.path, it.message))
            .collect()
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let config = PayloadsConfig {
            capture: CaptureMode::Sampled,
            bytes_max: 1 << 20,
            patterns: vec![
                CustomPattern {
                    name: "fine".into(),
                    regex: "E-[0-9]+".into(),
                },
                CustomPattern {
                    name: "bad one".into(),
                    regex: "(".into(),
                },
            ],
            ..PayloadsConfig::default()
        };
        let said = problems(&config);
        let expected = [
            "payloads.share: \"sampled\" needs the share",
            "payloads.bytes_max: is 1048576; it must be between 1024 and 393216",
            "payloads.patterns[1].regex: of the pattern \"bad one\" cannot be used: ",
            "payloads.patterns[1].name: must be letters",
        ];
        assert_eq!(said.len(), expected.len(), "{said:#?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.starts_with(expected), "{said}");
        }
        assert!(Payloads::build(&PayloadsConfig::default()).is_ok());
    }

    #[test]
    fn what_is_held_at_once_is_bounded_and_given_back() {
        let memory = Memory::new(100);
        let (mut one, mut other) = (memory.reserve(), memory.reserve());
        assert!(one.take(60) && !other.take(41) && other.take(40) && !one.take(1));
        assert_eq!(memory.gauge.get(), 100);
        drop(one);
        assert!(other.take(60));
        drop(other);
        assert_eq!(memory.gauge.get(), 0);
    }
}
