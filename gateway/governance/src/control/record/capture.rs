//! Rules on what is kept of prompts and answers.

use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_schemas::RequestId;

use super::Scope;

/// What is kept of prompts and answers.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "snake_case")]
pub enum CaptureMode {
    /// Nothing.
    #[default]
    Off,
    /// The structure of request and answer: roles, sizes, names of models and tools, parameters. No
    /// text.
    Metadata,
    /// The redacted text of a share of the requests, drawn by their id.
    Sampled,
    /// The redacted text of every request.
    Full,
}

impl CaptureMode {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Metadata => "metadata",
            Self::Sampled => "sampled",
            Self::Full => "full",
        }
    }
}

/// A share, 0.000001 to 1.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "f64", into = "f64")]
#[schemars(with = "f64", rename = "Share")]
pub struct SampleShare(
    /// Millionths.
    u32,
);

impl SampleShare {
    pub const ALL: Self = Self(1_000_000);

    /// Whether a request is among the share. All gateways say the same of a request.
    #[must_use]
    pub fn holds(self, request_id: RequestId) -> bool {
        // SplitMix64 (Steele, Lea, Flood 2014): any change of the id changes about half the bits.
        let (high, low) = request_id.as_uuid().as_u64_pair();
        let mut mixed = high.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ low;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        mixed % u64::from(Self::ALL.0) < u64::from(self.0)
    }
}

impl From<SampleShare> for f64 {
    fn from(share: SampleShare) -> Self {
        Self::from(share.0) / Self::from(SampleShare::ALL.0)
    }
}

impl FromStr for SampleShare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: f64 = text
            .parse()
            .map_err(|_| format!("\"{text}\" is not a number"))?;
        Self::try_from(number)
    }
}

impl TryFrom<f64> for SampleShare {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        let millionths = (share * f64::from(Self::ALL.0)).round();
        if !(1.0..=f64::from(Self::ALL.0)).contains(&millionths) {
            return Err(format!(
                "{share} is not a share: write a number from 0.000001 to 1"
            ));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it is between 1 and a million"
        )]
        Ok(Self(millionths as u32))
    }
}

/// What is kept of the payloads of some requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capture {
    pub mode: CaptureMode,
    pub share: SampleShare,
}

/// A setting of what is kept that does not go with the others.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {message}")]
pub struct CaptureError {
    pub setting: &'static str,
    pub message: String,
}

impl Capture {
    pub fn new(mode: CaptureMode, share: Option<SampleShare>) -> Result<Self, CaptureError> {
        let message = match (mode, share) {
            (CaptureMode::Sampled, Some(share)) => return Ok(Self { mode, share }),
            (CaptureMode::Sampled, None) => {
                "\"sampled\" needs the share of the requests, such as 0.01".into()
            }
            (_, Some(_)) => {
                let mode = mode.as_str();
                format!("has no effect with \"{mode}\"; it belongs to \"sampled\"")
            }
            (_, None) => {
                let share = SampleShare::ALL;
                return Ok(Self { mode, share });
            }
        };
        let setting = "share";
        Err(CaptureError { setting, message })
    }
}

/// What is kept of prompts and answers. Of the rules that hold for a key the one with the narrowest
/// scope decides: key before user, project, team, organisation, environment and tier. Of two with the
/// same scope the one that keeps less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PayloadRecord {
    /// Name of the rule.
    pub id: String,
    #[serde(default)]
    pub scope: Scope,
    pub capture: CaptureMode,
    /// With `sampled`: share of the requests that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<SampleShare>,
}

impl PayloadRecord {
    pub(super) fn check(&self) -> Result<(), String> {
        if self.scope.is_dynamic() {
            return Err(
                "scope: model and customer say nothing about what is kept of payloads".into(),
            );
        }
        let capture = Capture::new(self.capture, self.share);
        capture.map(|_| ()).map_err(|bad| bad.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_requests_is_drawn_by_their_ids() {
        for bad in ["0", "0.0000001", "1.1", "-1", "NaN", "x"] {
            assert!(bad.parse::<SampleShare>().is_err(), "{bad}");
        }
        let drawn = |share: &str| {
            let share: SampleShare = share.parse().unwrap();
            let of = |n: u64| {
                let mut random = [0; 10];
                random[2..].copy_from_slice(&n.to_le_bytes());
                share.holds(RequestId::new(1_700_000_000_000 + n / 7, random))
            };
            (0..100_000).filter(|n| of(*n)).count()
        };
        assert_eq!(drawn("1"), 100_000);
        // Five standard deviations of a fair draw.
        assert!(drawn("0.25").abs_diff(25_000) < 700, "{}", drawn("0.25"));
        assert!(drawn("0.01").abs_diff(1_000) < 160, "{}", drawn("0.01"));
    }
}
