//! All keys and rules at one moment, as requests read them.
//!
//! A snapshot that requests read never changes. The follower of the log clones it, applies the changes
//! to the clone and puts that in its place; what did not change is shared between the two.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use weir_limits::Class;
use weir_schemas::event::Caller;

use super::key::{HashKey, KeyHash, KeyId, KeyIdText};
use super::last_used::{LastUse, Noted};
use super::network::Network;
use super::policy::{Policy, Rules};
use super::record::{
    Change, KeyRecord, Kind, PreviousKey, Record, TeamRecord, TokenRecord, is_denied,
};
use super::rule_set::KeyAttributes;

/// Why a key opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    #[error("this is not a Weir key: keys start with weir_; check that it was copied whole")]
    Malformed,
    #[error("the API key is unknown")]
    Unknown,
    #[error("this API key was revoked")]
    Revoked,
    #[error("this API key was rotated and its grace period has ended")]
    Rotated,
    #[error("this API key has expired")]
    Expired,
}

/// A virtual key. There may be hundreds of thousands, so what many have in common is shared.
///
/// In the order of C: what every request reads lies together, and first.
#[derive(Debug)]
#[repr(C)]
pub struct Key {
    hash: KeyHash,
    shared: Arc<SharedByKeys>,
    own: Option<Box<KeyOverrides>>,
    /// `u64::MAX` if never.
    expires_ms: u64,
    /// As bytes, which lie closer together than the number.
    id: [u8; 16],
    user: Option<Box<str>>,
    used: Noted,
    created_ms: u64,
}

/// What keys with the same attributes have in common.
#[derive(Debug)]
struct SharedByKeys {
    declared: KeyAttributes,
    /// The team's, unless the key has its own.
    organisation: Option<Box<str>>,
    tier: Option<Box<str>>,
    policy: Policy,
}

/// What only few keys have.
#[derive(Clone, Debug, Default, PartialEq)]
struct KeyOverrides {
    previous: Option<PreviousKey>,
    revoked_ms: Option<u64>,
    models: Vec<String>,
    models_denied: Vec<String>,
    networks: Vec<Network>,
    class: Class,
}

impl Key {
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(u128::from_ne_bytes(self.id))
    }

    #[must_use]
    pub fn team(&self) -> Option<&str> {
        self.shared.declared.team.as_deref()
    }

    fn is_revoked(&self) -> bool {
        self.own
            .as_ref()
            .is_some_and(|own| own.revoked_ms.is_some())
    }

    /// When it was last used here, and from where, if it was.
    #[must_use]
    pub fn last_use(&self) -> Option<LastUse> {
        self.used.get()
    }

    /// Notes a use, at most one a second.
    pub fn note_use(&self, used: LastUse) {
        self.used.note(used);
    }

    /// The key as the log holds it.
    #[must_use]
    pub fn record(&self) -> KeyRecord {
        let text = |value: &Option<Box<str>>| value.as_deref().map(str::to_owned);
        let declared = &self.shared.declared;
        let own = self.own.as_deref().cloned().unwrap_or_default();
        KeyRecord {
            id: self.id(),
            hash: self.hash,
            previous: own.previous,
            organisation: text(&declared.organisation),
            team: text(&declared.team),
            project: text(&declared.project),
            user: text(&self.user),
            environment: text(&declared.environment),
            tier: text(&declared.tier),
            models: own.models,
            models_denied: own.models_denied,
            networks: own.networks,
            class: own.class,
            created_ms: self.created_ms,
            expires_ms: Some(self.expires_ms).filter(|ms| *ms < u64::MAX),
            revoked_ms: own.revoked_ms,
        }
    }

    fn previous(&self) -> Option<&PreviousKey> {
        self.own.as_ref()?.previous.as_ref()
    }
}

/// Whom a request comes from: a key that was good when it arrived.
#[derive(Clone, Debug)]
pub struct Identity {
    key: Arc<Key>,
    key_id: KeyIdText,
}

impl Identity {
    fn new(key: Arc<Key>) -> Self {
        let key_id = key.id().into();
        Self { key, key_id }
    }

    #[must_use]
    pub fn key_id(&self) -> &str {
        self.key_id.as_str()
    }

    /// Notes that the key was used.
    pub fn note_use(&self, used: LastUse) {
        self.key.note_use(used);
    }

    #[must_use]
    pub fn organisation(&self) -> Option<&str> {
        self.key.shared.organisation.as_deref()
    }

    #[must_use]
    pub fn team(&self) -> Option<&str> {
        self.key.team()
    }

    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.key.user.as_deref()
    }

    #[must_use]
    pub fn environment(&self) -> Option<&str> {
        self.key.shared.declared.environment.as_deref()
    }

    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.key.shared.policy
    }

    #[must_use]
    pub fn class(&self) -> Class {
        self.key
            .own
            .as_ref()
            .map_or(Class::Interactive, |own| own.class)
    }

    /// Networks that the key itself may be used from; all if empty.
    #[must_use]
    pub fn networks(&self) -> &[Network] {
        self.key.own.as_ref().map_or(&[], |own| &own.networks)
    }

    /// Who calls, with what the application named: a user, if the key has none, and a customer.
    #[must_use]
    pub fn caller<'a>(&'a self, user: Option<&'a str>, customer: Option<&'a str>) -> Caller<'a> {
        Caller {
            organisation: self.organisation(),
            team: self.team(),
            project: self.key.shared.declared.project.as_deref(),
            user: self.user().or(user),
            key_id: Some(self.key_id()),
            environment: self.environment(),
            tier: self.key.shared.tier.as_deref(),
            customer,
            ..Caller::default()
        }
    }

    /// Whether an alias may be used, or which rule is against it.
    pub fn may_use<'a>(&'a self, model: &str) -> Result<(), ModelDenied<'a>> {
        let contact = self.policy().contact.as_deref();
        if let Some(own) = self.key.own.as_deref()
            && is_denied(&own.models, &own.models_denied, model)
        {
            return Err(ModelDenied {
                rule: None,
                contact,
            });
        }
        for access in &self.policy().access {
            if is_denied(&access.models_allowed, &access.models_denied, model) {
                return Err(ModelDenied {
                    rule: Some(&access.id),
                    contact: access.contact.as_deref().or(contact),
                });
            }
        }
        Ok(())
    }
}

/// A rule that is against a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelDenied<'a> {
    /// The access rule; the key itself if there is none.
    pub rule: Option<&'a str>,
    /// Whom to ask.
    pub contact: Option<&'a str>,
}

/// All keys and rules at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    by_hash: HashTable<Arc<Key>>,
    by_id: HashTable<Arc<Key>>,
    /// Keys that were rotated and may still work, by their old hash.
    rotated: HashMap<KeyHash, KeyId>,
    /// By what keys declare.
    shared: HashTable<Arc<SharedByKeys>>,
    hasher: RandomState,
    rules: Arc<Rules>,
    /// Everything but keys.
    records: Arc<BTreeMap<(Kind, String), Arc<Record>>>,
    tokens: HashMap<KeyHash, Arc<TokenRecord>>,
}

impl Snapshot {
    /// Finds whom a presented key stands for. Costs one hash and one look-up, however many keys
    /// there are; what is looked up is a keyed hash, so its timing says nothing about the keys.
    pub fn authenticate(
        &self,
        hash_key: &HashKey,
        presented: &str,
        now_ms: u64,
    ) -> Result<Identity, KeyRefusal> {
        let hash = hash_key.hash(presented).ok_or(KeyRefusal::Malformed)?;
        let found = self.by_hash.find(hash.prefix(), |key| key.hash == hash);
        let key = match found {
            Some(key) => key,
            None => self.rotated(&hash, now_ms)?,
        };
        if key.is_revoked() {
            return Err(KeyRefusal::Revoked);
        }
        if key.expires_ms <= now_ms {
            return Err(KeyRefusal::Expired);
        }
        Ok(Identity::new(key.clone()))
    }

    fn rotated(&self, hash: &KeyHash, now_ms: u64) -> Result<&Arc<Key>, KeyRefusal> {
        let id = self.rotated.get(hash).ok_or(KeyRefusal::Unknown)?;
        let key = self.key(*id).ok_or(KeyRefusal::Unknown)?;
        let until_ms = key.previous().map_or(0, |previous| previous.until_ms);
        if until_ms <= now_ms {
            return Err(KeyRefusal::Rotated);
        }
        Ok(key)
    }

    #[must_use]
    pub fn key(&self, id: KeyId) -> Option<&Arc<Key>> {
        let hash = self.hasher.hash_one(id);
        self.by_id.find(hash, |key| key.id() == id)
    }

    /// All keys, in the order in which they were made.
    #[must_use]
    pub fn keys(&self) -> Vec<&Arc<Key>> {
        let mut keys: Vec<&Arc<Key>> = self.by_id.iter().collect();
        keys.sort_unstable_by_key(|key| (key.created_ms, key.id()));
        keys
    }

    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The record of a kind and id, keys included.
    #[must_use]
    pub fn record(&self, kind: Kind, id: &str) -> Option<Record> {
        if kind == Kind::Key {
            return Some(Record::Key(self.key(id.parse().ok()?)?.record()));
        }
        let record = self.records.get(&(kind, id.to_owned()))?;
        Some(Record::clone(record))
    }

    /// Everything of a kind but keys, by id.
    pub fn records(&self, kind: Kind) -> impl Iterator<Item = &Arc<Record>> {
        self.records
            .iter()
            .filter(move |((of, _), _)| *of == kind)
            .map(|(_, record)| record)
    }

    /// What a log would have to say for this to follow from it.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        let records = self.records.values();
        let rules = records.map(|record| Change::set(Record::clone(record)));
        let keys = self.keys().into_iter();
        rules
            .chain(keys.map(|key| Change::set(Record::Key(key.record()))))
            .collect()
    }

    /// Whom an admin token stands for.
    #[must_use]
    pub fn token(&self, hash_key: &HashKey, presented: &str, now_ms: u64) -> Option<&TokenRecord> {
        let token = self.tokens.get(&hash_key.hash(presented)?)?;
        let expired = token
            .expires_ms
            .is_some_and(|expires_ms| expires_ms <= now_ms);
        (!expired).then_some(&**token)
    }

    /// Applies what the log brought, in its order.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        let mut rules_changed = false;
        for change in changes {
            match change.record {
                Some(Record::Key(record)) => self.set_key(record),
                None if change.kind == Kind::Key => {
                    if let Ok(id) = change.id.parse() {
                        self.forget(id);
                    }
                }
                record => {
                    rules_changed |= !matches!(change.kind, Kind::Token | Kind::Setting);
                    let records = Arc::make_mut(&mut self.records);
                    let name = (change.kind, change.id);
                    match record {
                        Some(record) => records.insert(name, Arc::new(record)),
                        None => records.remove(&name),
                    };
                }
            }
        }
        self.index_tokens();
        if rules_changed {
            self.rules = Arc::new(Rules::build(&self.records, &self.rules));
            self.rebind_keys();
        }
    }

    fn index_tokens(&mut self) {
        let tokens = self
            .records(Kind::Token)
            .filter_map(|record| match &**record {
                Record::Token(token) => Some((token.hash, Arc::new(token.clone()))),
                _ => None,
            });
        self.tokens = tokens.collect();
    }

    fn set_key(&mut self, record: KeyRecord) {
        let last_use = self.forget(record.id).and_then(|key| key.last_use());
        let key = Arc::new(self.build_key(record, last_use));
        if let Some(previous) = key.previous() {
            self.rotated.insert(previous.hash, key.id());
        }
        self.insert(key);
    }

    /// A key whose id and hash are not there.
    fn insert(&mut self, key: Arc<Key>) {
        let hasher = &self.hasher;
        self.by_hash
            .insert_unique(key.hash.prefix(), key.clone(), |key| key.hash.prefix());
        self.by_id
            .insert_unique(hasher.hash_one(key.id()), key, |key| {
                hasher.hash_one(key.id())
            });
    }

    fn forget(&mut self, id: KeyId) -> Option<Arc<Key>> {
        let hash = self.hasher.hash_one(id);
        let entry = self.by_id.find_entry(hash, |key| key.id() == id).ok()?;
        let (key, _) = entry.remove();
        let entry = self
            .by_hash
            .find_entry(key.hash.prefix(), |other| other.id == key.id);
        if let Ok(entry) = entry {
            entry.remove();
        }
        if let Some(previous) = key.previous() {
            self.rotated.remove(&previous.hash);
        }
        Some(key)
    }

    fn build_key(&mut self, record: KeyRecord, last_use: Option<LastUse>) -> Key {
        let own = KeyOverrides {
            previous: record.previous,
            revoked_ms: record.revoked_ms,
            models: record.models,
            models_denied: record.models_denied,
            networks: record.networks,
            class: record.class,
        };
        let declared = KeyAttributes {
            organisation: boxed(record.organisation),
            team: boxed(record.team),
            project: boxed(record.project),
            environment: boxed(record.environment),
            tier: boxed(record.tier),
            ..KeyAttributes::default()
        };
        let declared = self.declared(record.id, record.user.as_deref(), declared);
        Key {
            id: record.id.0.to_ne_bytes(),
            hash: record.hash,
            shared: self.shared(declared),
            user: boxed(record.user),
            own: (own != KeyOverrides::default()).then(|| Box::new(own)),
            created_ms: record.created_ms,
            expires_ms: record.expires_ms.unwrap_or(u64::MAX),
            used: Noted::new(last_use),
        }
    }

    /// A key's attributes, with its user and id only where rules speak of them.
    fn declared(&self, id: KeyId, user: Option<&str>, key: KeyAttributes) -> KeyAttributes {
        let id = id.to_string();
        KeyAttributes {
            user: user
                .filter(|user| self.rules.users.contains(*user))
                .map(Box::from),
            key: self.rules.keys.contains(&id).then(|| id.into()),
            ..key
        }
    }

    fn shared(&mut self, declared: KeyAttributes) -> Arc<SharedByKeys> {
        let hash = self.hasher.hash_one(&declared);
        if let Some(shared) = self.shared.find(hash, |shared| shared.declared == declared) {
            return shared.clone();
        }
        let team = declared
            .team
            .as_deref()
            .and_then(|team| self.rules.teams.get(team));
        let inherited = |own: &Option<Box<str>>, of_team: fn(&TeamRecord) -> &Option<String>| {
            let of_team = team.and_then(|team| of_team(team).as_deref());
            own.clone().or_else(|| of_team.map(Box::from))
        };
        let organisation = inherited(&declared.organisation, |team| &team.organisation);
        let tier = inherited(&declared.tier, |team| &team.tier);
        let policy = self.rules.policy(&KeyAttributes {
            organisation: organisation.clone(),
            tier: tier.clone(),
            ..declared.clone()
        });
        let shared = Arc::new(SharedByKeys {
            declared,
            organisation,
            tier,
            policy,
        });
        let hasher = &self.hasher;
        self.shared.insert_unique(hash, shared.clone(), |shared| {
            hasher.hash_one(&shared.declared)
        });
        shared
    }

    /// After rules changed, other ones may apply to any key.
    fn rebind_keys(&mut self) {
        self.shared.clear();
        let keys: Vec<Arc<Key>> = self.by_id.drain().collect();
        self.by_hash.clear();
        for key in keys {
            let declared = key.shared.declared.clone();
            let declared = self.declared(key.id(), key.user.as_deref(), declared);
            let key = Arc::new(Key {
                id: key.id,
                hash: key.hash,
                shared: self.shared(declared),
                user: key.user.clone(),
                own: key.own.clone(),
                created_ms: key.created_ms,
                expires_ms: key.expires_ms,
                used: Noted::new(key.last_use()),
            });
            self.insert(key);
        }
    }
}

fn boxed(text: Option<String>) -> Option<Box<str>> {
    text.map(String::into_boxed_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_key() -> HashKey {
        HashKey::new(&[7; 32]).unwrap()
    }

    fn new_key() -> String {
        hash_key().new_key().unwrap().0
    }

    fn record(id: u128, key: &str) -> KeyRecord {
        KeyRecord {
            team: Some("growth".into()),
            ..KeyRecord::new(KeyId(id), hash_key().hash(key).unwrap(), 1)
        }
    }

    fn set(snapshot: &mut Snapshot, record: KeyRecord) {
        snapshot.apply([Change::set(Record::Key(record))]);
    }

    #[track_caller]
    fn check(snapshot: &Snapshot, key: &str, now_ms: u64, expected: Result<u128, KeyRefusal>) {
        let found = snapshot.authenticate(&hash_key(), key, now_ms);
        assert_eq!(found.map(|identity| identity.key.id().0), expected);
    }

    #[test]
    fn a_key_opens_until_it_expires_or_is_revoked() {
        let key = new_key();
        let mut keys = Snapshot::default();
        check(&keys, &key, 0, Err(KeyRefusal::Unknown));
        set(&mut keys, record(1, &key));
        check(&keys, &key, 0, Ok(1));
        let expiring = KeyRecord {
            expires_ms: Some(10),
            ..record(1, &key)
        };
        set(&mut keys, expiring);
        check(&keys, &key, 9, Ok(1));
        check(&keys, &key, 10, Err(KeyRefusal::Expired));
        let revoked = KeyRecord {
            revoked_ms: Some(5),
            ..record(1, &key)
        };
        set(&mut keys, revoked);
        check(&keys, &key, 9, Err(KeyRefusal::Revoked));
        keys.apply([Change::gone(Kind::Key, KeyId(1).to_string())]);
        check(&keys, &key, 9, Err(KeyRefusal::Unknown));
    }

    #[test]
    fn a_replaced_key_works_until_its_time_of_grace_is_over() {
        let (old, new) = (new_key(), new_key());
        let mut keys = Snapshot::default();
        set(&mut keys, record(1, &old));
        let rotated = KeyRecord {
            previous: Some(PreviousKey {
                hash: hash_key().hash(&old).unwrap(),
                until_ms: 100,
            }),
            ..record(1, &new)
        };
        set(&mut keys, rotated.clone());
        check(&keys, &old, 99, Ok(1));
        check(&keys, &new, 99, Ok(1));
        check(&keys, &old, 100, Err(KeyRefusal::Rotated));
        check(&keys, &new, 100, Ok(1));
        assert_eq!(keys.key(KeyId(1)).unwrap().record(), rotated);
        let revoked = KeyRecord {
            revoked_ms: Some(5),
            ..rotated
        };
        set(&mut keys, revoked);
        check(&keys, &old, 50, Err(KeyRefusal::Revoked));
    }

    #[test]
    fn a_mistyped_key_is_malformed_and_not_unknown() {
        let mut key = new_key();
        let keys = Snapshot::default();
        let last = key.pop().unwrap();
        key.push(if last == 'A' { 'B' } else { 'A' });
        check(&keys, &key, 0, Err(KeyRefusal::Malformed));
        let long = "weir_".repeat(10_000);
        for foreign in [
            "",
            "weir_",
            "weir_admin_",
            "sk-proj-abc",
            "weir_é",
            &long,
            "\0",
        ] {
            check(&keys, foreign, 0, Err(KeyRefusal::Malformed));
        }
    }

    #[test]
    fn an_admin_token_is_no_key() {
        let token = hash_key().new_token().unwrap().0;
        let keys = Snapshot::default();
        check(&keys, &token, 0, Err(KeyRefusal::Unknown));
    }

    #[test]
    fn rules_that_come_later_hold_for_keys_that_were_there() {
        let key = new_key();
        let mut keys = Snapshot::default();
        let own = KeyRecord {
            user: Some("ana".into()),
            models_denied: vec!["secret-*".into()],
            ..record(1, &key)
        };
        set(&mut keys, own);
        let change = |kind, json| Change::set(Record::parse(kind, json).unwrap());
        keys.apply([
            change(
                Kind::Team,
                r#"{"id":"growth","organisation":"acme","tier":"paid","contact":"ops@acme"}"#,
            ),
            change(
                Kind::Limit,
                r#"{"id":"paid","scope":{"tier":"paid"},"concurrency":3}"#,
            ),
            change(
                Kind::Limit,
                r#"{"id":"ana","scope":{"user":"ana"},"concurrency":2}"#,
            ),
            change(
                Kind::Limit,
                r#"{"id":"ben","scope":{"user":"ben"},"concurrency":2}"#,
            ),
            change(
                Kind::Access,
                r#"{"id":"no-opus","scope":{"organisation":"acme"},"models_denied":["opus"]}"#,
            ),
        ]);
        let identity = keys.authenticate(&hash_key(), &key, 0).unwrap();
        assert_eq!(
            (identity.organisation(), identity.caller(None, None).tier),
            (Some("acme"), Some("paid"))
        );
        let limits: Vec<&str> = identity
            .policy()
            .limits
            .iter()
            .map(|l| &*l.rule.id)
            .collect();
        assert_eq!(limits, ["ana", "paid"]);
        let denied = identity.may_use("opus").unwrap_err();
        assert_eq!(
            (denied.rule, denied.contact),
            (Some("no-opus"), Some("ops@acme"))
        );
        assert_eq!(identity.may_use("secret-one").unwrap_err().rule, None);
        assert!(identity.may_use("fast-chat").is_ok());
        assert_eq!(
            identity.key.record().organisation,
            None,
            "what the team says stays the team's"
        );
    }

    /// As many keys as large installations have, each with a user and in a team of twenty.
    #[test]
    fn a_key_takes_less_than_200_bytes() {
        const KEYS: u64 = 100_000;
        let hash_key = hash_key();
        let mut snapshot = Snapshot::default();
        let taken = allocation_counter::measure(|| {
            for number in 0..KEYS {
                // As good as one that was made by chance, and made faster.
                let hash = hash_key.hash_of_number(number);
                let record = KeyRecord {
                    team: Some(format!("team-{}", number / 20)),
                    user: Some(format!("user-{number}")),
                    ..KeyRecord::new(KeyId(u128::from(number)), hash, 1)
                };
                set(&mut snapshot, record);
            }
        });
        let bytes = taken.bytes_current / i64::try_from(KEYS).unwrap();
        println!("{bytes} bytes a key");
        assert!(bytes < 200, "{bytes} bytes a key");
        assert_eq!(snapshot.keys().len() as u64, KEYS);
    }
}
