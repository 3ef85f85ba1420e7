"""Every translated answer of the golden corpus, read by the official SDKs.

Each answer is validated against the SDK's own types, which the SDK itself does not do when it reads one, and
is then read by the SDK: a plain answer, or a stream to its end through the helper that puts it together. The
helper's result must be valid, too, and say the same as the plain answer.

Prints how many answers there are, and the faults as [case, client, fault].
`golden_answers.py GOLDEN_DIRECTORY`
"""

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anthropic
import anthropic.types
import openai
import openai.types.chat
import openai.types.responses
from pydantic import TypeAdapter, ValidationError

TYPES = {
    ("chat", "plain"): openai.types.chat.ChatCompletion,
    ("chat", "stream"): openai.types.chat.ChatCompletionChunk,
    ("messages", "plain"): anthropic.types.Message,
    ("messages", "stream"): anthropic.types.RawMessageStreamEvent,
    ("responses", "plain"): openai.types.responses.Response,
    ("responses", "stream"): openai.types.responses.ResponseStreamEvent,
}
ADAPTERS = {key: TypeAdapter(types) for key, types in TYPES.items()}
ANTHROPIC_ERROR = TypeAdapter(anthropic.types.ErrorResponse)

# What the types do not have, but clients read: reasoning as DeepSeek and OpenRouter tell it, Gemini's
# signatures as Google's own OpenAI-compatible API has them, what OpenAI's API answers beside its types,
# citations as OpenRouter streams and quotes them, and Weir's list of what had no place.
BEYOND = {"reasoning_content", "reasoning_details", "extra_content", "store", "annotations", "content", "weir_dropped"}

# What the types of one year have and those of another do not.
OF_SOME_YEARS = {
    "ResponseFunctionCallArgumentsDoneEvent.name",
    "PromptTokensDetails.cache_write_tokens",
    "InputTokensDetails.cache_write_tokens",
    "Usage.output_tokens_details",
    "MessageDeltaUsage.output_tokens_details",
    "ServerToolUsage.web_fetch_requests",
    "PromptTokensDetails.image_tokens",
}
# Helpers drop what they do not know.
UNKNOWN_TO_HELPERS = set() if hasattr(anthropic.types, "OutputTokensDetails") else {"output_tokens_details"}

# Arguments that are no JSON: whole, they become an object that says so; streamed, they were sent by then.
KNOWN = {("chat/plain-tools", "messages, stream")}


def answers(golden):
    """Each translated answer: its case, the client's API, `plain` or `stream`, and its text."""
    for path in sorted(golden.glob("*/answers/*.snap")):
        for section in re.split(r"^=== ", path.read_text(), flags=re.M)[1:]:
            head, _, rest = section.partition("\n")
            if ", " not in head or head.split(", ")[0] == path.parts[-3]:
                continue
            lines = rest.split("\n")
            # What the meter learned stands before the answer.
            while lines and not re.match(r"\{|data:|event:|:", lines[0]):
                lines.pop(0)
            text = "\n".join(lines)
            if text.strip():
                yield (f"{path.parts[-3]}/{path.stem}", *head.split(", "), text)


def events(text):
    """The data of each event of a stream."""
    for frame in text.split("\n\n"):
        data = [line[6:] for line in frame.split("\n") if line.startswith("data: ")]
        if data and data != ["[DONE]"]:
            yield "\n".join(data)


def is_error(api, data):
    said = json.loads(data)
    return said.get("type") == "error" if api == "messages" else bool(said.get("error")) and "object" not in said


def invalid(adapter, data):
    """What is wrong with a value, for the types of the SDK: each fault once, without indexes."""
    try:
        return unknown(adapter.validate_json(data, strict=True))
    except ValidationError as error:
        errors = error.errors()
    # Of a union, pydantic lists what is wrong for each member: those of another `type` are not meant.
    others = [each["loc"][:-1] for each in errors if each["loc"][-1] == "type" and each["type"] == "literal_error"]
    meant = [each for each in errors if not any(each["loc"][: len(other)] == other for other in others)]
    return sorted({f"{path(each['loc'])}: {each['msg']}" for each in meant}) or [f"unknown type in {data}"]


def path(loc):
    return ".".join(str(at) for at in loc if not isinstance(at, int))


def unknown(value):
    """Fields that the SDK's types do not have, but for those that are known to go beyond them."""
    found = []
    if isinstance(value, list):
        for each in value:
            found += unknown(each)
    elif hasattr(value, "model_extra"):
        extra = set(value.model_extra or {}) - BEYOND
        names = {f"{type(value).__name__}.{name}" for name in extra} - OF_SOME_YEARS
        found += [f"{name}: unknown" for name in names]
        for name in type(value).model_fields:
            found += unknown(getattr(value, name))
    return sorted(set(found))


class Provider(BaseHTTPRequestHandler):
    """Answers with what `answer` holds."""

    answer = ("text/plain", b"")

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        media_type, body = self.answer
        self.send_response(200)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
URL = f"http://127.0.0.1:{server.server_port}"
OPENAI = openai.OpenAI(base_url=f"{URL}/v1", api_key="k", max_retries=0)
ANTHROPIC = anthropic.Anthropic(base_url=URL, api_key="k", max_retries=0)
ASK = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def read_by_sdk(api, kind):
    """What the SDK makes of the answer; a stream is put together by its helper."""
    if api == "messages":
        if kind == "plain":
            return ANTHROPIC.messages.create(**ASK, max_tokens=9)
        with ANTHROPIC.messages.stream(**ASK, max_tokens=9) as stream:
            return stream.get_final_message()
    if api == "chat":
        if kind == "plain":
            return OPENAI.chat.completions.create(**ASK)
        with OPENAI.chat.completions.stream(**ASK, stream_options={"include_usage": True}) as stream:
            try:
                return stream.get_final_completion()
            # The helper takes these for errors, whoever answers.
            except (openai.LengthFinishReasonError, openai.ContentFilterFinishReasonError):
                return stream.current_completion_snapshot
    if kind == "plain":
        return OPENAI.responses.create(model="m", input="hello")
    with OPENAI.responses.stream(model="m", input="hello") as stream:
        for event in stream:
            if event.type in ("response.incomplete", "response.failed"):
                return event.response
        return stream.get_final_response()


def told(api, answer):
    """What an answer says, without how it came."""
    said = answer.to_dict(mode="json") if hasattr(answer, "to_dict") else answer
    if api == "chat":
        choice = said["choices"][0]
        message = choice["message"]
        calls = [
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"] or "{}"))
            for call in message.get("tool_calls") or []
        ]
        return message.get("content") or None, message.get("refusal") or None, calls, choice["finish_reason"], said.get("usage")
    if api == "messages":
        return said["content"], said["stop_reason"], said["usage"]
    items = [{key: value for key, value in item.items() if key not in ("id",)} for item in said["output"]]
    return said["status"], items, said.get("incomplete_details"), said.get("usage")


def faults(api, kind, text, plain):
    if kind == "plain":
        if is_error(api, text):
            yield from invalid(ANTHROPIC_ERROR, text) if api == "messages" else openai_error(json.loads(text))
            return
        yield from invalid(ADAPTERS[api, kind], text)
        Provider.answer = ("application/json", text.encode())
        told(api, read_by_sdk(api, kind))
        return
    is_broken = False
    for data in events(text):
        if json.loads(data) == {"type": "ping"}:
            continue
        if is_error(api, data):
            is_broken = True
            yield from invalid(ANTHROPIC_ERROR, data) if api == "messages" else openai_error(json.loads(data))
        else:
            is_broken |= json.loads(data).get("type") in ("error", "response.failed")
            yield from invalid(ADAPTERS[api, kind], data)
    Provider.answer = ("text/event-stream", text.encode())
    try:
        answer = read_by_sdk(api, kind)
    except (openai.APIError, anthropic.APIError) as error:
        if not is_broken:
            yield f"the SDK raised {type(error).__name__}: {error}"
        return
    if is_broken and api != "responses":
        yield "the SDK did not see the error"
        return
    if plain is None or is_broken:
        return
    whole, part = told(api, json.loads(plain)), told(api, answer)
    for one, other in zip(whole, part):
        if strip(one) != strip(other):
            yield f"plain says {json.dumps(strip(one))}, the stream {json.dumps(strip(other))}"


def strip(value):
    """Without what is null and what only helpers know."""
    if isinstance(value, dict):
        only_here = {"parsed_arguments", "parsed", "parsed_output", *UNKNOWN_TO_HELPERS}
        return {key: strip(each) for key, each in value.items() if each is not None and key not in only_here}
    if isinstance(value, (list, tuple)):
        return [strip(each) for each in value]
    return value


def openai_error(said):
    error = said["error"]
    if set(error) != {"message", "type", "param", "code"} or not isinstance(error["message"], str) or not isinstance(error["type"], str):
        yield f"error: {json.dumps(error)}"


def main():
    every = list(answers(Path(sys.argv[1])))
    plain = {(case, api): text for case, api, kind, text in every if kind == "plain" and not is_error(api, text)}
    found = []
    for case, api, kind, text in every:
        try:
            new = list(dict.fromkeys(faults(api, kind, text, plain.get((case, api)))))
        except Exception as error:
            new = [f"{type(error).__name__}: {error}"]
        if (case, f"{api}, {kind}") not in KNOWN:
            found += [[case, f"{api}, {kind}", fault] for fault in new]
    print(json.dumps({"answers": len(every), "faults": found}))


main()
