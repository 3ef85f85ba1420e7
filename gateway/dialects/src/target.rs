//! Whom a request is for.

use crate::generations::Generation;
use crate::refusal::Unsupported;
use crate::vendors::Vendor;

/// The provider and model that a request is for.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub vendor: &'static Vendor,
    /// Model name as the provider knows it.
    pub model: &'a str,
    /// What the model takes.
    pub generation: &'a Generation,
    /// What to do with a field that the target cannot express.
    pub unsupported: Unsupported,
    /// Version of the API, for vendors that require one in the URL.
    pub api_version: Option<&'a str>,
}

impl<'a> Target<'a> {
    #[must_use]
    pub fn new(vendor: &'static Vendor, model: &'a str) -> Self {
        Self {
            vendor,
            model,
            generation: vendor.generation(model),
            unsupported: Unsupported::Refuse,
            api_version: None,
        }
    }
}
