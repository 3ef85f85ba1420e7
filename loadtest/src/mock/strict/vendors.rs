//! The vendors that requests are checked for.

/// What a vendor's chat completions do otherwise than OpenAI's.
#[derive(Debug)]
pub(super) struct StrictVendor {
    pub(super) name: &'static str,
    /// Whether the API is OpenAI's own, with all its models.
    pub(super) is_openai: bool,
    /// Whether schemas of tools are looked at before the model sees them.
    pub(super) checks_schemas: bool,
}

static VENDORS: &[StrictVendor] = &[
    StrictVendor {
        name: "openai",
        is_openai: true,
        checks_schemas: true,
    },
    StrictVendor {
        name: "azure",
        is_openai: true,
        checks_schemas: true,
    },
    StrictVendor {
        name: "azure-deployments",
        is_openai: true,
        checks_schemas: true,
    },
    ANY,
];

/// A server that is not listed: only what all have in common.
const ANY: StrictVendor = StrictVendor {
    name: "openai-compatible",
    is_openai: false,
    checks_schemas: false,
};
static UNLISTED: StrictVendor = ANY;

/// The row of a vendor; an unknown one is like any other compatible server.
pub(super) fn find(name: &str) -> &'static StrictVendor {
    VENDORS
        .iter()
        .find(|vendor| vendor.name == name)
        .unwrap_or(&UNLISTED)
}

/// The names that a mock provider can be given.
pub fn vendor_names() -> impl Iterator<Item = &'static str> {
    ["anthropic", "gemini"]
        .into_iter()
        .chain(VENDORS.iter().map(|vendor| vendor.name))
}
