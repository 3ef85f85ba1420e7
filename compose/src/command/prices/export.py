"""Prints the prices of the installed package genai-prices as rows of Weir's price book.

`weir prices import` runs it. A row is for one model, one condition (start date or hours of the day),
one service tier and one size of the input; of the rows that apply to a call the last one counts,
which is how the package itself chooses.
"""

import csv
import datetime
import importlib.metadata
import re
import sys
import types
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
    "cache_audio_read_mtok": "cached_audio_input",
    "input_image_mtok": "image_input",
    "cache_image_read_mtok": "cached_image_input",
    "input_video_mtok": "video_input",
    "output_image_mtok": "image_output",
    "output_video_mtok": "video_output",
    "output_citation_mtok": "citation",
    "web_searches_kcount": "web_search_per_1000",
    "storage_searches_kcount": "file_search_per_1000",
    "input_audio_hours": "audio_input_per_hour",
}
# What Weir does not meter. A model that is billed by it is in the book without a price.
UNMETERED = {
    "input_document_kpages": "pages",
    "input_annotated_document_kpages": "pages",
    "input_mchars": "characters",
    "input_text_messages_kcount": "text messages",
    "audio_hours": "hours of audio in and out",
}
COLUMNS = ["input", "cached_input", "cache_write_5m", "cache_write_1h", "audio_input",
           "output", "reasoning", "audio_output", "request", "cache_write_30m", "cache_write_12h",
           "cached_audio_input", "image_input", "cached_image_input", "video_input", "image_output",
           "video_output", "citation", "web_search_per_1000", "file_search_per_1000",
           "code_execution_per_1000", "audio_input_per_hour"]
HEAD = ["provider", "model", "names", "effective_from", "effective_until", "known_from", "utc_from", "utc_until",
        "over_input_tokens", "service_tier", "currency", *COLUMNS, "unmetered", "geo_factors", "source"]
KNOWN_FROM = sys.argv[1]
# Models of a name, but for those that speak.
NOT_SPEECH = r"^(?!.*-[tT][tT][sS](?:$|-))"


# Anthropic multiplies the price of tokens by 1.1 where inference is kept in the US, from Claude 4.6 on.
CLAUDE = re.compile(r"claude-(?:opus|sonnet|haiku|fable|mythos)-(\d+)(?:-(\d{1,2}))?$")
US_ONLY = ("us=1.1", "https://platform.claude.com/docs/en/about-claude/pricing (2026-11-30)")


def geo_factors(provider, model):
    """Factors for places of inference, and their source."""
    version = CLAUDE.match(model.id) if provider.id == "anthropic" else None
    if version and (int(version[1]), int(version[2] or 0)) >= (4, 6):
        return US_ONLY
    return "", ""


def free_of_charge(provider):
    """The models that OpenRouter gives away: their name says so, and the package leaves them out."""
    if provider.id == "openrouter":
        yield [provider.id, ":free", "*:free|openrouter/free", "", "", KNOWN_FROM, "", "", "", "", "USD",
               *("0" if name in ("input", "output") else "" for name in COLUMNS), "", "",
               "https://openrouter.ai/docs/guides/routing/model-variants/free (2026-11-30)"]


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
        while either := next((found for text in texts if (found := re.search(r"\(([^()]*)\)\?", text))), None):
            texts = [text.replace(either[0], choice) for text in texts for choice in ("", either[1])]
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


def tier_prices(standard, variants):
    """The prices of a tier: from each day on which anything changes, those of the first variant that is in
    force over the standard ones."""
    first = datetime.date.min

    def begins(constraint):
        return getattr(constraint, "start_date", None) or first

    for day in sorted({begins(it) for it, _ in standard} | {begins(variant.constraint) for variant in variants}):
        active = [plain(variant.prices) for variant in variants if begins(variant.constraint) <= day]
        over = {key: price for prices in reversed(active) for key, price in prices.items()}
        in_force = [(constraint, prices) for constraint, prices in standard if begins(constraint) <= day]
        if not active or not in_force:
            continue
        dated = [prices for constraint, prices in in_force if not hasattr(constraint, "start_time")]
        hours = [(constraint, prices) for constraint, prices in in_force if hasattr(constraint, "start_time")]
        for constraint, prices in [(None, dated[-1])] * bool(dated) + hours:
            yield types.SimpleNamespace(start_date=day if day > first else None, **vars(constraint or types.SimpleNamespace())), prices | over


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
        of_package = "; ".join([f"genai-prices {version}"] + (provider.pricing_urls or [])[:1])
        out.writerows(free_of_charge(provider))
        for model in provider.models:
            try:
                patterns = "|".join(names(model.match))
            except ValueError as error:
                leave_out(f"model matched by {error}")
                continue
            factors, of_factors = geo_factors(provider, model)
            source = "; ".join(text for text in (of_package, of_factors) if text)
            conditional = model.prices if isinstance(model.prices, list) else [model.prices]
            standard = [(getattr(price, "constraint", None), plain(getattr(price, "prices", price)))
                        for price in conditional]
            groups = [(constraint, prices, "") for constraint, prices in standard]
            variants = {}
            for variant in model.price_variants or []:
                name = tier(variant)
                if name is None:
                    leave_out(f"variant for {next(iter(variant.when))}")
                elif name:
                    variants.setdefault(name, []).append(variant)
            for name, of_tier in variants.items():
                groups += [(constraint, prices, name) for constraint, prices in tier_prices(standard, of_tier)]
            for constraint, prices, service_tier in groups:
                day = getattr(constraint, "start_date", "") or ""
                start = hour(constraint.start_time) if hasattr(constraint, "start_time") else ""
                end = hour(constraint.end_time) if hasattr(constraint, "end_time") else ""
                if "input_audio_hours" in prices:
                    # Says the same of audio in any direction; these models only take it.
                    prices = {key: value for key, value in prices.items() if key != "audio_hours"}
                unmetered = sorted({UNMETERED[key] for key in prices if key in UNMETERED})
                for key in prices.keys() - UNITS.keys():
                    leave_out(f"price per {key}")
                for over, at in steps(prices):
                    units = {UNITS[key]: value for key, value in at.items() if key in UNITS}
                    if "request" in units:
                        units["request"] = units["request"] / 1000
                    if not units and not unmetered:
                        leave_out("row without a price that Weir meters")
                        continue
                    out.writerow([provider.id, model.id, patterns, day, "", KNOWN_FROM, start, end, over or "", service_tier, "USD"]
                                 + [amount(units[name]) if name in units else "" for name in COLUMNS]
                                 + [" and ".join(unmetered), factors, source])
    for reason, count in sorted(left_out.items()):
        print(f"left out: {count} × {reason}", file=sys.stderr)


main()
