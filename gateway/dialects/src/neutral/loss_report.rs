//! What a target cannot express, and what becomes of it.

use super::CacheMarks;
use crate::api::ClientApi;
use crate::refusal::{PrepareError, Unsupported};

/// A feature that a target may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    Format,
    StrictTools,
    ToolChoice,
    ParallelTools,
    Stop,
    Temperature,
    TopP,
    TopK,
    Penalties,
    Seed,
    Reasoning,
    Images,
    Audio,
    Files,
    FileUrls,
    FileName,
    /// The resolution at which an image is read.
    ImageDetail,
    /// The description of the answer's format.
    FormatDescription,
    /// The flag that a tool's result is an error.
    ToolError,
    /// Content that only the other side may send.
    Misplaced,
    /// An answer that the client began and the model is to continue.
    Prefill,
    User,
}

impl Feature {
    /// The name of the field in the client's API.
    const fn field(self, api: ClientApi) -> &'static str {
        use ClientApi::{CountTokens, Messages, Responses};
        match (self, api) {
            (Self::Format, Messages | CountTokens) => "output_config.format",
            (Self::Format, Responses) => "text.format",
            (Self::Format, _) => "response_format",
            (Self::StrictTools, Messages | CountTokens | Responses) => "tools[].strict",
            (Self::StrictTools, _) => "tools[].function.strict",
            (Self::ToolChoice, _) => "tool_choice",
            (Self::ParallelTools, Messages | CountTokens) => {
                "tool_choice.disable_parallel_tool_use"
            }
            (Self::ParallelTools, _) => "parallel_tool_calls",
            (Self::Stop, Messages | CountTokens) => "stop_sequences",
            (Self::Stop, _) => "stop",
            (Self::Temperature, _) => "temperature",
            (Self::TopP, _) => "top_p",
            (Self::TopK, _) => "top_k",
            (Self::Penalties, _) => "frequency_penalty, presence_penalty",
            (Self::Seed, _) => "seed",
            (Self::Reasoning, Messages | CountTokens) => "thinking",
            (Self::Reasoning, Responses) => "reasoning",
            (Self::Reasoning, _) => "reasoning_effort",
            (Self::Images, Responses) => "input[].content[].input_image",
            (Self::Images, Messages | CountTokens) => "messages[].content[].image",
            (Self::Images, _) => "messages[].content[].image_url",
            (Self::Audio, Responses) => "input[].content[].input_audio",
            (Self::Audio, _) => "messages[].content[].input_audio",
            (Self::Files, Responses) => "input[].content[].input_file",
            (Self::Files, Messages | CountTokens) => "messages[].content[].document",
            (Self::Files, _) => "messages[].content[].file",
            (Self::FileName, Responses) => "input[].content[].filename",
            (Self::FileName, Messages | CountTokens) => "messages[].content[].title",
            (Self::FileName, _) => "messages[].content[].file.filename",
            (Self::ImageDetail, Responses) => "input[].content[].detail",
            (Self::ImageDetail, _) => "messages[].content[].image_url.detail",
            (Self::FormatDescription, Responses) => "text.format.description",
            (Self::FormatDescription, _) => "response_format.json_schema.description",
            (Self::ToolError, _) => "messages[].content[].is_error",
            (Self::Misplaced, Responses) => "input[].content[]",
            (Self::Misplaced, _) => "messages[].content[]",
            (Self::Prefill, _) => "messages[] (an answer to continue)",
            (Self::User, Messages | CountTokens) => "metadata.user_id",
            (Self::User, _) => "user",
            (Self::FileUrls, Responses) => "input[].content[].input_file.file_url",
            (Self::FileUrls, _) => "messages[].content[].source.url",
        }
    }
}

/// What becomes of the fields that a target does not get.
///
/// Under [`Unsupported::Refuse`] the first field that would change the answer refuses the request;
/// reading and writing go on to the end, and [`Self::finish`] returns the refusal.
#[derive(Debug)]
pub(crate) struct LossReport {
    policy: Unsupported,
    api: ClientApi,
    target: &'static str,
    pub(crate) cache_marks: CacheMarks,
    /// Whether client and target both speak an API of OpenAI's.
    pub(super) shares_openai_fields: bool,
    dropped: Vec<String>,
    refusal: Option<PrepareError>,
}

impl LossReport {
    pub(crate) const fn new(
        policy: Unsupported,
        api: ClientApi,
        target: &'static str,
        cache_marks: CacheMarks,
        shares_openai_fields: bool,
    ) -> Self {
        Self {
            policy,
            api,
            target,
            cache_marks,
            shares_openai_fields,
            dropped: Vec::new(),
            refusal: None,
        }
    }

    /// The client asked for a feature that the target lacks.
    pub(crate) fn unsupported(&mut self, feature: Feature) {
        self.unsupported_field(feature.field(self.api));
    }

    /// The target does what the client asked for in its own way.
    pub(crate) fn approximated(&mut self, feature: Feature) {
        self.ignored(feature.field(self.api));
    }

    /// The target cannot express a field that would change the answer.
    pub(crate) fn unsupported_field(&mut self, field: impl Into<String>) {
        let field = field.into();
        match self.policy {
            Unsupported::Drop => self.ignored(field),
            Unsupported::Refuse => {
                let target = self.target;
                self.refusal
                    .get_or_insert(PrepareError::Unsupported { field, target });
            }
        }
    }

    /// The target does without a field that changes cost, speed or bookkeeping. It is dropped under
    /// every policy, and listed once.
    pub(crate) fn ignored(&mut self, field: impl Into<String>) {
        let field = field.into();
        if !self.dropped.contains(&field) {
            self.dropped.push(field);
        }
    }

    /// The fields that were dropped, or why the request is refused.
    pub(crate) fn finish(self) -> Result<Vec<String>, PrepareError> {
        match self.refusal {
            None => Ok(self.dropped),
            Some(refusal) => Err(refusal),
        }
    }
}
