//! What the stages of a request pass on: who sent it, when, and what it asks for.

use weir_governance::clock::Moment;
use weir_governance::control::Identity;
use weir_governance::control::policy::Subject;
use weir_schemas::RequestId;
use weir_schemas::event::Caller;

use crate::caps::EVENT_TEXT_BYTES_MAX;
use crate::record::labels::Labels;

/// A request's identity, for its stages and for all of its events.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    pub(crate) id: RequestId,
    pub(crate) arrived: Moment,
    pub(crate) dialect: &'static str,
    /// Customer, feature and tags that the application named.
    pub(crate) labels: Labels,
    /// `None` until the key is authenticated.
    pub(crate) identity: Option<Identity>,
    /// User that the application named in the request; the key's own user takes precedence.
    pub(crate) user: Option<String>,
    /// Model or alias that the client asked for.
    pub(crate) model: Option<String>,
    pub(crate) streamed: bool,
}

impl RequestContext {
    pub(crate) fn new(
        id: RequestId,
        arrived: Moment,
        dialect: &'static str,
        labels: Labels,
    ) -> Self {
        Self {
            id,
            arrived,
            dialect,
            labels,
            identity: None,
            user: None,
            model: None,
            streamed: false,
        }
    }

    /// What rules are matched against; `None` before authentication.
    pub(crate) fn subject(&self) -> Option<Subject<'_>> {
        let identity = self.identity.as_ref()?;
        Some(Subject {
            caller: identity.caller(self.user.as_deref(), self.labels.customer.as_deref()),
            model: self.model.as_deref().unwrap_or_default(),
        })
    }

    /// The model or alias, as events carry it.
    pub(super) fn alias(&self) -> Option<&str> {
        self.model.as_deref().map(shorten)
    }

    pub(super) fn caller(&self) -> Caller<'_> {
        let user = self.user.as_deref();
        let Some(identity) = &self.identity else {
            return Caller {
                user,
                ..Caller::default()
            };
        };
        Caller {
            feature: self.labels.feature.as_deref(),
            tags: self.labels.tags(),
            ..identity.caller(user, self.labels.customer.as_deref())
        }
    }
}

/// Cuts a text at a character's border.
pub(super) fn shorten(text: &str) -> &str {
    if text.len() <= EVENT_TEXT_BYTES_MAX {
        return text;
    }
    &text[..text.floor_char_boundary(EVENT_TEXT_BYTES_MAX)]
}
