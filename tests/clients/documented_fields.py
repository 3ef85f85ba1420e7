"""Every request field that the SDKs of OpenAI and Anthropic document, each in a request of its own.

    documented_fields.py    prints {API: {PATH: [WITHOUT, WITH]}}

A path names the field, with `[]` for the elements of a list and `(kind)` for an object whose type
decides what it holds. WITH is the least request that has the field, WITHOUT the same without it; a kind
that only one provider runs or stores is one entry, without one. This is what
`gateway/dialects/golden/fields.json` holds, with which weir-dialects' test `fields` finds out what
becomes of each field at each provider.
"""

import json
import types
import typing

import typing_extensions
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

APIS = {
    "chat": CompletionCreateParamsNonStreaming,
    "messages": MessageCreateParamsNonStreaming,
    "responses": ResponseCreateParamsNonStreaming,
}
PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0="
SCHEMA = {"type": "object", "properties": {}}

TOOLS = {
    "chat": {"type": "function", "function": {"name": "f", "parameters": SCHEMA}},
    "messages": {"name": "f", "input_schema": SCHEMA},
    "responses": {"type": "function", "name": "f", "parameters": SCHEMA, "strict": False},
}

# Values that mean something, for fields where not any will do.
VALUES = {
    "arguments": "{}",
    "parameters": SCHEMA,
    "input_schema": SCHEMA,
    "schema": SCHEMA,
    "logit_bias": {"1": 2},
    "file_data": PDF,
    "n": 2,
    "frequency_penalty": 0.5,
    "presence_penalty": 0.5,
    "temperature": 0.5,
    "top_p": 0.5,
    "parallel_tool_calls": False,
    "media_type": "image/png",
}
# What an object means little without, though it need not be there.
TOLD = {"call_id", "file_data", "image_url", "input", "output", "schema", "type"}
LIMITS = {"max_tokens", "max_completion_tokens", "max_output_tokens"}
URLS = {"url": PNG, "image_url": PNG}
# Containers in which only these kinds are taken apart; others are one entry each.
KINDS = {
    "chat": {"function", "custom", "text", "image_url", "input_audio", "file", "refusal", "json_schema", "json_object",
        "grammar"},
    "messages": {
        "text", "image", "document", "tool_use", "tool_result", "thinking", "redacted_thinking",
        "custom", "base64", "url", "enabled", "adaptive", "disabled", "auto", "any", "tool", "none",
        "json_schema", "ephemeral",
    },
    "responses": {
        "message", "function_call", "function_call_output", "custom_tool_call",
        "custom_tool_call_output", "reasoning", "input_text", "input_image", "input_file",
        "output_text", "refusal", "function", "custom", "json_schema", "summary_text",
        "reasoning_text", "grammar", "text", "json_object",
    },
}


def bare(kind):
    """A type without Required, Annotated and the like around it."""
    while True:
        origin = typing.get_origin(kind)
        if origin in (typing_extensions.Required, typing_extensions.NotRequired, typing.Annotated):
            kind = typing.get_args(kind)[0]
        else:
            return kind


def hints(kind):
    return {name: bare(of) for name, of in typing.get_type_hints(kind, include_extras=False).items()}


def required(kind):
    """The fields that an object must have. Its own list of them knows nothing of Required in annotations
    that are texts."""
    told = typing.get_type_hints(kind, include_extras=True)
    said = {name for name, of in told.items() if typing.get_origin(of) is typing_extensions.Required}
    return said | kind.__required_keys__


def is_object(kind):
    return typing_extensions.is_typeddict(kind)


def members(kind):
    """The types that a value may have, without null."""
    kind = bare(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [m for of in typing.get_args(kind) for m in members(of)]
    return [] if kind is type(None) else [kind]


def element(kind):
    """The type of a list's elements, or None."""
    origin = typing.get_origin(kind)
    name = getattr(origin or kind, "__name__", "")
    if name in ("list", "Iterable", "Sequence", "SequenceNotStr", "tuple"):
        return (typing.get_args(kind) or (str,))[0]
    return None


def word(kind):
    """The word that the field `type` or `role` of an object must be, if it is one."""
    for field in ("type", "role"):
        of = hints(kind).get(field)
        if of is not None:
            found = [w for m in members(of) if typing.get_origin(m) is typing.Literal for w in typing.get_args(m)]
            if found:
                return found[0]
    return None


class Fields:
    """What is found of one API."""

    def __init__(self, api):
        self.api = api
        self.found = {}

    def value(self, name, kind, seen):
        """The least value that a field may have."""
        if name in VALUES:
            return VALUES[name]
        options = members(kind)
        simple = [m for m in options if not is_object(m)]
        if name in URLS and str in options:
            return URLS[name]
        for option in simple or options:
            if typing.get_origin(option) is typing.Literal:
                # The first word is often what holds anyway.
                return typing.get_args(option)[-1]
            if option in (str, bytes):
                return f"some_{name}"
            if option is bool:
                return True
            if option is int:
                # OpenAI takes no limit below 16.
                return 64 if name in LIMITS else 7
            if option is float:
                return 0.5
            if element(option) is not None:
                inner = element(option)
                return [self.value(name, inner, seen)]
            if is_object(option):
                return self.least(option, seen)
        return {}

    def least(self, kind, seen=()):
        """An object with nothing but what it must have."""
        if kind in seen:
            return {}
        made = {}
        for name, of in hints(kind).items():
            if name in TOLD or name in required(kind):
                literal = [m for m in members(of) if typing.get_origin(m) is typing.Literal]
                if name in ("type", "role") and literal:
                    made[name] = typing.get_args(literal[0])[0]
                else:
                    made[name] = self.value(name, of, (*seen, kind))
        return made

    def walk(self, kind, path, build, seen, base=None):
        """Every field of an object; `build` makes the request around one."""
        if kind in seen:
            return
        base = base or self.least(kind)
        for name, of in hints(kind).items():
            inner = f"{path}.{name}" if path else name
            if name not in ("type", "role", "model", "stream"):
                without = {key: held for key, held in base.items() if key != name}
                value = self.value(name, of, (kind,))
                # An empty object says nothing; what it may hold does.
                if value != {}:
                    self.note(inner, build(without), build({**base, name: value}))
            for option in members(of):
                around = lambda value, name=name: build({**base, name: value})
                self.descend(option, inner, around, (*seen, kind))

    def descend(self, option, path, build, seen):
        of = element(option)
        if of is not None:
            for inner in members(of):
                self.descend(inner, f"{path}[]", lambda value: build([value]), seen)
            return
        if not is_object(option):
            return
        kind = word(option)
        named = f"{path}({kind})" if kind else path
        if kind and kind not in KINDS[self.api] and not self.is_role(option, kind):
            self.note(named, None, build(self.least(option)))
            return
        self.walk(option, named, build, seen)

    def is_role(self, option, kind):
        return "role" in hints(option) and kind in ("system", "developer", "user", "assistant", "tool", "message")

    def note(self, path, without, request):
        if path.startswith(("tool_choice", "parallel_tool_calls")):
            # Without tools it would mean nothing.
            tools = {"tools": [TOOLS[self.api]]}
            without, request = without and {**without, **tools}, {**request, **tools}
        self.found.setdefault(path, [without, request])


def lines(found):
    """One line for each field."""
    compact = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return ",\n".join(f"  {compact(path)}: {compact(found[path])}" for path in sorted(found))


def main():
    apis = []
    for api, kind in APIS.items():
        fields = Fields(api)
        held = {**fields.least(kind), "model": "m"}
        fields.walk(kind, "", lambda value: value, (), held)
        apis.append(f'"{api}": {{\n{lines(fields.found)}\n}}')
    print("{\n" + ",\n".join(apis) + "\n}")


main()
