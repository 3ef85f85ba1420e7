//! The built-in detectors, and where the form of each secret is published.
//!
//! They are wider than the published forms: a false alarm costs a word of a kept text, and a miss
//! keeps a secret. Word boundaries are those of ASCII, which the fast engines of `regex` can do.

/// How a match becomes what is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    Match,
    /// The first group of the match.
    Group,
    /// Those groups of digits in the match that are card numbers.
    Cards,
}

/// One built-in detector.
pub(crate) struct BuiltIn {
    /// What stands in the place of what it finds: `[redacted:NAME]`.
    pub(crate) name: &'static str,
    pub(crate) regex: &'static str,
    pub(crate) take: Take,
}

const fn whole(name: &'static str, regex: &'static str) -> BuiltIn {
    let take = Take::Match;
    BuiltIn { name, regex, take }
}

const fn group(name: &'static str, regex: &'static str) -> BuiltIn {
    let take = Take::Group;
    BuiltIn { name, regex, take }
}

/// Names of variables and fields that hold a secret.
macro_rules! secret_names {
    () => {
        "password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|secret[_-]?key|\
         auth[_-]?token|access[_-]?token|refresh[_-]?token|private[_-]?key|client[_-]?secret|\
         credentials?"
    };
}

/// Fields whose text is a secret whatever it looks like. The last three mean something else in the
/// middle of a text.
pub(crate) const SECRET_FIELD: &str = concat!(
    "(?i)(?:",
    secret_names!(),
    "|(?:^|[_.-])(?:authorization|cookie|pwd))$"
);

/// Always looked for.
#[rustfmt::skip]
pub(crate) const SECRETS: &[BuiltIn] = &[
    // This gateway: `control::key` in weir-governance.
    whole("weir_key", r"(?-u:\b)weir_(?:admin_)?[0-9A-Za-z]{16,}"),
    // OpenAI, Anthropic, DeepSeek, Kimi, OpenRouter and many others: their consoles issue `sk-…`.
    whole("provider_key", r"(?-u:\b)sk-[0-9A-Za-z_-]{16,}"),
    // Groq, xAI, Perplexity, Hugging Face, Replicate, NVIDIA, Fireworks, Together: their consoles.
    whole("provider_key",
        r"(?-u:\b)(?:gsk_|xai-|pplx-|hf_|r8_|nvapi-|fw_|tgp_v1_)[0-9A-Za-z_-]{20,}"),
    // AWS IAM User Guide, "IAM identifiers", table of unique ID prefixes.
    whole("aws_key",
        r"(?-u:\b)(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[0-9A-Z]{16}(?-u:\b)"),
    // Google Cloud: API keys (`AIza`), OAuth access tokens (`ya29.`) and client secrets (`GOCSPX-`).
    whole("google_key",
        r"(?-u:\b)(?:AIza[0-9A-Za-z_-]{30,}|ya29\.[0-9A-Za-z_-]{20,}|GOCSPX-[0-9A-Za-z_-]{20,})"),
    // GitHub Docs, "GitHub's token formats"; GitLab Docs, "Token prefixes".
    whole("github_token",
        r"(?-u:\b)(?:gh[pousr]_[0-9A-Za-z]{30,}|github_pat_[0-9A-Za-z_]{22,}|glpat-[0-9A-Za-z_-]{20,})"),
    // Slack API, "Token types" and "Incoming webhooks".
    whole("slack_token",
        r"(?-u:\b)xox[abeoprs]-[0-9A-Za-z-]{10,}|hooks\.slack\.com/services/[0-9A-Za-z/]{20,}"),
    // Stripe Docs, "API keys" and "Webhook signatures".
    whole("payment_key",
        r"(?-u:\b)(?:[rs]k_(?:live|test)_|whsec_)[0-9A-Za-z]{16,}"),
    // npm, PyPI (both announced with secret scanning), DigitalOcean and SendGrid.
    whole("package_token",
        r"(?-u:\b)(?:npm_[0-9A-Za-z]{30,}|pypi-[0-9A-Za-z_-]{30,}|dop_v1_[0-9a-f]{32,}|SG\.[0-9A-Za-z_-]{16,}\.[0-9A-Za-z_-]{16,})"),
    // RFC 7519 in the compact form of RFC 7515; `eyJ` is `{"` in base64url.
    whole("jwt",
        r"(?-u:\b)eyJ[0-9A-Za-z_-]{8,}\.[0-9A-Za-z_-]{8,}(?:\.[0-9A-Za-z_-]*)?"),
    // RFC 7468, and RFC 9580 for OpenPGP. One whose end is missing reaches to the end of the text.
    whole("private_key",
        r"(?s)-----BEGIN [0-9A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [0-9A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\z)"),
    // RFC 6750 and RFC 7617.
    group("bearer_token",
        r"(?i)(?-u:\b)(?:bearer|basic)[ \t]+([0-9A-Za-z._~+/=-]{12,})"),
    // RFC 3986, section 3.2.1.
    group("url_password",
        r#"(?-u:\b)[A-Za-z][0-9A-Za-z+.-]*://[^\s:@/"']*:([^\s@/"']+)@"#),
    // Query parameters of signed URLs: AWS Signature Version 4, Google Cloud Storage, Azure SAS.
    group("url_secret",
        r#"(?i)[?&](?:key|token|auth|sig|signature|x-amz-signature|x-amz-security-token|x-goog-signature)=([^&\s"'#<>\\]{8,})"#),
    // Assignments in configuration files, scripts and JSON.
    group(
        "assigned_secret",
        concat!(
            "(?i)(?:",
            secret_names!(),
            r#")["']?\s*(?:=>|[:=])\s*["']?([^\s"',;&<>\[\\][^\s"',;&<>\\]{5,})"#
        ),
    ),
];

/// E-mail addresses: RFC 5322 without quoted local parts, comments and domain literals.
pub(crate) const EMAILS: BuiltIn = whole(
    "email",
    r"(?-u:\b)[0-9A-Za-z._%+-]+@[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*\.[A-Za-z]{2,}",
);

/// Payment cards: ISO/IEC 7812-1.
pub(crate) const CARDS: BuiltIn = BuiltIn {
    name: "card",
    regex: "[0-9](?:[ -]?[0-9]){12,}",
    take: Take::Cards,
};
