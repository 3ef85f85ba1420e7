//! What a target cannot express, and what becomes of it.

use super::{CacheMarks, is_default};
use crate::api::{ClientApi, Family};
use crate::refusal::{PrepareError, Unsupported};

/// A feature that a target may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Feature {
    Format,
    StrictTools,
    Tools,
    /// The schema of a tool's arguments.
    ToolSchema,
    /// The schema of the answer's format.
    FormatSchema,
    /// Whether the answer's format is enforced.
    FormatStrict,
    ToolChoice,
    ParallelTools,
    Stop,
    /// The limit on an answer's tokens.
    TokenLimit,
    /// How many answers are asked for at once.
    Choices,
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
    /// A conversation that the assistant begins.
    FirstMessage,
    /// A message that holds nothing but white space.
    Blank,
    /// White space at the end of an answer that the client began.
    PrefillEnd,
    /// An answer that the client began and the model is to continue.
    Prefill,
    User,
    Verbosity,
}

impl Feature {
    /// The name of the field in the client's API.
    fn field(self, api: ClientApi) -> String {
        let (column, content) = match api {
            ClientApi::ChatCompletions | ClientApi::Embeddings => (0, "messages[].content[]"),
            ClientApi::Messages | ClientApi::CountTokens => (1, "messages[].content[]"),
            ClientApi::Responses => (2, "input[].content[]"),
        };
        self.names()[column].replace('*', content)
    }

    /// The field in chat, messages and responses. `*` stands for a part of content.
    const fn names(self) -> [&'static str; 3] {
        match self {
            Self::Format => ["response_format", "output_config.format", "text.format"],
            Self::StrictTools => [
                "tools[].function.strict",
                "tools[].strict",
                "tools[].strict",
            ],
            Self::Tools => ["tools"; 3],
            Self::ToolSchema => [
                "tools[].function.parameters",
                "tools[].input_schema",
                "tools[].parameters",
            ],
            Self::FormatSchema => [
                "response_format.json_schema.schema",
                "output_config.format.schema",
                "text.format.schema",
            ],
            Self::FormatStrict => [
                "response_format.json_schema.strict",
                "output_config.format (strict)",
                "text.format.strict",
            ],
            Self::ToolChoice => ["tool_choice"; 3],
            Self::ParallelTools => [
                "parallel_tool_calls",
                "tool_choice.disable_parallel_tool_use",
                "parallel_tool_calls",
            ],
            Self::Stop => ["stop", "stop_sequences", "stop"],
            Self::TokenLimit => ["max_completion_tokens", "max_tokens", "max_output_tokens"],
            Self::Choices => ["n"; 3],
            Self::Temperature => ["temperature"; 3],
            Self::TopP => ["top_p"; 3],
            Self::TopK => ["top_k"; 3],
            Self::Penalties => ["frequency_penalty, presence_penalty"; 3],
            Self::Seed => ["seed"; 3],
            Self::Reasoning => ["reasoning_effort", "thinking", "reasoning"],
            Self::Images => ["*.image_url", "*.image", "*.input_image"],
            Self::Audio => ["*.input_audio"; 3],
            Self::Files => ["*.file", "*.document", "*.input_file"],
            Self::FileUrls => ["*.source.url", "*.source.url", "*.input_file.file_url"],
            Self::FileName => ["*.file.filename", "*.title", "*.filename"],
            Self::ImageDetail => ["*.image_url.detail", "*.image_url.detail", "*.detail"],
            Self::FormatDescription => [
                "response_format.json_schema.description",
                "response_format.json_schema.description",
                "text.format.description",
            ],
            Self::ToolError => ["messages[].content[].is_error"; 3],
            Self::Misplaced => ["*"; 3],
            Self::FirstMessage => [
                "messages[0].role (assistant)",
                "messages[0].role (assistant)",
                "input[0].role (assistant)",
            ],
            Self::Blank => [
                "messages[].content (blank)",
                "messages[].content (blank)",
                "input[].content (blank)",
            ],
            Self::PrefillEnd => [
                "messages[].content (white space at the end)",
                "messages[].content (white space at the end)",
                "input[].content (white space at the end)",
            ],
            Self::Prefill => [
                "messages[] (an answer to continue)",
                "messages[] (an answer to continue)",
                "input[] (an answer to continue)",
            ],
            Self::User => ["user", "metadata.user_id", "user"],
            Self::Verbosity => ["verbosity", "verbosity", "text.verbosity"],
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
    /// The family of the client's API.
    pub(crate) const fn family(&self) -> Family {
        self.api.family()
    }

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

    /// The target lacks one kind of a feature.
    pub(crate) fn unsupported_kind(&mut self, feature: Feature, kind: &str) {
        self.unsupported_field(format!("{} ({kind})", feature.field(self.api)));
    }

    /// The target lacks one kind of a feature, and has another to use instead.
    pub(crate) fn unsupported_but(&mut self, feature: Feature, kind: &str, instead: &'static str) {
        let field = format!("{} ({kind})", feature.field(self.api));
        self.lose(field, Some(instead));
    }

    /// The target does what the client asked for in its own way.
    pub(crate) fn approximated(&mut self, feature: Feature) {
        self.ignored(feature.field(self.api));
    }

    pub(crate) fn approximated_kind(&mut self, feature: Feature, kind: &str) {
        self.ignored(format!("{} ({kind})", feature.field(self.api)));
    }

    pub(crate) fn approximated_if(&mut self, is_asked: bool, feature: Feature) {
        if is_asked {
            self.approximated(feature);
        }
    }

    /// A value that the target takes, or else lacks.
    pub(crate) fn supported<T>(
        &mut self,
        value: Option<T>,
        is_supported: bool,
        feature: Feature,
    ) -> Option<T> {
        if value.is_some() && !is_supported {
            self.unsupported(feature);
        }
        value.filter(|_| is_supported)
    }

    /// A parameter of sampling that the model takes, or else lacks. Its default value says nothing,
    /// so it is left out where it would be refused.
    pub(crate) fn sampling(
        &mut self,
        value: Option<f64>,
        is_taken: bool,
        feature: Feature,
    ) -> Option<f64> {
        if !is_taken && value.is_some_and(is_default) {
            self.approximated(feature);
            return None;
        }
        self.supported(value, is_taken, feature)
    }

    /// The limit on an answer's tokens, between the API's least and the model's own.
    pub(crate) fn token_limit(
        &mut self,
        asked: Option<u64>,
        least: u64,
        most: Option<u64>,
    ) -> Option<u64> {
        let most = most.unwrap_or(u64::MAX);
        let within = asked.map(|asked| asked.max(least).min(most));
        self.approximated_if(within != asked, Feature::TokenLimit);
        within
    }

    /// Whether a choice of tools holds. A model that cannot be forced chooses itself.
    pub(crate) fn tool_choice(&mut self, is_forced: bool, can_force: bool) -> bool {
        let is_taken = can_force || !is_forced;
        if !is_taken {
            self.unsupported(Feature::ToolChoice);
        }
        is_taken
    }

    /// The target cannot express a field that would change the answer.
    pub(crate) fn unsupported_field(&mut self, field: impl Into<String>) {
        self.lose(field.into(), None);
    }

    fn lose(&mut self, field: String, instead: Option<&'static str>) {
        match self.policy {
            Unsupported::Drop => self.ignored(field),
            Unsupported::Refuse => self.refuse(field, instead),
        }
    }

    /// The target cannot express a field without which nothing is left to ask for, so it refuses the
    /// request under every policy.
    pub(crate) fn refused_field(&mut self, field: impl Into<String>) {
        self.refuse(field.into(), None);
    }

    fn refuse(&mut self, field: String, instead: Option<&'static str>) {
        self.refusal.get_or_insert(PrepareError::Unsupported {
            field,
            target: self.target,
            instead,
        });
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
