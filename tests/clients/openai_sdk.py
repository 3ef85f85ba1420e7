"""Drives a gateway with the official OpenAI SDK and prints what came back as JSON."""

import json
import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2], max_retries=0)
seen = {}

question = [{"role": "user", "content": "hello"}]

plain = client.chat.completions.with_raw_response.create(model="fast-chat", messages=question, max_tokens=12)
completion = plain.parse()
seen["plain"] = {
    "request_id": plain.headers["x-request-id"],
    "output_tokens": completion.usage.completion_tokens,
    "text": bool(completion.choices[0].message.content),
    "finish_reason": completion.choices[0].finish_reason,
}

for name, options in {
    "stream": {},
    "stream_with_usage": {"stream_options": {"include_usage": True}},
}.items():
    chunks = list(client.chat.completions.create(model="fast-chat", messages=question, max_tokens=12, stream=True, **options))
    seen[name] = {
        "text": bool("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)),
        "usage": [chunk.usage.completion_tokens for chunk in chunks if chunk.usage],
    }

embeddings = client.embeddings.create(model="embed", input=["one", "two"])
seen["embeddings"] = {
    "vectors": len(embeddings.data),
    "numbers": len(embeddings.data[0].embedding) > 0,
    "input_tokens": embeddings.usage.prompt_tokens,
}

seen["models"] = sorted(model.id for model in client.models.list())


def error(call):
    try:
        call()
    except openai.APIStatusError as raised:
        return {"type": type(raised).__name__, "status": raised.status_code, "code": raised.code, "message": raised.message}
    return None


seen["unknown_model"] = error(lambda: client.chat.completions.create(model="fast-chap", messages=question))
stranger = openai.OpenAI(base_url=sys.argv[1], api_key="sk-not-ours", max_retries=0)
seen["unknown_key"] = error(lambda: stranger.models.list())

print(json.dumps(seen))
