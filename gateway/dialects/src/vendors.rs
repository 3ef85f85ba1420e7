//! The quirks table: one row per vendor.
//!
//! A vendor that speaks a dialect of another is a row here and nothing else; code asks a row what
//! it does, never what it is called. Each row names the page that its differences were taken from.

use http::header::{AUTHORIZATION, HeaderName, HeaderValue, InvalidHeaderValue};

use crate::api::{ClientApi, ProviderDialect, UpstreamApi};

/// A vendor, or a program that people run themselves.
#[derive(Debug)]
pub struct Vendor {
    /// What settings call it.
    pub name: &'static str,
    pub dialect: ProviderDialect,
    /// Where its API is, if it is in one place.
    pub base_url: Option<&'static str>,
    pub auth: Auth,
    pub paths: Paths,
    pub stream_usage: StreamUsage,
    /// Where its differences are documented.
    pub source: &'static str,
}

/// How a provider key is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `authorization: Bearer KEY`
    Bearer,
    /// The key alone in a header of its own.
    Header(&'static str),
}

/// Where the APIs are, after the base URL. `{model}` stands for the model's name. An API that the
/// vendor does not have is absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paths {
    pub chat: Option<&'static str>,
    pub embeddings: Option<&'static str>,
    pub responses: Option<&'static str>,
    pub messages: Option<&'static str>,
    pub count_tokens: Option<&'static str>,
    pub models: Option<&'static str>,
}

/// Whether a stream reports what it used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamUsage {
    /// If `stream_options.include_usage` is set.
    OnRequest,
    /// Without being asked; `stream_options` is not sent.
    Always,
}

const NO_PATHS: Paths = Paths {
    chat: None,
    embeddings: None,
    responses: None,
    messages: None,
    count_tokens: None,
    models: None,
};

const OPENAI_PATHS: Paths = Paths {
    chat: Some("/chat/completions"),
    embeddings: Some("/embeddings"),
    models: Some("/models"),
    ..NO_PATHS
};

const OPENAI: Vendor = Vendor {
    name: "openai",
    dialect: ProviderDialect::OpenAi,
    base_url: Some("https://api.openai.com/v1"),
    auth: Auth::Bearer,
    paths: Paths {
        responses: Some("/responses"),
        ..OPENAI_PATHS
    },
    stream_usage: StreamUsage::OnRequest,
    source: "https://platform.openai.com/docs/api-reference/chat",
};

static VENDORS: &[Vendor] = &[
    OPENAI,
    Vendor {
        name: "openai-compatible",
        base_url: None,
        paths: OPENAI_PATHS,
        ..OPENAI
    },
];

/// All rows, in the order of the table.
#[must_use]
pub fn all() -> &'static [Vendor] {
    VENDORS
}

/// The row of a name, as settings write it.
#[must_use]
pub fn find(name: &str) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| vendor.name == name)
}

impl Vendor {
    /// Which of its APIs answers a client's, if any does.
    #[must_use]
    pub fn upstream_api(&self, api: ClientApi) -> Option<UpstreamApi> {
        let paths = &self.paths;
        let has = |path: Option<&str>, upstream| path.map(|_| upstream);
        match api {
            ClientApi::ChatCompletions => has(paths.chat, UpstreamApi::ChatCompletions),
            ClientApi::Embeddings => has(paths.embeddings, UpstreamApi::Embeddings),
            ClientApi::Responses => has(paths.responses, UpstreamApi::Responses),
            ClientApi::Messages => has(paths.messages, UpstreamApi::Messages),
            ClientApi::CountTokens => has(paths.count_tokens, UpstreamApi::CountTokens),
        }
    }

    /// The header that shows a provider key, marked as a secret.
    ///
    /// # Errors
    ///
    /// When the key holds bytes that no header may hold, such as a line feed.
    pub fn auth_header(&self, key: &str) -> Result<(HeaderName, HeaderValue), InvalidHeaderValue> {
        let (name, mut value) = match self.auth {
            Auth::Bearer => (
                AUTHORIZATION,
                HeaderValue::try_from(format!("Bearer {key}"))?,
            ),
            Auth::Header(name) => (HeaderName::from_static(name), HeaderValue::try_from(key)?),
        };
        value.set_sensitive(true);
        Ok((name, value))
    }

    pub(crate) fn path(&self, api: UpstreamApi) -> Option<&'static str> {
        match api {
            UpstreamApi::ChatCompletions => self.paths.chat,
            UpstreamApi::Embeddings => self.paths.embeddings,
            UpstreamApi::Responses => self.paths.responses,
            UpstreamApi::Messages => self.paths.messages,
            UpstreamApi::CountTokens => self.paths.count_tokens,
            UpstreamApi::GenerateContent => None,
        }
    }
}
