#!/usr/bin/env bash
# openai (Python) 3.57.0 and openai (npm) 6.49.0: an SSE block without `data` ends the stream with a JSON error.
#
# By the HTML standard a block with no data dispatches nothing: `event: ping`, `id: 7` or `retry: 100` followed by an
# empty line is legal and is how many servers keep a connection alive or set the reconnection time. The Python client
# hands the empty data of all three to its JSON parser and raises `JSONDecodeError`; the npm client does so for
# `event: ping` alone. A byte order mark in front, legal too, makes the Python client lose the first event without a word.
# Only a comment (`: keep-alive`) passes everywhere.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check openai==3.57.0
cd "$dir"
npm install --silent --no-audit --no-fund openai@6.49.0 >&2
cat >provider.py <<'PY'
import http.server, json, threading

CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
         "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}]}
HEADS = {"comment": ": keep-alive\n\n", "event": "event: ping\n\n", "id": "id: 7\n\n", "retry": "retry: 100\n\n",
         "mark": "\ufeff"}


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        head = HEADS[self.path.split("/")[1]]
        self.wfile.write(f"{head}data: {json.dumps(CHUNK)}\n\ndata: [DONE]\n\n".encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
PY
cat >finding.py <<'PY'
import subprocess
import openai
from provider import HEADS, server

for head in HEADS:
    base = f"http://127.0.0.1:{server.server_port}/{head}"
    client = openai.OpenAI(api_key="k", base_url=base)
    try:
        chunks = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}], stream=True)
        python = "".join(chunk.choices[0].delta.content for chunk in chunks) or "nothing"
    except ValueError as error:
        python = type(error).__name__
    npm = subprocess.run(["node", "finding.mjs", base], capture_output=True, text=True, check=True).stdout.strip()
    print(f"{head}: {python} | {npm}")
PY
cat >finding.mjs <<'JS'
import OpenAI from 'openai'

const client = new OpenAI({ apiKey: 'k', baseURL: process.argv[2], logLevel: 'off' })
try {
  let text = ''
  for await (const chunk of await client.chat.completions.create({ model: 'm', messages: [], stream: true }))
    text += chunk.choices[0].delta.content
  console.log(text)
} catch (error) {
  console.log(error.name)
}
JS
seen="$("$dir/venv/bin/python" finding.py)"
echo "$seen"
[ "$seen" = "comment: hi | hi
event: JSONDecodeError | SyntaxError
id: JSONDecodeError | hi
retry: JSONDecodeError | hi
mark: nothing | hi" ]
