"""The official Anthropic SDK for Python."""

import anthropic
from seen import ARGUMENTS, CALL, CITIES, GREETING, KEY, URL, report

# The SDK puts /v1 before its paths itself.
client = anthropic.Anthropic(base_url=URL.removesuffix("/v1"), api_key=KEY, max_retries=0)


class Messages:
    tools = [{"name": "weather", "description": "Tells the weather", "input_schema": ARGUMENTS}]

    def plain(self, model):
        return self.told(client.messages.create(model=model, messages=[{"role": "user", "content": GREETING}], max_tokens=16))

    def stream(self, model):
        with client.messages.stream(model=model, messages=[{"role": "user", "content": GREETING}], max_tokens=16) as stream:
            text = "".join(stream.text_stream)
            answer = stream.get_final_message()
        assert answer.content[0].text == text
        return self.told(answer)

    def told(self, answer):
        return {
            "words": len(answer.content[0].text.split()),
            "finish": answer.stop_reason,
            "input": answer.usage.input_tokens,
            "output": answer.usage.output_tokens,
        }

    def tools_called(self, model):
        messages = [{"role": "user", "content": CALL}]
        ask = {"model": model, "system": "You are terse.", "tools": self.tools, "max_tokens": 16}
        answer = client.messages.create(messages=messages, **ask)
        uses = [block for block in answer.content if block.type == "tool_use"]
        results = [
            {"type": "tool_result", "tool_use_id": use.id, "content": f"rain in {city}"} for use, city in zip(uses, CITIES)
        ]
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]
        after = client.messages.create(messages=messages, **ask)
        return {"calls": self.calls(answer), "finish": answer.stop_reason, "after": after.stop_reason}

    def tools_streamed(self, model):
        messages = [{"role": "user", "content": CALL}]
        with client.messages.stream(model=model, messages=messages, tools=self.tools, max_tokens=16) as stream:
            return self.calls(stream.get_final_message())

    def forced(self, model):
        messages = [{"role": "user", "content": GREETING}]
        choice = {"type": "tool", "name": "weather"}
        answer = client.messages.create(model=model, messages=messages, tools=self.tools, tool_choice=choice, max_tokens=16)
        return [block.name for block in answer.content if block.type == "tool_use"]

    def calls(self, answer):
        return [[block.name, block.input] for block in answer.content if block.type == "tool_use"]


report(anthropic.APIError, messages=Messages())
