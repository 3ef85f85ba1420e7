//! OpenAI's embeddings.

use serde_json::Value;

use super::shape::{Kind, POSITIVE, Shape, Unknown, Walk, closed, opt, req};
use super::{Path, Violation};

const EMBEDDINGS: &str = "https://platform.openai.com/docs/api-reference/embeddings/create";
/// "any array must be 2048 dimensions or less"
const INPUTS_MAX: usize = 2048;
const TOKEN: Kind = Kind::Whole(0, i64::MAX);

static REQUEST: Shape = closed(
    EMBEDDINGS,
    &[
        req("model", Kind::Text),
        req(
            "input",
            Kind::Either(&[
                Kind::Sized(1, usize::MAX),
                Kind::List(&INPUT, 1, INPUTS_MAX),
            ]),
        ),
        opt("encoding_format", Kind::OneOf(&["float", "base64"])),
        opt("dimensions", POSITIVE),
        opt("user", Kind::Text),
    ],
);
const INPUT: Kind = Kind::Either(&[
    Kind::Sized(1, usize::MAX),
    TOKEN,
    Kind::List(&TOKEN, 1, INPUTS_MAX),
]);

/// What `POST /v1/embeddings` refuses.
pub(super) fn check(body: &Value) -> Result<(), Violation> {
    let walk = Walk {
        unknown: Unknown::Ignored,
        null_is_absent: true,
    };
    walk.object(&REQUEST, body, &Path::default())
}
