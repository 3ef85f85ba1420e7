//! What is sent.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rand::rngs::SmallRng;

use super::arrival::Planned;
use crate::body::Chat;
use crate::chance;
use crate::client::HttpTarget;
use crate::dist::{Distribution, TokenCount};

/// What each request asks of chat completions. Lengths are in tokens as the mock counts them (four bytes of prompt a token); a
/// trace's own win.
#[derive(Clone, Debug)]
pub struct Workload {
    pub model: String,
    pub input_tokens: TokenCount,
    /// Sent as `max_tokens`.
    pub output_tokens: TokenCount,
    pub streamed: bool,
}

impl Default for Workload {
    fn default() -> Self {
        Self {
            model: "gpt-4o-mini".to_owned(),
            input_tokens: TokenCount(Distribution::Fixed(64.0)),
            output_tokens: TokenCount(Distribution::Fixed(16.0)),
            streamed: false,
        }
    }
}

impl Workload {
    /// For a person to read.
    #[must_use]
    pub fn describe(&self) -> String {
        let what = if self.streamed {
            "chat streams"
        } else {
            "plain chat"
        };
        format!(
            "{what} to {}, {} tokens in, {} out",
            self.model, self.input_tokens, self.output_tokens
        )
    }

    fn body(&self, input_tokens: u32, output_tokens: u32) -> Bytes {
        let chat = Chat {
            model: &self.model,
            input_tokens,
            output_tokens,
            streamed: self.streamed,
            user: None,
            metadata: &[],
        };
        chat.json().into()
    }

    /// A body whose sizes are drawn.
    fn drawn(&self, rng: &mut SmallRng) -> Bytes {
        let input_tokens = self.input_tokens.sample(rng);
        self.body(input_tokens, self.output_tokens.sample(rng))
    }
}

/// Makes requests; what is the same for all of them is made once.
#[derive(Debug)]
pub(super) struct Maker {
    target: HttpTarget,
    workload: Workload,
    seed: u64,
    /// The body, when it never changes.
    constant: Option<Bytes>,
}

impl Maker {
    pub(super) fn new(target: HttpTarget, workload: Workload, seed: u64) -> Self {
        let sizes = [workload.input_tokens, workload.output_tokens];
        let fixed = sizes
            .iter()
            .all(|count| matches!(count.0, Distribution::Fixed(_)));
        Self {
            constant: fixed.then(|| workload.drawn(&mut chance::rng(seed, 0))),
            target,
            workload,
            seed,
        }
    }

    pub(super) fn request(&self, planned: &Planned) -> Request<Full<Bytes>> {
        let workload = &self.workload;
        let body = match (&planned.call, &self.constant) {
            (Some(call), _) => workload.body(call.input_tokens, call.output_tokens),
            (None, Some(body)) => body.clone(),
            (None, None) => workload.drawn(&mut chance::rng(self.seed, planned.number)),
        };
        self.target.post("/chat/completions", body)
    }
}
