#!/usr/bin/env bash
# openai (Python) 3.57.0: the documented `error` event of a stream of Responses is no error, it is one more event.
#
# The reference has the event flat: `type`, `code`, `message`, `param`, `sequence_number`. The Python client raises for
# data with an `error` key alone, as chat completions send it. It yields the flat event, and the loop ends as if all were
# well; its stream helper raises, but tells of a missing event instead of the provider's words. openai (npm) 7.59.0
# throws by the name of the SSE event, and without the name passes the event on too. Only data that has both the flat
# fields and an `error` object raises everywhere. openai-python's issue 2487 asks for the flat one.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check openai==3.57.0
cd "$dir"
npm install --silent --no-audit --no-fund openai@7.59.0 >&2
cat >provider.py <<'PY'
import http.server, json, threading

ERROR = {"code": "server_error", "message": "out of order", "param": None}
FLAT = {"type": "error", **ERROR, "sequence_number": 1}
CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
         "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]}
CREATED = {"type": "response.created", "sequence_number": 0, "response": {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "in_progress", "output": [],
    "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}}
NAMES = ("event: response.created\n", "event: error\n")
SENT = {
    "chat": (("", ""), (CHUNK, {"error": {"type": "server_error", **ERROR}})),
    "responses": (NAMES, (CREATED, FLAT)),
    "responses, no names": (("", ""), (CREATED, FLAT)),
    "responses, both forms": (NAMES, (CREATED, {**FLAT, "error": ERROR})),
}


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for name, data in zip(*list(SENT.values())[int(self.path.split("/")[1])]):
            self.wfile.write(f"{name}data: {json.dumps(data)}\n\n".encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
PY
cat >finding.py <<'PY'
import subprocess
import openai
from provider import SENT, server


def told(ask):
    try:
        return ask()
    except (openai.APIError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def chat():
    for _ in client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True):
        pass
    return "no error"


def responses():
    for event in client.responses.create(model="m", input="x", stream=True):
        pass
    return f"no error, last {type(event).__name__}"


def helper():
    with client.responses.stream(model="m", input="x") as stream:
        return stream.get_final_response().status


for at, sent in enumerate(SENT):
    base = f"http://127.0.0.1:{server.server_port}/{at}"
    client = openai.OpenAI(api_key="k", base_url=base)
    print(sent, "python", told(responses if at else chat), sep=" | ")
    if at:
        print(sent, "python helper", told(helper), sep=" | ")
    npm = subprocess.run(["node", "finding.mjs", base], capture_output=True, text=True, check=True).stdout.strip()
    print(sent, "npm", npm, sep=" | ")
PY
cat >finding.mjs <<'JS'
import OpenAI from 'openai'

const baseURL = process.argv[2]
const client = new OpenAI({ apiKey: 'k', baseURL, logLevel: 'off' })
try {
  const events = baseURL.endsWith('/0')
    ? await client.chat.completions.create({ model: 'm', messages: [], stream: true })
    : await client.responses.create({ model: 'm', input: 'x', stream: true })
  let last
  for await (const event of events) last = event.type
  console.log('no error, last', last)
} catch (error) {
  console.log(`${error.constructor.name}: ${error.message}`)
}
JS
seen="$("$dir/venv/bin/python" finding.py)"
echo "$seen"
[ "$seen" = "chat | python | APIError: out of order
chat | npm | APIError: out of order
responses | python | no error, last ResponseErrorEvent
responses | python helper | RuntimeError: Didn't receive a \`response.completed\` event.
responses | npm | APIError: out of order
responses, no names | python | no error, last ResponseErrorEvent
responses, no names | python helper | RuntimeError: Didn't receive a \`response.completed\` event.
responses, no names | npm | no error, last error
responses, both forms | python | APIError: out of order
responses, both forms | python helper | APIError: out of order
responses, both forms | npm | APIError: out of order" ]
