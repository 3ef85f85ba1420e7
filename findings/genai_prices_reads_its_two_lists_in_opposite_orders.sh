#!/usr/bin/env bash
# genai-prices 0.2.3: of dated prices the last in force wins, of price variants the first.
#
# A model has two lists: `prices` by date, read from the end, and `price_variants` by request (batch, tier, speed) and
# date, read from the start and merged key by key. Both are sorted by hand in the data, in opposite directions. Where two
# conditions of a request hold, the order in the file decides, and the files differ: batch with priority on gpt-5 pays the
# priority price, batch with fast on claude-opus-5 the batch price.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check genai-prices==0.2.3
cat >"$dir/finding.py" <<'PY'
import datetime
from decimal import Decimal
from genai_prices import Usage, calc_price
from genai_prices.types import (
    ClauseEquals, ConditionalPrice, ModelInfo, ModelPrice, PriceVariant, StartDateConstraint)

on = datetime.datetime(2026, 11, 20, tzinfo=datetime.UTC)
may, june = (StartDateConstraint(start_date=datetime.date(2026, month, 1)) for month in (5, 6))
one, two = (ModelPrice(input_mtok=Decimal(dollars)) for dollars in (1, 2))
batch = {"processing": "batch"}
model = ModelInfo(
    id="m", match=ClauseEquals(equals="m"),
    prices=[ConditionalPrice(may, prices=one), ConditionalPrice(june, prices=two)],
    price_variants=[PriceVariant(batch, one, may), PriceVariant(batch, two, june)])
print("dated in May 1, in June 2: plain", model.get_prices(on).input_mtok, "batch", model.get_prices(on, batch).input_mtok)


def price(name, provider, **context):
    usage = Usage(input_tokens=1_000_000)
    return calc_price(usage, name, provider_id=provider, genai_request_timestamp=on, price_context=context).total_price


for name, provider, other in [
    ("gpt-5", "openai", {"service_tier": "priority"}),
    ("claude-opus-5", "anthropic", {"speed": "fast"}),
]:
    prices = [price(name, provider, **batch), price(name, provider, **other), price(name, provider, **batch, **other)]
    print(name, "batch {:.3f}, other {:.3f}, both {:.3f}".format(*prices))
PY
seen="$("$dir/venv/bin/python" "$dir/finding.py")"
echo "$seen"
[ "$seen" = "dated in May 1, in June 2: plain 2 batch 1
gpt-5 batch 0.625, other 2.500, both 2.500
claude-opus-5 batch 2.500, other 10.000, both 2.500" ]
