//! Every limit of this crate, in one place.

/// Longest model name that a client may send, in bytes.
pub const MODEL_BYTES_MAX: usize = 256;

/// Entries of a request's `metadata` that are read; the rest is passed on unread.
pub const METADATA_ENTRIES_MAX: usize = 16;

/// Longest key or value of `metadata` that is read, in bytes; OpenAI allows 64 and 512.
pub const METADATA_VALUE_BYTES_MAX: usize = 512;

/// Longest end-user name that is read, in bytes.
pub const USER_BYTES_MAX: usize = 512;

/// Largest unfinished SSE event that is held back. A larger one is passed on unread where client
/// and provider speak the same dialect, and ends the stream where they do not.
pub const EVENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Blanks at the beginning of an answer after which its form is what its header says, in bytes. Some
/// servers send one every few seconds until the answer begins.
pub const OPENING_BYTES_MAX: usize = 16 * 1024;

/// White space at the beginning of a text that waits for what the text says, in bytes as JSON writes it.
pub const BLANK_BYTES_MAX: usize = 1024;

/// What is held back of a translated stream until its turn, in bytes: calls without a name, calls
/// beside another one, and what follows them. More ends the stream with an error.
pub const HELD_BACK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Calls, or items of a responses stream, that one answer may have. More make it malformed.
pub const CALLS_MAX: usize = 4096;

/// Largest response that is collected to be translated. Responses that need no translation are
/// never collected.
pub const TRANSLATED_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Largest value that is captured from a response on its way through, in bytes.
pub const CAPTURE_BYTES_MAX: usize = 64 * 1024;

/// Longest model name or id that is taken over from a response, in bytes.
pub const RESPONSE_NAME_BYTES_MAX: usize = 256;

/// How much of an answer's text is kept while it passes, in bytes. If the provider reports no usage,
/// tokens are estimated from this sample.
pub const TEXT_SAMPLE_BYTES_MAX: usize = 8 * 1024;

/// Longest error message that is taken over from a provider, in bytes.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 2048;

/// Request bodies up to this size are rewritten into one buffer. Larger ones share the unedited
/// parts with the client's body.
pub const COPIED_BODY_BYTES_MAX: usize = 16 * 1024;

/// Longest key of a response that is compared with the wanted ones, in bytes.
pub(crate) const MATCHED_KEY_BYTES_MAX: usize = 40;

/// Longest beginning of a chat chunk that is compared with the next chunk's, in bytes.
pub(crate) const CHUNK_HEAD_BYTES_MAX: usize = 1024;

/// Longest service tier that is taken over from a response, in bytes.
pub(crate) const TIER_BYTES_MAX: usize = 64;

/// Models beside its own that one call may name. What is consumed at further ones is summed under
/// [`FURTHER_MODELS`], which has no price.
pub(crate) const OTHER_MODELS_MAX: usize = 32;
pub(crate) const FURTHER_MODELS: &str = "(further models)";

/// Most answers that a client may ask for at once. OpenAI takes 128.
pub(crate) const CHOICES_MAX: u64 = 1_000;

/// Largest count of a usage that is believed, and largest limit on output tokens that is taken. Servers
/// that do not count write -1, and some write it unsigned, in 32 or 64 bits.
pub(crate) const COUNT_MAX: u64 = 1_000_000_000;

/// Most tokens of a total that its parts do not have and that are believed to be of the answer. No
/// model writes or thinks a million tokens in one answer; what is more counts something else.
pub(crate) const SURPLUS_TOKENS_MAX: u64 = 1 << 20;

/// Longest number that an error message repeats, in bytes.
pub(crate) const SHOWN_NUMBER_BYTES_MAX: usize = 32;

/// Longest model name that an error message repeats, in characters.
pub(crate) const SHOWN_MODEL_CHARS_MAX: usize = 80;

/// Longest media type that an error message repeats, in characters.
pub(crate) const SHOWN_MEDIA_TYPE_CHARS_MAX: usize = 80;

/// Shortest text in a request that is looked at as an inline file, in bytes.
pub(crate) const INLINE_FILE_BYTES_MIN: usize = 256;

/// Longest pause that a provider's `retry-after` can ask for.
pub(crate) const RETRY_AFTER_MAX: std::time::Duration = std::time::Duration::from_secs(86_400_000);

/// Longest name of an end user for OpenAI. Others take more, such as OpenRouter 128.
pub(crate) const OPENAI_USER_CHARS_MAX: usize = 64;

/// Longest id of a call that OpenAI's chat takes.
pub(crate) const CHAT_CALL_ID_CHARS_MAX: usize = 40;

/// Longest id of a call that OpenAI's responses take.
pub(crate) const RESPONSES_CALL_ID_CHARS_MAX: usize = 64;

/// Least `max_output_tokens` that OpenAI's responses take; to less the answer is 400,
/// `integer_below_min_value`.
pub(crate) const RESPONSES_OUTPUT_TOKENS_MIN: u64 = 16;

/// Longest name or kind in a transcript that does not count against its limit, in bytes.
pub(crate) const TRANSCRIPT_NAME_BYTES_MAX: usize = 256;

/// Overhead of each value in a transcript beside its text, in bytes.
pub(crate) const TRANSCRIPT_VALUE_BYTES: usize = 16;

/// Most citations that are passed on of one answer.
pub(crate) const CITATIONS_MAX: usize = 1000;
