#!/usr/bin/env bash
# genai-prices 0.2.3: a meter that a model has no price for costs nothing, without an error or a warning.
#
# An hour of audio on gpt-5 is 0 dollars, the same as a price that is truly zero; a million audio tokens go at the price
# of text, because the nearest priced ancestor takes them. A meter that the package does not know at all does warn. So
# "unpriced" cannot be told from "free": a bill built on it has to look the price key up itself.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check genai-prices==0.2.3
cat >"$dir/finding.py" <<'PY'
import datetime, warnings
from genai_prices import Usage, calc_price

on = datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC)
for usage in [
    {"audio_seconds": 3600},
    {"input_tokens": 1_000_000, "input_audio_tokens": 1_000_000},
    {"input_tokens": 1_000_000},
    {"telepathy_seconds": 3600},
]:
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        price = calc_price(Usage(**usage), "gpt-5", provider_id="openai", genai_request_timestamp=on).total_price
    print(", ".join(usage), f"{price:.2f}", "warned" if warned else "silent", sep=" | ")
PY
seen="$("$dir/venv/bin/python" "$dir/finding.py")"
echo "$seen"
[ "$seen" = "audio_seconds | 0.00 | silent
input_tokens, input_audio_tokens | 1.25 | silent
input_tokens | 1.25 | silent
telepathy_seconds | 0.00 | warned" ]
