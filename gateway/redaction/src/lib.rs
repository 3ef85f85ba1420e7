//! What may be kept of a prompt or an answer: its JSON, bounded, without secrets.
//!
//! The way through [`Redactor::keep`]: read the body as a tree ([`tree`]) → take out of every text, of
//! every name of a field and of every number what a detector finds ([`detect`]), or of everything but
//! the structure its text ([`shape`]) → write the tree, with long texts shortened if it is too large.
//!
//! What cannot be read is not kept: a secret that no parser sees is one that no detector sees. Texts
//! are shortened after they were searched and never before, so that no half of a secret is left.
//! Data that is no text (base64, vectors, token ids, token probabilities) is left out, because what it
//! says cannot be searched. Nothing here does any I/O, and nothing panics, whatever the bytes.

mod detect;
mod escapes;
mod shape;
mod tree;

use std::collections::BTreeSet;

pub use detect::{BadPattern, Optional, Pattern, Redactor};

use tree::Tree;

/// Largest body that is read.
pub const READ_BYTES_MAX: usize = 4 << 20;

/// How much of a body is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Roles, kinds, names of models and tools, parameters and sizes. No text.
    Structure,
    /// Everything, redacted.
    Text,
}

/// A body that was kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    pub json: String,
    /// Whether texts or lists were shortened.
    pub is_truncated: bool,
    pub found: Found,
}

/// What was taken out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub count: u64,
    /// Names of the detectors and patterns.
    pub names: BTreeSet<String>,
}

impl Found {
    fn note(&mut self, name: &str) {
        self.count += 1;
        if !self.names.contains(name) {
            self.names.insert(name.to_owned());
        }
    }
}

/// Why a body is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Omitted {
    #[error("it is not JSON")]
    Unreadable,
    #[error("it is too large to be searched")]
    TooLarge,
}

impl Omitted {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::TooLarge => "too_large",
        }
    }
}

impl Redactor {
    /// What may be kept of a body, in at most so many bytes.
    pub fn keep(&self, body: &[u8], detail: Detail, bytes_max: usize) -> Result<Kept, Omitted> {
        let mut tree = Tree::read(body)?;
        let mut found = Found::default();
        tree = match detail {
            Detail::Structure => shape::of(&tree, self),
            Detail::Text => {
                self.redact_tree(&mut tree, None, &mut found);
                tree
            }
        };
        let (json, is_truncated) = tree.write_within(bytes_max).ok_or(Omitted::TooLarge)?;
        Ok(Kept {
            json,
            is_truncated,
            found,
        })
    }

    fn redact_tree(&self, tree: &mut Tree, name: Option<&str>, found: &mut Found) {
        match tree {
            Tree::Null | Tree::Bool(_) => {}
            Tree::Number(number) => {
                if let Some(text) = self.redact_number(name, &number.to_string(), found) {
                    *tree = Tree::Text(text);
                }
            }
            Tree::Text(text) => {
                if let Some(redacted) = self.redact_field(name, text, found) {
                    *text = redacted;
                }
            }
            Tree::List(items) => {
                for item in items {
                    self.redact_tree(item, name, found);
                }
            }
            Tree::Object(fields) => {
                for (name, value) in fields {
                    self.redact_tree(value, Some(name), found);
                    if let Some(redacted) = self.redact(name, found) {
                        *name = redacted;
                    }
                }
            }
        }
    }
}
