#!/usr/bin/env bash
# genai-prices 0.2.3: adding up the usage of a stream's chunks, as its docstring proposes, bills a Gemini prompt per chunk.
#
# `ExtractedUsage.__add__` says that it is for streams, to cost "all the response chunks". Gemini repeats the usage so far
# in every chunk, so the sum holds the prompt once per chunk and each earlier count of output again. Nothing in the
# chunks or the package marks a count as cumulative. Right for Gemini: the last chunk alone.
# Seen: three chunks, 3000 input and 30 output tokens summed, 1000 and 15 in the last. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check genai-prices==0.2.3
cat >"$dir/finding.py" <<'PY'
from genai_prices import extract_usage

chunks = [
    {"modelVersion": "gemini-2.5-flash",
     "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": sent, "totalTokenCount": 1000 + sent}}
    for sent in (5, 10, 15)
]
each = [extract_usage(chunk, provider_id="google") for chunk in chunks]
print("sum:", sum(each[1:], each[0]).usage)
print("last:", each[-1].usage)
print("docstring names chunks of streams:", "response chunks in a stream" in type(each[0]).__add__.__doc__)
PY
seen="$("$dir/venv/bin/python" "$dir/finding.py")"
echo "$seen"
[ "$seen" = "sum: Usage(input_tokens=3000, output_tokens=30)
last: Usage(input_tokens=1000, output_tokens=15)
docstring names chunks of streams: True" ]
