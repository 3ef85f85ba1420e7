#!/usr/bin/env bash
# langchain-anthropic 1.7.10: a stream whose `message_delta` counts output alone has 0 input tokens.
#
# Anthropic's stream tells the prompt's tokens in `message_start`; `message_delta` repeats them in newer answers only, and
# servers and proxies that speak the protocol often send `output_tokens` alone there. LangChain reads usage from
# `message_delta` and nowhere else, so prompt and cached tokens, mostly the larger part of the bill, are 0. The `anthropic`
# SDK that it stands on keeps the counts of `message_start` in the same stream.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check anthropic==2.14.0 langchain-anthropic==1.7.10
cat >"$dir/finding.py" <<'PY'
import http.server, json, threading
import anthropic
from langchain_anthropic import ChatAnthropic

PROMPT = {"input_tokens": 10, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 200}


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for event in [
            {"type": "message_start", "message": {
                "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [],
                "stop_reason": None, "stop_sequence": None, "usage": {**PROMPT, "output_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
             "usage": {**repeated, "output_tokens": 5}},
            {"type": "message_stop"},
        ]:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
where = {"api_key": "k", "base_url": f"http://127.0.0.1:{server.server_port}"}
for repeated in (PROMPT, {}):
    with anthropic.Anthropic(**where).messages.stream(
        model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}]
    ) as stream:
        sdk = stream.get_final_message().usage
    whole = None
    for part in ChatAnthropic(model="m", max_tokens=9, **where).stream("x"):
        whole = part if whole is None else whole + part
    print("repeated:" if repeated else "output alone:",
          "anthropic", sdk.input_tokens, sdk.cache_read_input_tokens, sdk.cache_creation_input_tokens,
          "| langchain-anthropic", whole.usage_metadata["input_tokens"], "of which cached",
          whole.usage_metadata["input_token_details"].get("cache_read", 0))
PY
seen="$("$dir/venv/bin/python" -W ignore "$dir/finding.py")"
echo "$seen"
[ "$seen" = "repeated: anthropic 10 1000 200 | langchain-anthropic 1210 of which cached 1000
output alone: anthropic 10 1000 200 | langchain-anthropic 0 of which cached 0" ]
