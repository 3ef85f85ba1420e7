"""The official OpenAI SDK for Python, over chat completions and over Responses."""

import json

import openai
from seen import ARGUMENTS, CALL, CITIES, GREETING, MODELS, URL, KEY, report

client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)
FUNCTION = {"name": "weather", "description": "Tells the weather", "parameters": ARGUMENTS}


class Chat:
    tools = [{"type": "function", "function": FUNCTION}]

    def plain(self, model):
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": GREETING}], max_tokens=16)
        return self.told(answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage)

    def stream(self, model):
        text, finish, usage = "", None, None
        for chunk in client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": GREETING}],
            max_tokens=16,
            stream=True,
            stream_options={"include_usage": True},
        ):
            usage = chunk.usage or usage
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
        return self.told(text, finish, usage)

    def told(self, text, finish, usage):
        return {"words": len(text.split()), "finish": finish, "input": usage.prompt_tokens, "output": usage.completion_tokens}

    def tools_called(self, model):
        messages = [{"role": "system", "content": "You are terse."}, {"role": "user", "content": CALL}]
        answer = client.chat.completions.create(model=model, messages=messages, tools=self.tools, max_tokens=16).choices[0]
        messages.append(answer.message)
        for call, city in zip(answer.message.tool_calls, CITIES):
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"rain in {city}"})
        after = client.chat.completions.create(model=model, messages=messages, tools=self.tools, max_tokens=16).choices[0]
        calls = [[call.function.name, json.loads(call.function.arguments)] for call in answer.message.tool_calls]
        return {"calls": calls, "finish": answer.finish_reason, "after": after.finish_reason}

    def tools_streamed(self, model):
        with client.chat.completions.stream(
            model=model, messages=[{"role": "user", "content": CALL}], tools=self.tools, max_tokens=16
        ) as stream:
            answer = stream.get_final_completion().choices[0]
        return [[call.function.name, json.loads(call.function.arguments)] for call in answer.message.tool_calls]

    def forced(self, model):
        choice = {"type": "function", "function": {"name": "weather"}}
        messages = [{"role": "user", "content": GREETING}]
        answer = client.chat.completions.create(model=model, messages=messages, tools=self.tools, tool_choice=choice, max_tokens=16)
        return [call.function.name for call in answer.choices[0].message.tool_calls]


class Responses:
    tools = [{"type": "function", **FUNCTION}]

    def plain(self, model):
        answer = client.responses.create(model=model, input=GREETING, max_output_tokens=16)
        return self.told(answer)

    def stream(self, model):
        text, last = "", None
        for event in client.responses.create(model=model, input=GREETING, max_output_tokens=16, stream=True):
            if event.type == "response.output_text.delta":
                text += event.delta
            if event.type in ("error", "response.failed"):
                raise openai.APIError(event.type, request=None, body=None)
            last = event
        assert last.response.output_text == text
        return self.told(last.response)

    def told(self, answer):
        return {
            "words": len(answer.output_text.split()),
            "finish": answer.status,
            "input": answer.usage.input_tokens,
            "output": answer.usage.output_tokens,
        }

    def tools_called(self, model):
        items = [{"role": "user", "content": CALL}]
        ask = {"model": model, "instructions": "You are terse.", "tools": self.tools, "max_output_tokens": 16}
        answer = client.responses.create(input=items, **ask)
        items += answer.output
        made = self.calls(answer)
        for call, city in zip((item for item in answer.output if item.type == "function_call"), CITIES):
            items.append({"type": "function_call_output", "call_id": call.call_id, "output": f"rain in {city}"})
        after = client.responses.create(input=items, **ask)
        return {"calls": made, "finish": answer.status, "after": after.status}

    def tools_streamed(self, model):
        with client.responses.stream(model=model, input=CALL, tools=self.tools, max_output_tokens=16) as stream:
            return self.calls(stream.get_final_response())

    def forced(self, model):
        choice = {"type": "function", "name": "weather"}
        answer = client.responses.create(model=model, input=GREETING, tools=self.tools, tool_choice=choice, max_output_tokens=16)
        return [item.name for item in answer.output if item.type == "function_call"]

    def calls(self, answer):
        return [[item.name, json.loads(item.arguments)] for item in answer.output if item.type == "function_call"]


report(openai.APIError, chat=Chat(), responses=Responses())
