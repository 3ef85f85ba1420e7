//! OpenAI's embeddings.

use serde_json::Value;

use super::shape::{POSITIVE, Shape, ShapeCheck, Unknown, ValueShape, closed, opt, req};
use super::{FieldPath, Violation};

const EMBEDDINGS: &str = "https://platform.openai.com/docs/api-reference/embeddings/create";
/// "any array must be 2048 dimensions or less"
const INPUTS_MAX: usize = 2048;
const TOKEN: ValueShape = ValueShape::Whole(0, i64::MAX);

static REQUEST: Shape = closed(
    EMBEDDINGS,
    &[
        req("model", ValueShape::Text),
        req(
            "input",
            ValueShape::Either(&[
                ValueShape::Sized(1, usize::MAX),
                ValueShape::List(&INPUT, 1, INPUTS_MAX),
            ]),
        ),
        opt("encoding_format", ValueShape::OneOf(&["float", "base64"])),
        opt("dimensions", POSITIVE),
        opt("user", ValueShape::Text),
    ],
);
const INPUT: ValueShape = ValueShape::Either(&[
    ValueShape::Sized(1, usize::MAX),
    TOKEN,
    ValueShape::List(&TOKEN, 1, INPUTS_MAX),
]);

/// What `POST /v1/embeddings` refuses.
pub(super) fn check(body: &Value) -> Result<(), Violation> {
    let walk = ShapeCheck {
        unknown: Unknown::Ignored,
        null_is_absent: true,
    };
    walk.object(&REQUEST, body, &FieldPath::default())
}
