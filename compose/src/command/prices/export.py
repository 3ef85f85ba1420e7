"""Prints the prices of the installed package genai-prices as rows of Weir's price book.

`weir prices import` runs it. A row is for one model, one condition (start date or hours of the day),
one service tier and one size of the input; of the rows that apply to a call the last one counts,
which is how the package itself chooses.
"""

import csv
import importlib.metadata
import re
import sys
from datetime import timezone
from decimal import Decimal

from genai_prices.data import providers

UNITS = {
    "input_mtok": "input",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "audio_output",
    "requests_kcount": "request",
}
COLUMNS = ["input", "cached_input", "cache_write_5m", "cache_write_1h", "audio_input",
           "output", "reasoning", "audio_output", "request"]
HEAD = ["provider", "model", "names", "effective_from", "effective_until", "known_from", "utc_from", "utc_until",
        "over_input_tokens", "service_tier", "currency", *COLUMNS, "source"]
KNOWN_FROM = sys.argv[1]
# Models of a name, but for those that speak.
NOT_SPEECH = r"^(?!.*-[tT][tT][sS](?:$|-))"


def names(match):
    """The names that a model goes by, as patterns; raises on logic that patterns cannot say."""
    kind = type(match).__name__
    if kind == "ClauseEquals":
        return [match.equals]
    if kind == "ClauseStartsWith":
        return [match.starts_with + "*"]
    if kind == "ClauseEndsWith":
        return ["*" + match.ends_with]
    if kind == "ClauseContains":
        return ["*" + match.contains + "*"]
    if kind == "ClauseOr":
        return [name for clause in match.or_ for name in names(clause)]
    if kind == "ClauseAnd" and len(match.and_) == 2 and getattr(match.and_[1], "regex", "") == NOT_SPEECH:
        return names(match.and_[0]) + ["!*-tts", "!*-tts-*"]
    if kind == "ClauseRegex" and match.regex.startswith("^"):
        open_end = not match.regex.endswith("$")
        texts = [re.sub(r"\\d\{(\d)\}", lambda m: "#" * int(m[1]), match.regex.strip("^$")).replace(r"\d", "#")]
        if either := re.search(r"(?<!\\)\[([^\]^\\]*)(?<!\\)\]", texts[0]):
            texts = [texts[0][:either.start()] + letter + texts[0][either.end():] for letter in either[1]]
        texts = [re.sub(r"\\([.\[\]])", r"\1", text) for text in texts]
        if not any(re.search(r"[\\()|+?{}*]", text) for text in texts):
            return [text + "*" if open_end else text for text in texts]
    raise ValueError(f"{kind}: {match}")


def tier(variant):
    """Service tier that a variant is for; None if it is about something else."""
    (key, value), *more = variant.when.items()
    if more or key not in ("processing", "service_tier", "speed"):
        return None
    return "" if value == "default" else value


def plain(price):
    return {key: value for key, value in vars(price).items() if value is not None}


def steps(prices):
    """Sizes of the input from which on other prices apply, with those prices."""
    starts = {0} | {step.start for price in prices.values() if hasattr(price, "tiers") for step in price.tiers}

    def at(price, start):
        if not hasattr(price, "tiers"):
            return price
        reached = [step.price for step in price.tiers if step.start <= start]
        return reached[-1] if reached else price.base

    for start in sorted(starts):
        yield start, {key: at(price, start) for key, price in prices.items()}


def amount(price):
    """An exact decimal. A few of the package's prices went through a float, which shows behind the twelfth place."""
    return format(price.quantize(Decimal("1e-12")).normalize(), "f")


def hour(time):
    # Naive times are UTC.
    return (time.replace(tzinfo=timezone.utc) if time.tzinfo is None else time).strftime("%H:%M:%S")


def main():
    version = importlib.metadata.version("genai-prices")
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(HEAD)
    left_out = {}

    def leave_out(reason):
        left_out[reason] = left_out.get(reason, 0) + 1

    for provider in providers:
        source = "; ".join([f"genai-prices {version}"] + (provider.pricing_urls or [])[:1])
        for model in provider.models:
            try:
                patterns = "|".join(names(model.match))
            except ValueError as error:
                leave_out(f"model matched by {error}")
                continue
            conditional = model.prices if isinstance(model.prices, list) else [model.prices]
            standard = [(getattr(price, "constraint", None), plain(getattr(price, "prices", price)))
                        for price in conditional]
            groups = [(constraint, prices, "") for constraint, prices in standard]
            for variant in model.price_variants or []:
                name = tier(variant)
                if name is None:
                    leave_out(f"variant for {next(iter(variant.when))}")
                    continue
                if name == "":
                    continue
                if variant.constraint is None:
                    groups += [(constraint, prices | plain(variant.prices), name) for constraint, prices in standard]
                    continue
                day = getattr(variant.constraint, "start_date", None)
                beside = [prices for constraint, prices in standard
                          if constraint is None or day and getattr(constraint, "start_date", day) <= day]
                groups.append((variant.constraint, beside[-1] | plain(variant.prices), name))
            for constraint, prices, service_tier in groups:
                day = getattr(constraint, "start_date", "")
                start = hour(constraint.start_time) if hasattr(constraint, "start_time") else ""
                end = hour(constraint.end_time) if hasattr(constraint, "end_time") else ""
                for key in prices.keys() - UNITS.keys():
                    leave_out(f"price per {key}")
                for over, at in steps(prices):
                    units = {UNITS[key]: value for key, value in at.items() if key in UNITS}
                    if "request" in units:
                        units["request"] = units["request"] / 1000
                    if not units:
                        leave_out("row without a price that Weir meters")
                        continue
                    out.writerow([provider.id, model.id, patterns, day, "", KNOWN_FROM, start, end, over or "", service_tier, "USD"]
                                 + [amount(units[name]) if name in units else "" for name in COLUMNS]
                                 + [source])
    for reason, count in sorted(left_out.items()):
        print(f"left out: {count} × {reason}", file=sys.stderr)


main()
