"""Calls each `model@api` once with OpenAI's or Anthropic's SDK, and prints what they raise. The provider counts
how often they asked."""

import json
import sys

import anthropic
import openai

url, key, *models = sys.argv[1:]
chat = openai.OpenAI(base_url=url, api_key=key)
# A provider's own key in the other header is not Weir's.
messages = anthropic.Anthropic(
    base_url=url.removesuffix("/v1"),
    api_key="sk-ant-not-weirs",
    default_headers={"authorization": f"Bearer {key}"},
)
asked = [{"role": "user", "content": "Hello"}]


def raised(call):
    try:
        call()
    except (openai.APIError, anthropic.APIError) as error:
        return [type(error).__name__, getattr(error, "status_code", None)]
    return None


calls = {
    "chat": lambda model: chat.chat.completions.create(model=model, messages=asked),
    "messages": lambda model: messages.messages.create(
        model=model, max_tokens=9, messages=asked
    ),
}
seen = {}
for model in models:
    name, api = model.split("@")
    seen[model] = raised(lambda: calls[api](name))
listed = [
    [(model.id, model.created, model.owned_by) for model in chat.models.list()],
    [(model.id, model.type, model.display_name) for model in messages.models.list()],
]
json.dump({"seen": seen, "listed": [len(of) for of in listed]}, sys.stdout)
