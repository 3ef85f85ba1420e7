//! Rules of one kind, found by the keys that they apply to.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;

use super::record::{Dimension, Scope};

/// A key's position in the hierarchy, and its other attributes that scopes can name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyAttributes {
    pub organisation: Option<Box<str>>,
    pub team: Option<Box<str>>,
    pub project: Option<Box<str>>,
    pub environment: Option<Box<str>>,
    pub tier: Option<Box<str>>,
    /// Only where a rule names this user, so that other users share what applies to them.
    pub user: Option<Box<str>>,
    /// Only where a rule names this key.
    pub key: Option<Box<str>>,
}

/// Rules of one kind.
#[derive(Debug)]
pub struct RuleSet<R> {
    entries: Vec<ScopeEntry<R>>,
    by_id: HashMap<String, usize>,
    /// By the narrowest attribute that each scope names.
    by_attribute: HashMap<Attribute, Vec<usize>>,
}

/// A dimension and its value; `None` for a scope that names no attribute of a key.
type Attribute = Option<(Dimension, Box<str>)>;

#[derive(Debug)]
struct ScopeEntry<R> {
    rule: Arc<R>,
    scope: Scope,
    /// Ids of the rules that it takes the place of.
    overrides: Vec<String>,
    id: String,
}

impl<R> Default for RuleSet<R> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            by_id: HashMap::new(),
            by_attribute: HashMap::new(),
        }
    }
}

impl<R> RuleSet<R> {
    pub(super) fn add(&mut self, id: &str, scope: &Scope, overrides: &[String], rule: Arc<R>) {
        let index = self.entries.len();
        self.by_id.insert(id.to_owned(), index);
        let narrowest = named(declared(scope)).next();
        self.by_attribute.entry(narrowest).or_default().push(index);
        self.entries.push(ScopeEntry {
            rule,
            scope: scope.clone(),
            overrides: overrides.to_vec(),
            id: id.to_owned(),
        });
    }

    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<R>> {
        self.by_id.get(id).map(|index| &self.entries[*index].rule)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<R>> {
        self.entries.iter().map(|entry| &entry.rule)
    }

    /// The rules that apply to a key, in the order in which they were added, less those that another
    /// one overrides.
    pub(super) fn applying(&self, key: &KeyAttributes) -> impl Iterator<Item = &Arc<R>> {
        let attributes = named(attributes(key)).map(Some);
        let mut indices: Vec<usize> = attributes
            .chain([None])
            .filter_map(|attribute: Attribute| self.by_attribute.get(&attribute))
            .flatten()
            .copied()
            .filter(|index| applies(&self.entries[*index].scope, key))
            .collect();
        indices.sort_unstable();
        let overridden: HashSet<&str> = indices
            .iter()
            .flat_map(|index| self.entries[*index].overrides.iter().map(String::as_str))
            .collect();
        let entries = indices.into_iter().map(|index| &self.entries[index]);
        entries
            .filter(move |entry| !overridden.contains(&*entry.id))
            .map(|entry| &entry.rule)
    }
}

/// What a scope declares of a key, narrowest first. A model or a customer is looked at when a request
/// comes.
const fn declared(scope: &Scope) -> [(Dimension, &Option<String>); 7] {
    [
        (Dimension::Key, &scope.key),
        (Dimension::User, &scope.user),
        (Dimension::Project, &scope.project),
        (Dimension::Team, &scope.team),
        (Dimension::Organisation, &scope.organisation),
        (Dimension::Environment, &scope.environment),
        (Dimension::Tier, &scope.tier),
    ]
}

/// The same attributes of a key, in the same order.
const fn attributes(key: &KeyAttributes) -> [(Dimension, &Option<Box<str>>); 7] {
    [
        (Dimension::Key, &key.key),
        (Dimension::User, &key.user),
        (Dimension::Project, &key.project),
        (Dimension::Team, &key.team),
        (Dimension::Organisation, &key.organisation),
        (Dimension::Environment, &key.environment),
        (Dimension::Tier, &key.tier),
    ]
}

/// Those that are there.
fn named<T: Deref<Target = str>>(
    attributes: [(Dimension, &Option<T>); 7],
) -> impl Iterator<Item = (Dimension, Box<str>)> {
    let attributes = attributes.into_iter();
    attributes.filter_map(|(dimension, value)| Some((dimension, value.as_deref()?.into())))
}

/// A scope's attributes as a number: each counts more than all that are less narrow together.
pub(super) fn narrowness(scope: &Scope) -> u32 {
    let named = declared(scope).map(|(_, value)| u32::from(value.is_some()));
    named.iter().fold(0, |number, named| number << 1 | named)
}

fn applies(scope: &Scope, key: &KeyAttributes) -> bool {
    let pairs = declared(scope).into_iter().zip(attributes(key));
    let mut pairs = pairs.map(|((_, wanted), (_, is))| (wanted, is));
    pairs.all(|(wanted, is)| wanted.is_none() || wanted.as_deref() == is.as_deref())
}
