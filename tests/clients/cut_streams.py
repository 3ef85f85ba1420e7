"""Streams that the gateway's shutdown cuts: the line "begun" at the first word of all of them, then what each SDK
makes of it. TRANSLATED is a model that does not answer in Responses itself."""

import sys
import threading

import anthropic
import openai

URL, KEY, MODEL, TRANSLATED = sys.argv[1:]
MESSAGES = [{"role": "user", "content": "hello"}]
openais = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
anthropics = anthropic.Anthropic(base_url=URL.removesuffix("/v1"), api_key=KEY, max_retries=0)

STREAMS = {
    "chat": lambda: openais.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=100, stream=True),
    "messages": lambda: anthropics.messages.create(model=MODEL, messages=MESSAGES, max_tokens=100, stream=True),
    "responses": lambda: openais.responses.create(model=MODEL, input="hello", max_output_tokens=100, stream=True),
    "translated": lambda: openais.responses.create(model=TRANSLATED, input="hello", max_output_tokens=100, stream=True),
}
begun = threading.Barrier(len(STREAMS) + 1)
seen = {}


def has_text(event):
    kind = getattr(event, "type", "")
    if kind:
        return kind in ("content_block_delta", "response.output_text.delta")
    return bool(event.choices and event.choices[0].delta.content)


def read(name):
    has_begun = False
    try:
        for event in STREAMS[name]():
            if has_text(event) and not has_begun:
                has_begun = True
                begun.wait()
        seen[name] = "ended"
    except (openai.APIError, anthropic.APIError) as error:
        seen[name] = "raised" if "stopped" in str(error) else repr(error)


threads = [threading.Thread(target=read, args=[name]) for name in STREAMS]
for thread in threads:
    thread.start()
begun.wait()
print("begun", flush=True)
for thread in threads:
    thread.join()
print(" ".join(f"{name}={seen[name]}" for name in sorted(seen)), flush=True)
