"""What must hold for a model that says anything at all, by OpenAI's and Anthropic's SDK: a plain answer,
a stream, a forced tool, plain and streamed."""

import json

import anthropic
import openai
from seen import GREETING, KEY, MODELS, URL

MAX_TOKENS = 64
CITIES = ["Paris", "Lyon"]
CITY = {"type": "object", "properties": {"city": {"type": "string", "enum": CITIES}}, "required": ["city"]}
asked = {"messages": [{"role": "user", "content": GREETING}], "max_tokens": MAX_TOKENS}


def chat(model):
    client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
    ask = {"model": model, **asked}
    answer = client.chat.completions.create(**ask)
    assert answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason in ("stop", "length"), answer
    # The server's own count goes a little beyond what it was allowed.
    assert answer.usage.prompt_tokens > 0 and answer.usage.completion_tokens > 0, answer
    chunks = list(client.chat.completions.create(stream=True, **ask))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices), chunks
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] in ("stop", "length"), chunks
    forced = {
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": CITY}}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
    }
    answer = client.chat.completions.create(**ask, **forced)
    [call] = answer.choices[0].message.tool_calls
    assert call.function.name == "weather" and json.loads(call.function.arguments)["city"] in CITIES, answer
    # llama.cpp's Python server says id and name anew in each chunk, which passes as it is, and which the SDK's own
    # accumulation would string together.
    chunks = list(client.chat.completions.create(stream=True, **ask, **forced))
    calls = [call for chunk in chunks if chunk.choices for call in chunk.choices[0].delta.tool_calls or []]
    assert {call.index for call in calls} == {0} and calls[0].function.name == "weather", chunks
    assert json.loads("".join(call.function.arguments for call in calls))["city"] in CITIES, chunks


def responses(model):
    client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
    ask = {"model": model, "input": GREETING, "max_output_tokens": MAX_TOKENS}
    answer = client.responses.create(**ask)
    assert answer.output_text and answer.usage.output_tokens > 0, answer
    with client.responses.stream(**ask) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    assert text


def messages(model):
    client = anthropic.Anthropic(base_url=URL.removesuffix("/v1"), api_key=KEY, max_retries=0)
    ask = {"model": model, **asked}
    answer = client.messages.create(**ask)
    assert answer.content[0].text and answer.stop_reason in ("end_turn", "max_tokens"), answer
    assert answer.usage.input_tokens > 0 and answer.usage.output_tokens > 0, answer
    with client.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream)
    forced = {"tools": [{"name": "weather", "input_schema": CITY}], "tool_choice": {"type": "tool", "name": "weather"}}
    answer = client.messages.create(**ask, **forced)
    [use] = [block for block in answer.content if block.type == "tool_use"]
    assert use.name == "weather" and use.input["city"] in CITIES, answer
    with client.messages.stream(**ask, **forced) as stream:
        [use] = [block for block in stream.get_final_message().content if block.type == "tool_use"]
    assert use.name == "weather" and use.input["city"] in CITIES, use


for model in MODELS:
    for surface in (chat, responses, messages):
        surface(model)
print("{}")
