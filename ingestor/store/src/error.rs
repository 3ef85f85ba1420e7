//! Errors as ClickHouse words them: a code, a message, and the HTTP status that goes with the code.

use http::StatusCode;

/// One of ClickHouse's error codes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Code {
    pub(crate) number: u32,
    name: &'static str,
}

macro_rules! codes {
    ($($name:ident = $number:literal,)*) => {
        /// The codes that this facade answers with or acts on.
        pub(crate) mod code {
            use super::Code;
            $(pub(crate) const $name: Code = Code { number: $number, name: stringify!($name) };)*
        }
    };
}

codes! {
    BAD_ARGUMENTS = 36,
    CHECKSUM_DOESNT_MATCH = 40,
    NOT_IMPLEMENTED = 48,
    LOGICAL_ERROR = 49,
    SYNTAX_ERROR = 62,
    UNKNOWN_COMPRESSION_METHOD = 89,
    UNKNOWN_SETTING = 115,
    READONLY = 164,
    TOO_MANY_SIMULTANEOUS_QUERIES = 202,
    SOCKET_TIMEOUT = 209,
    QUERY_IS_TOO_LARGE = 229,
    CORRUPTED_DATA = 246,
    CANNOT_DECOMPRESS = 271,
    INTO_OUTFILE_NOT_ALLOWED = 358,
    QUERY_WAS_CANCELLED = 394,
    TOO_MANY_ROWS_OR_BYTES = 396,
    ACCESS_DENIED = 497,
    AUTHENTICATION_FAILED = 516,
    UNSUPPORTED_MEDIA_TYPE = 779,
}

/// What a statement ended with instead of a result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ServerError {
    /// ClickHouse's number for the error.
    pub code: u32,
    /// `Code: 60. DB::Exception: …`: what ClickHouse's clients read.
    pub message: String,
}

impl ServerError {
    /// An error of this facade, worded like the engine's.
    pub(crate) fn new(code: Code, message: &str) -> Self {
        let Code { number, name } = code;
        Self {
            code: number,
            message: format!("Code: {number}. DB::Exception: {message}. ({name})"),
        }
    }

    /// Something that should not have been able to happen.
    #[must_use]
    pub fn internal(message: &str) -> Self {
        Self::new(code::LOGICAL_ERROR, message)
    }

    #[must_use]
    pub fn syntax(message: &str) -> Self {
        Self::new(code::SYNTAX_ERROR, message)
    }

    #[must_use]
    pub fn bad_arguments(message: &str) -> Self {
        Self::new(code::BAD_ARGUMENTS, message)
    }

    /// An error in the engine's own words.
    #[must_use]
    pub fn from_engine(message: &str) -> Self {
        match exception_code(message) {
            Some(code) => Self {
                code,
                message: message.trim_end().to_owned(),
            },
            // A few refusals of the C interface come as bare sentences.
            None => Self::internal(message.trim_end()),
        }
    }

    /// The status that a ClickHouse server answers with, by its `exceptionCodeToHTTPStatus`.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.code {
            194 => StatusCode::UNAUTHORIZED,
            192 | 193 | 497 | 512 | 516 => StatusCode::FORBIDDEN,
            6 | 8 | 15 | 25 | 26 | 27 | 36 | 37 | 38 | 41 | 44 | 53 | 62 | 72 | 117 | 123 | 167
            | 168 | 223 | 321 | 376 | 427 | 441 | 675 | 676 => StatusCode::BAD_REQUEST,
            46 | 47 | 50 | 56 | 60 | 63 | 73 | 78 | 81 | 115 | 152 | 336 | 511 => {
                StatusCode::NOT_FOUND
            }
            159 => StatusCode::REQUEST_TIMEOUT,
            229 => StatusCode::PAYLOAD_TOO_LARGE,
            779 => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            48 => StatusCode::NOT_IMPLEMENTED,
            // 202, too many queries, is a 500 there: 503 says better that it is worth a retry.
            76 | 202 | 209 | 439 => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// The number in `Code: 60. DB::Exception: …`.
pub(crate) fn exception_code(message: &str) -> Option<u32> {
    let rest = message.trim_start().strip_prefix("Code: ")?;
    rest[..rest.find(|c: char| !c.is_ascii_digit())?]
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_words_keep_their_code() {
        let error = ServerError::from_engine(
            "Code: 60. DB::Exception: Table default.t does not exist. (UNKNOWN_TABLE)\n",
        );
        assert_eq!((error.code, error.status()), (60, StatusCode::NOT_FOUND));
        assert_eq!(
            error.message,
            "Code: 60. DB::Exception: Table default.t does not exist. (UNKNOWN_TABLE)"
        );
    }

    #[test]
    fn a_bare_sentence_becomes_an_error_with_a_code() {
        let error = ServerError::from_engine("Invalid or closed connection");
        assert_eq!(error.code, code::LOGICAL_ERROR.number);
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            exception_code(&error.message),
            Some(code::LOGICAL_ERROR.number)
        );
    }

    #[test]
    fn numbers_are_read_only_where_an_error_has_them() {
        assert_eq!(exception_code("Code: 62. DB::Exception: x"), Some(62));
        assert_eq!(exception_code("code 62"), None);
        assert_eq!(exception_code("Code: "), None);
        assert_eq!(exception_code("Code: 99999999999999. x"), None);
    }
}
