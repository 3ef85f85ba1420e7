//! What may be kept of a prompt or an answer: its JSON, bounded, without secrets.
//!
//! The way through [`Redactor::keep`]: read the body as a tree ([`tree`]) → take out of every text, field
//! name and number what a detector finds ([`detect`], [`patterns`]), or of everything but the structure
//! its text ([`shape`]) → write the tree, with long texts shortened if it is too large.
//!
//! A body that cannot be read is not kept: detectors see only what a parser sees. Texts are searched
//! before they are shortened, so that no half of a secret is left. Data that is no text (base64, vectors,
//! token ids, token probabilities) is left out, because it cannot be searched. Nothing here does any
//! I/O, and nothing panics, whatever the bytes.

mod caps;
mod detect;
mod escapes;
mod kept;
mod patterns;
mod shape;
mod tree;

pub use caps::READ_BYTES_MAX;
pub use detect::{BadPattern, CustomPattern, OptionalDetector, Redactor};
pub use kept::{Detail, Kept, Omitted, Redactions};

use tree::Tree;

impl Redactor {
    /// What may be kept of a body, in at most so many bytes.
    pub fn keep(&self, body: &[u8], detail: Detail, bytes_max: usize) -> Result<Kept, Omitted> {
        let mut tree = Tree::read(body)?;
        let mut found = Redactions::default();
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

    fn redact_tree(&self, tree: &mut Tree, name: Option<&str>, found: &mut Redactions) {
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
