"""LangChain, by its OpenAI and its Anthropic integration."""

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from seen import ARGUMENTS, CALL, CITIES, GREETING, KEY, URL, report


class Chain:
    tool = {"title": "weather", "description": "Tells the weather", **ARGUMENTS}

    def __init__(self, model):
        self.model = model

    def plain(self, model):
        return self.told(self.model(model).invoke(GREETING))

    def stream(self, model):
        whole = None
        for chunk in self.model(model).stream(GREETING):
            whole = chunk if whole is None else whole + chunk
        return self.told(whole)

    def told(self, answer):
        finish = answer.response_metadata.get("finish_reason") or answer.response_metadata.get("stop_reason")
        usage = answer.usage_metadata
        return {"words": len(answer.text.split()), "finish": finish, "input": usage["input_tokens"], "output": usage["output_tokens"]}

    def tools_called(self, model):
        messages = [SystemMessage("You are terse."), HumanMessage(CALL)]
        chain = self.model(model).bind_tools([self.tool])
        answer = chain.invoke(messages)
        messages.append(answer)
        for call, city in zip(answer.tool_calls, CITIES):
            messages.append(ToolMessage(f"rain in {city}", tool_call_id=call["id"]))
        after = chain.invoke(messages)
        return {"calls": self.calls(answer), "finish": self.told(answer)["finish"], "after": self.told(after)["finish"]}

    def tools_streamed(self, model):
        whole = None
        for chunk in self.model(model).bind_tools([self.tool]).stream(CALL):
            whole = chunk if whole is None else whole + chunk
        return self.calls(whole)

    def forced(self, model):
        answer = self.model(model).bind_tools([self.tool], tool_choice="weather").invoke(GREETING)
        return [call["name"] for call in answer.tool_calls]

    def calls(self, answer):
        return [[call["name"], call["args"]] for call in answer.tool_calls]


def by_openai(model):
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model=model, base_url=URL, api_key=KEY, max_retries=0, max_tokens=16, stream_usage=True)


def by_anthropic(model):
    return ChatAnthropic(model=model, base_url=URL.removesuffix("/v1"), api_key=KEY, max_retries=0, max_tokens=16)


report((openai.APIError, anthropic.APIError), chat=Chain(by_openai), messages=Chain(by_anthropic))
