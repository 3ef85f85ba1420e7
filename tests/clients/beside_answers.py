"""What clients ask a gateway for beside answers: models in both shapes, counts of tokens, embeddings."""

import json
import sys
import urllib.request

import anthropic
import openai

URL, KEY = sys.argv[1:]
ROOT = URL.removesuffix("/v1")
MESSAGES = [{"role": "user", "content": "hello"}]
openais = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
anthropics = anthropic.Anthropic(base_url=ROOT, api_key=KEY, max_retries=0)


def status(call):
    """What it gives, or the status of its error."""
    try:
        return call()
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        return error.status_code


def models(client):
    ids = [model.id for model in client.models.list()]
    return {
        "listed": {"openai", "responses", "anthropic", "gemini"} <= set(ids),
        "one": client.models.retrieve("gemini").id,
        "unknown": status(lambda: client.models.retrieve("gemminy")),
    }


def counted(model):
    return status(lambda: anthropics.messages.count_tokens(model=model, messages=MESSAGES).input_tokens > 0)


def embedded(model):
    def call():
        found = openais.embeddings.create(model=model, input=["one", "two"]).data
        return [len(found), all(isinstance(number, float) for number in found[1].embedding)]

    return status(call)


with urllib.request.urlopen(urllib.request.Request(ROOT + "/", method="HEAD")) as response:
    alive = response.status
seen = {
    "alive": alive,
    "openai": models(openais),
    "anthropic": models(anthropics),
    "counted": {model: counted(model) for model in ["anthropic", "gemini", "openai", "responses"]},
    "embedded": {model: embedded(model) for model in ["openai", "gemini", "anthropic"]},
}
print(json.dumps(seen))
