//! Signatures of reasoning, and how clients of other dialects carry them.

use crate::json::{Text, word_of};

/// What a provider gives out with its reasoning and wants back unchanged: a signature, or the
/// reasoning itself, encrypted.
///
/// Clients of other dialects keep it in a field of their own dialect, marked with its origin. A
/// provider would refuse another provider's signature and never sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReasoningSignature<'a> {
    pub(crate) origin: SignatureOrigin,
    pub(crate) value: Text<'a>,
    /// Whether the value is the reasoning itself, without text beside it.
    pub(crate) is_encrypted: bool,
}

/// The provider that signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SignatureOrigin {
    Anthropic,
    Gemini,
    OpenAiResponses,
    /// Whoever answers behind OpenRouter.
    OpenRouter,
    /// A provider without signatures, for clients that require a value.
    Unsigned,
}

impl SignatureOrigin {
    const ALL: [(Self, &'static str); 5] = [
        (Self::Anthropic, "anthropic"),
        (Self::Gemini, "gemini"),
        (Self::OpenAiResponses, "responses"),
        (Self::OpenRouter, "openrouter"),
        (Self::Unsigned, "unsigned"),
    ];
}

/// Prefix of the values that this gateway marked. Base64 has no full stop, so no provider's own
/// value begins like this.
pub(crate) const SIGNATURE_MARK: &str = "weir.";

impl<'a> ReasoningSignature<'a> {
    pub(crate) const UNSIGNED: ReasoningSignature<'static> =
        ReasoningSignature::plain(SignatureOrigin::Unsigned, Text::EMPTY);

    pub(crate) const fn plain(origin: SignatureOrigin, value: Text<'a>) -> Self {
        Self {
            origin,
            value,
            is_encrypted: false,
        }
    }

    pub(crate) const fn encrypted(origin: SignatureOrigin, value: Text<'a>) -> Self {
        Self {
            origin,
            value,
            is_encrypted: true,
        }
    }

    pub(crate) fn to_owned(&self) -> ReasoningSignature<'static> {
        ReasoningSignature {
            value: self.value.clone().into_owned(),
            ..*self
        }
    }

    /// The value as a client of another dialect keeps it: `weir.anthropic.s.VALUE`.
    pub(crate) fn marked(&self) -> Text<'static> {
        let origin = word_of(&SignatureOrigin::ALL, &self.origin);
        let kind = if self.is_encrypted { 'e' } else { 's' };
        let mut text = Text::owned(format!("{SIGNATURE_MARK}{origin}.{kind}."));
        text.push(&self.value);
        text
    }

    /// Reads a value that a client returned. `None` if this gateway did not mark it.
    pub(crate) fn from_marked(text: &Text<'_>) -> Option<ReasoningSignature<'static>> {
        let rest = text.strip_prefix(SIGNATURE_MARK)?;
        SignatureOrigin::ALL.into_iter().find_map(|(origin, name)| {
            let rest = rest.strip_prefix(name)?;
            if let Some(value) = rest.strip_prefix(".s.") {
                return Some(ReasoningSignature::plain(origin, value.into_owned()));
            }
            let value = rest.strip_prefix(".e.")?.into_owned();
            Some(ReasoningSignature::encrypted(origin, value))
        })
    }
}
