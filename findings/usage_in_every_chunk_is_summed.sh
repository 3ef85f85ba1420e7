#!/usr/bin/env bash
# langchain-openai 1.7.4 and pydantic-ai 2.68.0 add up the usage of every chunk; openai 3.57.0's helper takes the last.
#
# A chat stream may carry usage in each chunk: vLLM does with `continuous_usage_stats`, and some providers always do. Each
# count holds all tokens so far. Summed, four chunks of a 100-token prompt make 400 prompt tokens, and 1 + 2 + 3 + 3
# completion tokens make 9 of 3. The answer itself is right, so only the bill shows it, and it grows with the square of
# the length. A gateway in front of such a provider does well to send usage once, in the last chunk.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check \
  openai==3.57.0 langchain-openai==1.7.4 "pydantic-ai-slim[openai]==2.68.0"
cat >"$dir/finding.py" <<'PY'
import http.server, json, threading
import openai
from langchain_openai import ChatOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


def chunk(sent, *choices):
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices,
            "usage": {"prompt_tokens": 100, "completion_tokens": sent, "total_tokens": 100 + sent}}


def choice(text, finish=None):
    return {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}


CHUNKS = [chunk(1, choice("a")), chunk(2, choice("b")), chunk(3, choice("c", "stop")), chunk(3)]


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for each in CHUNKS:
            self.wfile.write(f"data: {json.dumps(each)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
where = {"api_key": "k", "base_url": f"http://127.0.0.1:{server.server_port}"}

with openai.OpenAI(**where).chat.completions.stream(
    model="m", messages=[{"role": "user", "content": "x"}], stream_options={"include_usage": True}
) as stream:
    usage = stream.get_final_completion().usage
print("openai:", usage.prompt_tokens, usage.completion_tokens)

whole = None
for part in ChatOpenAI(model="m", stream_usage=True, **where).stream("x"):
    whole = part if whole is None else whole + part
print("langchain-openai:", whole.usage_metadata["input_tokens"], whole.usage_metadata["output_tokens"])

with Agent(OpenAIChatModel("m", provider=OpenAIProvider(**where))).run_stream_sync("x") as result:
    result.get_output()
    print("pydantic-ai:", result.usage.input_tokens, result.usage.output_tokens)
PY
seen="$("$dir/venv/bin/python" -W ignore "$dir/finding.py")"
echo "$seen"
[ "$seen" = "openai: 100 3
langchain-openai: 400 9
pydantic-ai: 400 9" ]
