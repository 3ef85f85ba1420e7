"""Reads streams of Responses that fail, at each model, and prints what the SDK, its helper and LangChain raise: the
code, and the message. LangChain is left out where it is not installed. A stream fails when its provider is told,
which is when something of it has arrived."""

import json
import sys
import urllib.request

import openai

try:
    from langchain_openai import ChatOpenAI
except ImportError:
    ChatOpenAI = None

URL, KEY, FAIL, *MODELS = sys.argv[1:]
client = openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0)


def loop(model):
    return client.responses.create(model=model, input="hello", max_output_tokens=16, stream=True)


def helper(model):
    with client.responses.stream(model=model, input="hello", max_output_tokens=16) as stream:
        yield from stream
        stream.get_final_response()


def langchain(model):
    chat = ChatOpenAI(model=model, base_url=URL, api_key=KEY, max_retries=0, max_tokens=16, use_responses_api=True)
    return chat.stream("hello")


def raised(read, model):
    try:
        for at, _ in enumerate(read(model)):
            if at == 0:
                urllib.request.urlopen(FAIL)
    except openai.APIError as error:
        return [error.code, error.message]
    except Exception as error:
        return [type(error).__name__, str(error)]
    return "nothing"


ways = [loop, helper] + [langchain] * bool(ChatOpenAI)
print(json.dumps({f"{way.__name__} {model}": raised(way, model) for way in ways for model in MODELS}))
