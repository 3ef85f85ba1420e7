"""LiteLLM's SDK as a client, with its OpenAI and its Anthropic provider pointed at the gateway."""

import json
import os

# Its own list of prices is enough; otherwise it fetches a newer one at each start.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm
from seen import ARGUMENTS, CALL, CITIES, GREETING, KEY, URL, report

litellm.suppress_debug_info = True


class Completion:
    tools = [{"type": "function", "function": {"name": "weather", "description": "Tells the weather", "parameters": ARGUMENTS}}]

    def __init__(self, provider, url):
        self.provider, self.url = provider, url

    def ask(self, model, messages, **options):
        return litellm.completion(
            model=f"{self.provider}/{model}",
            api_base=self.url,
            api_key=KEY,
            messages=messages,
            max_tokens=16,
            num_retries=0,
            # The SDKs beneath it would wait out what a 429 says.
            max_retries=0,
            **options,
        )

    def plain(self, model):
        return self.told(self.ask(model, [{"role": "user", "content": GREETING}]))

    def stream(self, model):
        chunks = list(
            self.ask(model, [{"role": "user", "content": GREETING}], stream=True, stream_options={"include_usage": True})
        )
        return self.told(litellm.stream_chunk_builder(chunks))

    def told(self, answer):
        choice, usage = answer.choices[0], answer.usage
        return {
            "words": len(choice.message.content.split()),
            "finish": choice.finish_reason,
            "input": usage.prompt_tokens,
            "output": usage.completion_tokens,
        }

    def tools_called(self, model):
        messages = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": CALL}]
        answer = self.ask(model, messages, tools=self.tools)
        # Sending a message may turn the calls in it into something else.
        calls = self.calls(answer)
        messages.append(answer.choices[0].message)
        for call, city in zip(answer.choices[0].message.tool_calls, CITIES):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"rain in {city}"})
        after = self.ask(model, messages, tools=self.tools)
        finish = answer.choices[0].finish_reason
        return {"calls": calls, "finish": finish, "after": after.choices[0].finish_reason}

    def tools_streamed(self, model):
        chunks = list(self.ask(model, [{"role": "user", "content": CALL}], tools=self.tools, stream=True))
        return self.calls(litellm.stream_chunk_builder(chunks))

    def forced(self, model):
        choice = {"type": "function", "function": {"name": "weather"}}
        answer = self.ask(model, [{"role": "user", "content": GREETING}], tools=self.tools, tool_choice=choice)
        return [call.function.name for call in answer.choices[0].message.tool_calls]

    def calls(self, answer):
        return [[call.function.name, json.loads(call.function.arguments)] for call in answer.choices[0].message.tool_calls]


report(
    Exception,
    chat=Completion("openai", URL),
    messages=Completion("anthropic", URL.removesuffix("/v1")),
)
