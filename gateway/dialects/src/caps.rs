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

/// Largest response that is collected to be translated. Responses that need no translation are
/// never collected.
pub const TRANSLATED_BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Largest value that is captured from a response on its way through, in bytes.
pub const CAPTURE_BYTES_MAX: usize = 16 * 1024;

/// Longest model name or id that is taken over from a response, in bytes.
pub const RESPONSE_NAME_BYTES_MAX: usize = 256;

/// Most of an answer's text that is kept while it passes, in bytes: for an estimate of its tokens,
/// should the provider not say them. The rest counts like it.
pub const TEXT_SAMPLE_BYTES_MAX: usize = 8 * 1024;

/// Longest error message that is taken over from a provider, in bytes.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 2048;

/// Request bodies up to this size are rewritten into one buffer; of larger ones only the edited
/// places are new, and the rest is shared with what the client sent.
pub const COPIED_BODY_BYTES_MAX: usize = 16 * 1024;
