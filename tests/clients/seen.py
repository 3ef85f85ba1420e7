"""What every Python client is asked to do, and how it says what it saw."""

import json
import sys

URL, KEY, *MODELS = sys.argv[1:]
GREETING = "hello there"
CITIES = ["Paris", "São Paulo"]
# The mock provider calls what it is asked to call.
CALL = " ".join("[[call weather %s]]" % json.dumps({"city": city}) for city in CITIES)
ARGUMENTS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def refusal(error, call):
    try:
        call()
    except error as raised:
        return {"type": type(raised).__name__, "status": getattr(raised, "status_code", None)}
    return "nothing was raised"


def report(error, **surfaces):
    """Puts each surface of the client through everything, at each model; prints one JSON document."""
    seen = {}
    for name, surface in surfaces.items():
        for model in MODELS:
            seen[f"{name} {model}"] = {
                "plain": surface.plain(model),
                "stream": surface.stream(model),
                "tools": surface.tools_called(model),
                "tools_streamed": surface.tools_streamed(model),
                "forced": surface.forced(model),
                "limited": refusal(error, lambda: surface.plain(model + "-limited")),
                "broken": refusal(error, lambda: surface.stream(model + "-broken")) != "nothing was raised",
            }
    print(json.dumps(seen))
