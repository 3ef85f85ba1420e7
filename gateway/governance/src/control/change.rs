//! Making a change: an event that says who changed what, then the control log.
//!
//! A crash in between leaves an audit row of a change that did not happen, and never a change
//! without its audit row.

use weir_eventlog::{AppendError, StreamWriter};
use weir_schemas::RequestId;
use weir_schemas::event::{ControlChanged, Event};

use super::Control;
use super::log::LogError;
use super::record::{Change, Record};

/// A change that was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("{kind} {id}: {problem}")]
    Invalid {
        kind: &'static str,
        id: String,
        problem: String,
    },
    #[error(
        "the change is recorded, but not in force here yet: it will be when this gateway can read the \
         control log"
    )]
    NotInForce,
    #[error("the control log cannot be followed here: {0}")]
    NotFollowed(String),
    #[error("record the change: {0}")]
    Record(#[from] AppendError),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Who changes something, when, and what they call it.
#[derive(Clone, Copy, Debug)]
pub struct Act<'a> {
    pub actor: &'a str,
    /// create, update, rotate, revoke, delete.
    pub action: &'static str,
    pub now_ms: u64,
}

impl Control {
    /// Makes a change. When this returns, it is in the log, and every gateway will see it; the id tells
    /// when they have.
    pub fn change(
        &self,
        stream: &StreamWriter,
        act: &Act<'_>,
        before: Option<&Record>,
        change: &Change,
    ) -> Result<RequestId, ChangeError> {
        if let Some(record) = &change.record {
            record.check().map_err(|problem| ChangeError::Invalid {
                kind: change.kind.as_str(),
                id: change.id.clone(),
                problem,
            })?;
        }
        let shown = |record: &Record| record.public().to_string();
        let (before, after) = (before.map(shown), change.record.as_ref().map(shown));
        let event = control_event(
            act,
            change.kind.as_str(),
            &change.id,
            before.as_deref(),
            after.as_deref(),
        );
        let id = event.change_id;
        // Dropped here: what is written is in the log.
        let _ = stream.append(&[Event::ControlChanged(event)])?;
        self.append(&Change {
            change_id: Some(id.to_string()),
            ..change.clone()
        })?;
        Ok(id)
    }
}

/// The event of a change, or of something that happened to what is controlled.
#[must_use]
pub fn control_event<'a>(
    act: &Act<'a>,
    object_kind: &'a str,
    object_id: &'a str,
    before: Option<&'a str>,
    after: Option<&'a str>,
) -> ControlChanged<'a> {
    ControlChanged {
        ts_us: act.now_ms.saturating_mul(1000).into(),
        change_id: RequestId::new(act.now_ms, rand::random()),
        actor: act.actor,
        action: act.action,
        object_kind,
        object_id,
        before,
        after,
    }
}
