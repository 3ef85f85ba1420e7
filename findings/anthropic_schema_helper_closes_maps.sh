#!/usr/bin/env bash
# anthropic (Python) 2.14.0: for structured output a `dict[str, int]` becomes an object that allows no key.
#
# `transform_schema` makes a JSON Schema fit what the API takes, and moves what does not fit into the description. Not so
# `additionalProperties`: it is set to false even where it was the whole meaning of the field, so the model can answer
# with `{}` only. What stands beside a `$ref`, such as the description of that one use, is dropped, not moved. And a type
# written as a list, `["string", "null"]`, as hand-written tool schemas often have it, raises AssertionError.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check anthropic==2.14.0
cat >"$dir/finding.py" <<'PY'
import json
import anthropic, pydantic


class Bill(pydantic.BaseModel):
    tokens_by_team: dict[str, int]


before = Bill.model_json_schema()["properties"]["tokens_by_team"]["additionalProperties"]
after = anthropic.transform_schema(Bill)["properties"]["tokens_by_team"]
print("map:", json.dumps(before), "became", json.dumps(after["additionalProperties"]), "with", after["properties"])
used = {"type": "object", "$defs": {"Id": {"type": "integer"}},
        "properties": {"user": {"$ref": "#/$defs/Id", "description": "who pays"}}}
print("beside $ref:", json.dumps(anthropic.transform_schema(used)["properties"]["user"]))
try:
    anthropic.transform_schema({"type": ["string", "null"]})
except AssertionError as error:
    print("list of types:", type(error).__name__)
PY
seen="$("$dir/venv/bin/python" -W ignore "$dir/finding.py")"
echo "$seen"
[ "$seen" = 'map: {"type": "integer"} became false with {}
beside $ref: {"$ref": "#/$defs/Id"}
list of types: AssertionError' ]
