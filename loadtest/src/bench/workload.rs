//! What is sent.

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rand::rngs::SmallRng;

use super::arrival::Planned;
use crate::body::{self, Chat};
use crate::chance;
use crate::client::HttpTarget;
use crate::dist::{Count, Distribution};

/// What each request asks for. Lengths are in tokens as the mock counts them (four bytes of prompt a token); a trace's own win.
#[derive(Clone, Debug)]
pub enum Workload {
    Chat {
        model: String,
        input_tokens: Count,
        /// Sent as `max_tokens`.
        output_tokens: Count,
        streamed: bool,
    },
    Embeddings {
        model: String,
        input_tokens: Count,
    },
    /// One body, sent as it stands to the base URL with `path` added.
    Fixed {
        path: String,
        body: Bytes,
    },
}

impl Default for Workload {
    fn default() -> Self {
        Self::Chat {
            model: "gpt-4o-mini".to_owned(),
            input_tokens: Count(Distribution::Fixed(64.0)),
            output_tokens: Count(Distribution::Fixed(16.0)),
            streamed: false,
        }
    }
}

impl Workload {
    /// For a person to read.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Chat {
                model,
                input_tokens,
                output_tokens,
                streamed,
            } => format!(
                "{} to {model}, {input_tokens} tokens in, {output_tokens} out",
                if *streamed {
                    "chat streams"
                } else {
                    "plain chat"
                }
            ),
            Self::Embeddings {
                model,
                input_tokens,
            } => {
                format!("embeddings from {model}, {input_tokens} tokens in")
            }
            Self::Fixed { path, body } => format!("a fixed body of {} bytes to {path}", body.len()),
        }
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
        let fixed = |count: &Count| matches!(count.0, Distribution::Fixed(_));
        let constant = match &workload {
            Workload::Chat {
                input_tokens,
                output_tokens,
                ..
            } => fixed(input_tokens) && fixed(output_tokens),
            Workload::Embeddings { input_tokens, .. } => fixed(input_tokens),
            Workload::Fixed { .. } => true,
        };
        let constant = constant.then(|| drawn(&workload, &mut chance::rng(seed, 0)));
        Self {
            target,
            workload,
            seed,
            constant,
        }
    }

    pub(super) fn request(&self, planned: &Planned) -> Request<Full<Bytes>> {
        let body = match (&self.constant, &planned.call) {
            (Some(body), None) => body.clone(),
            (_, Some(call)) => body(&self.workload, call.input_tokens, call.output_tokens),
            (None, None) => drawn(&self.workload, &mut chance::rng(self.seed, planned.number)),
        };
        self.target.post(self.path(), body)
    }

    fn path(&self) -> &str {
        match &self.workload {
            Workload::Chat { .. } => "/chat/completions",
            Workload::Embeddings { .. } => "/embeddings",
            Workload::Fixed { path, .. } => path,
        }
    }
}

/// A body whose sizes are drawn as the workload says.
fn drawn(workload: &Workload, rng: &mut SmallRng) -> Bytes {
    let (input_tokens, output_tokens) = match workload {
        Workload::Chat {
            input_tokens,
            output_tokens,
            ..
        } => (input_tokens.sample(rng), output_tokens.sample(rng)),
        Workload::Embeddings { input_tokens, .. } => (input_tokens.sample(rng), 0),
        Workload::Fixed { .. } => (0, 0),
    };
    body(workload, input_tokens, output_tokens)
}

fn body(workload: &Workload, input_tokens: u32, output_tokens: u32) -> Bytes {
    match workload {
        Workload::Chat {
            model, streamed, ..
        } => {
            let chat = Chat {
                model,
                input_tokens,
                output_tokens,
                streamed: *streamed,
                user: None,
                metadata: &[],
            };
            chat.json().into()
        }
        Workload::Embeddings { model, .. } => body::embeddings(model, input_tokens, None).into(),
        Workload::Fixed { body, .. } => body.clone(),
    }
}
