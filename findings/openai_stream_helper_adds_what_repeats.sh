#!/usr/bin/env bash
# openai (Python) 3.57.0: the chat stream helper adds up every field that a later delta repeats.
#
# `chat.completions.stream` treats a field of a delta as a piece to append unless it is called `index` or `type`.
# Providers and proxies that repeat `role`, a tool call's `id` and `name`, or a flag in each chunk give a final message
# with the role "assistantassistant", the id "call_1call_1", the function "ff" and a flag that counts. The same chunks
# read through `create(stream=True)` are as sent. And a list of objects without `index`, like the `annotations` and
# `reasoning_details` that OpenRouter's kind of API streams, is taken once; the second chunk with one raises.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check openai==3.57.0
cat >"$dir/finding.py" <<'PY'
import http.server, json, threading
import openai


def chunk(delta, finish=None):
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def call(arguments):
    return {"tool_calls": [{"index": 0, "id": "call_1", "type": "function",
                            "function": {"name": "f", "arguments": arguments}}]}


def cited(url):
    return {"annotations": [{"type": "url_citation", "url_citation": {"url": url}}]}


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for each in chunks:
            self.wfile.write(f"data: {json.dumps(each)}\n\n".encode())
        self.wfile.write(b"data: [DONE]\n\n")


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(api_key="k", base_url=f"http://127.0.0.1:{server.server_port}")


def final(*deltas):
    global chunks
    chunks = [*(chunk(delta) for delta in deltas), chunk({}, "stop")]
    with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "x"}]) as stream:
        for _ in stream:
            pass
        return stream.get_final_completion().choices[0].message.to_dict()


said = {"role": "assistant", "content": "a", "thought": True}
message = final(said, said)
print("role:", message["role"], "| flag:", message["thought"])
tool = final(call("{"), call("}"))["tool_calls"][0]
print("id:", tool["id"], "| name:", tool["function"]["name"], "| arguments:", tool["function"]["arguments"])
print("one list:", len(final(cited("https://a.test"))["annotations"]), "citation")
try:
    final(cited("https://a.test"), cited("https://b.test"))
except RuntimeError as error:
    print("two lists:", str(error).split(";")[0])
PY
seen="$("$dir/venv/bin/python" "$dir/finding.py")"
echo "$seen"
[ "$seen" = 'role: assistantassistant | flag: 2
id: call_1call_1 | name: ff | arguments: {}
one list: 1 citation
two lists: Expected list delta entry to have an `index` key' ]
