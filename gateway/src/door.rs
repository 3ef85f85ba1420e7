//! The decision about a request by itself, for measuring what it costs: whose key it is, and what it
//! takes of limits and budgets. Nothing is served here.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use arc_swap::ArcSwap;
use http::HeaderMap;
use weir_dialects::{ClientApi, RequestFacts};
use weir_limits::Class;
use weir_schemas::PicoUsd;

use crate::admit::{self, Admitted, Estimate};
use crate::control::key::HashKey;
use crate::control::record::Change;
use crate::control::{Identity, LastUse, Snapshot};
use crate::directory::Cost;

const API: ClientApi = ClientApi::ChatCompletions;

/// Keys and rules, and the way past them.
pub struct Door {
    hash_key: HashKey,
    snapshot: ArcSwap<Snapshot>,
}

/// A request that was let in. Dropped, it gives back what it took.
pub struct LetIn {
    identity: Identity,
    admitted: Admitted,
}

impl LetIn {
    /// What the client is told of its limits and budgets.
    #[must_use]
    pub fn headers(&self, model: &str, now_us: u64) -> HeaderMap {
        let subject = self.identity.subject(model, None, None);
        let policy = self.identity.policy();
        let told = &self.admitted.told;
        told.headers(policy, &subject, API.family(), now_us)
    }
}

impl Door {
    #[must_use]
    pub fn new(hash_key: HashKey, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut snapshot = Snapshot::default();
        snapshot.apply(changes);
        Self {
            hash_key,
            snapshot: ArcSwap::from_pointee(snapshot),
        }
    }

    /// What a request of the pipeline goes through between its headers and its routing. `None` if it
    /// is refused.
    #[must_use]
    pub fn let_in(&self, key: &str, model: &str, price: PicoUsd, now_us: u64) -> Option<LetIn> {
        let snapshot = self.snapshot.load();
        let identity = snapshot.authenticate(&self.hash_key, key, now_us / 1000);
        let identity = identity.ok()?;
        identity.note_use(LastUse {
            at_ms: now_us / 1000,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        });
        let facts = RequestFacts::default();
        let estimate = Estimate::of(API, &facts, 100).priced(&identity, |_| Cost {
            dearest: Some(price),
            ..Cost::default()
        });
        let subject = identity.subject(model, None, None);
        let class = Class::Interactive;
        let admitted = admit::admit(&identity, &subject, class, &estimate, API.family(), now_us);
        let admitted = admitted.ok()?;
        Some(LetIn { identity, admitted })
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

impl fmt::Debug for LetIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LetIn")
    }
}
