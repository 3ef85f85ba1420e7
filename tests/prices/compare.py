"""Compares what Weir charges with what the package genai-prices charges, for every model and meter.

Usage: compare.py WEIR CONFIG. Calls are generated from the package: each model, on each side of each
date and size that a price of it depends on, in each service tier, with each meter that it has a price
for, alone and together. Weir prices them with its built-in book (`weir prices estimate`). A difference
is a fault, or has its reason below. Prints one line for each fault and each reason.
"""

import datetime
import json
import re
import subprocess
import sys
from collections import Counter
from decimal import Decimal

from genai_prices.data import providers
from genai_prices.types import Usage

# Counts of the package by those of Weir.
COUNTS = {
    "input_tokens": "input_tokens",
    "cached_input_tokens": "cache_read_tokens",
    "cache_write_5m_tokens": "cache_write_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "audio_input_tokens": "input_audio_tokens",
    "cached_audio_input_tokens": "cache_audio_read_tokens",
    "image_input_tokens": "input_image_tokens",
    "cached_image_input_tokens": "cache_image_read_tokens",
    "video_input_tokens": "input_video_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "output_reasoning_tokens",
    "audio_output_tokens": "output_audio_tokens",
    "image_output_tokens": "output_image_tokens",
    "video_output_tokens": "output_video_tokens",
    "citation_tokens": "output_citation_tokens",
    "web_searches": "web_searches",
    "file_searches": "storage_searches",
    "audio_input_ms": "input_audio_seconds",
}
# What a part is a part of.
WHOLES = {
    "cached_input_tokens": ["input_tokens"],
    "cache_write_5m_tokens": ["input_tokens"],
    "cache_write_1h_tokens": ["input_tokens"],
    "audio_input_tokens": ["input_tokens"],
    "cached_audio_input_tokens": ["audio_input_tokens", "cached_input_tokens", "input_tokens"],
    "image_input_tokens": ["input_tokens"],
    "cached_image_input_tokens": ["image_input_tokens", "cached_input_tokens", "input_tokens"],
    "video_input_tokens": ["input_tokens"],
    "reasoning_tokens": ["output_tokens"],
    "audio_output_tokens": ["output_tokens"],
    "image_output_tokens": ["output_tokens"],
    "video_output_tokens": ["output_tokens"],
    "citation_tokens": ["output_tokens"],
}
# Each count another one, so that no two prices can be confused.
TOKENS = {name: 101 + 97 * number for number, name in enumerate(COUNTS)}
UNMETERED = ["pages", "characters", "text messages", "hours of audio in and out"]


def usage(parts, wholes, extra_input=0):
    """Counts with these parts, each within its wholes."""
    counts = Counter({name: TOKENS[name] for name in wholes})
    counts["input_tokens"] += extra_input
    for part in parts:
        count = 3 if part in ("web_searches", "file_searches") else 61_000 if part == "audio_input_ms" else TOKENS[part]
        for name in [part, *WHOLES.get(part, [])]:
            counts[name] += count
    return dict(counts)


def priced_parts(model):
    """The parts, and the wholes, that any price of the model is for, by Weir's names."""
    keys = set()
    for price in all_prices(model):
        keys |= {key for key, value in vars(price).items() if value is not None}
    of_price = {"cache_read_mtok": "cached_input_tokens", "cache_write_mtok": "cache_write_5m_tokens",
                "cache_write_1h_mtok": "cache_write_1h_tokens", "input_audio_mtok": "audio_input_tokens",
                "cache_audio_read_mtok": "cached_audio_input_tokens", "input_image_mtok": "image_input_tokens",
                "cache_image_read_mtok": "cached_image_input_tokens", "input_video_mtok": "video_input_tokens",
                "output_reasoning_mtok": "reasoning_tokens", "output_audio_mtok": "audio_output_tokens",
                "output_image_mtok": "image_output_tokens", "output_video_mtok": "video_output_tokens",
                "output_citation_mtok": "citation_tokens", "web_searches_kcount": "web_searches",
                "storage_searches_kcount": "file_searches", "input_audio_hours": "audio_input_ms"}
    wholes = [whole for key, whole in (("input_mtok", "input_tokens"), ("output_mtok", "output_tokens")) if key in keys]
    return [of_price[key] for key in sorted(keys) if key in of_price], wholes


def all_prices(model):
    conditional = model.prices if isinstance(model.prices, list) else [model.prices]
    return [getattr(price, "prices", price) for price in conditional] + [it.prices for it in model.price_variants or []]


def instants(model):
    """On each side of each condition of a model's prices, and now."""
    now = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.timezone.utc)
    found = {now, now.replace(hour=2), now.replace(hour=19)}
    conditional = model.prices if isinstance(model.prices, list) else []
    for condition in [*conditional, *(model.price_variants or [])]:
        day = getattr(condition.constraint, "start_date", None)
        if day:
            first = datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.timezone.utc)
            found |= {first, first - datetime.timedelta(seconds=1)}
    return sorted(found)


def contexts(model):
    """Service tiers: Weir's word, and the package's context."""
    found = {"": None}
    for variant in model.price_variants or []:
        (key, value), *more = variant.when.items()
        if key in ("processing", "service_tier", "speed") and value != "default" and not more:
            found[value] = variant.when
    return found.items()


def sizes(model):
    starts = {step.start for price in all_prices(model) for value in vars(price).values() for step in getattr(value, "tiers", [])}
    return [0, *sorted(starts)]


def names(match):
    """Names that a model goes by."""
    kind = type(match).__name__
    if kind == "ClauseEquals":
        yield match.equals
    elif kind == "ClauseStartsWith":
        yield match.starts_with
    elif kind == "ClauseEndsWith":
        yield match.ends_with
    elif kind == "ClauseContains":
        yield match.contains
    elif kind == "ClauseOr":
        for clause in match.or_:
            yield from names(clause)
    elif kind == "ClauseAnd":
        yield from names(match.and_[0])


def calls():
    """Each generated call, with what the package charges for it."""
    for provider in providers:
        for model in provider.models:
            for name in dict.fromkeys([model.id, *names(model.match)]):
                if provider.find_model(name) is not model:
                    continue
                yield from calls_of(provider, model, name, is_main=name == model.id or not model.is_match(model.id))


def calls_of(provider, model, name, is_main):
    priced, wholes = priced_parts(model)
    # Parts that no price is for cost what they are a part of.
    others = [part for part, of in WHOLES.items()
              if part not in priced and part != "cache_write_1h_tokens" and of[-1] in wholes]
    chosen = [[], priced + others, *([part] for part in priced)] if is_main else [priced]
    for at in instants(model) if is_main else instants(model)[-1:]:
        for tier, context in contexts(model):
            for size in sizes(model):
                # The size is that of all input, so it is met and exceeded by one.
                least = max(0, size - TOKENS["input_tokens"])
                for parts in chosen:
                    for extra in {0, least, least + 1} if not parts else {least + 1}:
                        yield provider, model, name, at, tier, context, usage(parts, wholes, extra)


def package_charge(provider, model, at, context, counts):
    said = {COUNTS[name]: count for name, count in counts.items() if name != "audio_input_ms"}
    if "audio_input_ms" in counts:
        said["input_audio_seconds"] = said["audio_seconds"] = Decimal(counts["audio_input_ms"]) / 1000
    if "cache_write_1h_tokens" in counts:
        said["cache_write_tokens"] = said.get("cache_write_tokens", 0) + counts["cache_write_1h_tokens"]
    price = model.calc_price(Usage(**said), provider, genai_request_timestamp=at, price_context=context)
    return price.total_price


def excused(answer, call):
    """Why a difference is none; None if it is a fault."""
    _, model, _, at, tier, context, _ = call
    reason = answer["unpriced_reason"]
    if reason and any(word in reason for word in UNMETERED):
        return "billed by what is not metered: unpriced"
    if not any(value is not None for price in all_prices(model) for value in vars(price).values()):
        return "the package has no price: unpriced, or free by OpenRouter's word"
    if reason == "the price book has no price for web searches" or reason == "the price book has no price for file searches":
        return "no fee is known for the tool: unpriced"
    if reason == "the price book has no price for 1-hour cache writes":
        return "an hour in the cache does not take the price of five minutes: unpriced"
    if reason.startswith("the price book has no prices of service tier"):
        active = [variant for variant in model.price_variants or [] if variant.when == context
                  and (variant.constraint is None or variant.constraint.active(at))]
        return None if active else "the tier had no price on that day: unpriced"
    if reason == "audio is billed by its duration, which was not reported":
        return "tokens of audio without its length: unpriced"
    if reason.startswith("the price book has no price for") and reason.endswith(("input tokens", "output tokens")):
        return "the model has no price of the whole, or a dearer one in other rows: unpriced"
    return None


def main():
    weir, config = sys.argv[1:]
    generated = list(calls())
    lines = "\n".join(json.dumps({
        "provider": provider.id, "model": name, "at": at.isoformat().replace("+00:00", "Z"), "service_tier": tier,
        "usage": counts,
    }) for provider, _, name, at, tier, _, counts in generated)
    done = subprocess.run([weir, "--config", config, "prices", "estimate"], input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(generated), (len(answers), len(generated))
    faults, reasons, models, equal = [], Counter(), set(), 0
    for call, answer in zip(generated, answers, strict=True):
        provider, model, name, at, tier, context, counts = call
        try:
            expected = package_charge(provider, model, at, context, counts)
        except ValueError as error:
            reasons[f"the package refuses: {re.sub(r'[0-9].*', '…', str(error))[:80]}"] += 1
            continue
        charged = None if answer["cost_usd"] is None else Decimal(answer["cost_usd"])
        if charged is not None and abs(charged - expected) <= Decimal("1e-12"):
            equal += 1
            models.add((provider.id, model.id))
            continue
        reason = excused(answer, call)
        if reason is None or charged is not None and charged < expected:
            faults.append(f"{provider.id} {name} {at:%F %T} {tier!r} {counts}: {charged} {answer['unpriced_reason']}, not {expected}")
        else:
            reasons[reason] += 1
    print(json.dumps({"calls": len(generated), "equal": equal, "models": len(models), "faults": len(faults), "reasons": reasons}))
    for fault in faults[:40]:
        print(fault, file=sys.stderr)
    sys.exit(bool(faults))


main()
