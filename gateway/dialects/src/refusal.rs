//! Why a request cannot be sent to a target.

use schemars::JsonSchema;
use serde::Deserialize;
use thiserror::Error;

use crate::error::{ApiError, ApiErrorKind};
use crate::json::InvalidField;

/// What happens to what a translation cannot carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unsupported {
    /// The request is answered 400, which names the field.
    #[default]
    Refuse,
    /// It is left out, and the response header `x-weir-dropped` lists it.
    Drop,
}

/// Why a request cannot be sent to a target.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PrepareError {
    #[error("{vendor} has no API that serves {api}")]
    NoSuchApi {
        api: &'static str,
        vendor: &'static str,
    },
    #[error(transparent)]
    Invalid(#[from] InvalidField),
    #[error(
        "`{field}` is not supported by {target}, which serves this model; {}remove it, or configure \
         the gateway to drop unsupported fields",
        .instead.map_or(String::new(), |instead| format!("use {instead}, "))
    )]
    Unsupported {
        field: String,
        target: &'static str,
        /// What to use instead, if there is such a thing.
        instead: Option<&'static str>,
    },
    #[error("the model name `{model}` cannot be part of a URL")]
    UnsafeModel { model: String },
}

impl PrepareError {
    /// The field at fault, if it is one field.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid(InvalidField { field, .. }) | Self::Unsupported { field, .. } => {
                Some(field)
            }
            Self::NoSuchApi { .. } | Self::UnsafeModel { .. } => None,
        }
    }
}

impl From<&PrepareError> for ApiError<'static> {
    fn from(error: &PrepareError) -> Self {
        let kind = match error {
            PrepareError::Invalid(_) => ApiErrorKind::InvalidRequest,
            PrepareError::NoSuchApi { .. } | PrepareError::Unsupported { .. } => {
                ApiErrorKind::Unsupported
            }
            // The name is the gateway's own setting.
            PrepareError::UnsafeModel { .. } => ApiErrorKind::Internal,
        };
        Self {
            param: error.field().map(|field| field.to_owned().into()),
            ..Self::new(kind, error.to_string())
        }
    }
}
