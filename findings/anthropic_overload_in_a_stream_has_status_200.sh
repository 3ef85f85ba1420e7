#!/usr/bin/env bash
# anthropic (Python) 2.14.0: an overload that comes after the first event is an error with status 200.
#
# Anthropic's streams may end in an `error` event. Before the stream an overload is `OverloadedError` with status 529 and
# is tried again. In the stream the same error object becomes a plain `APIStatusError` whose `status_code` is 200, the
# status of the answer that carried it, and nothing is tried again. Retry rules and dashboards that go by class or by
# status see no overload; the type is to be found in `body` only.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check anthropic==2.14.0
cat >"$dir/finding.py" <<'PY'
import http.server, json, threading, time
import anthropic

OVERLOAD = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
START = {"type": "message_start", "message": {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
    "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}}
calls = 0


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        global calls
        calls += 1
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200 if early else 529)
        self.send_header("content-type", "text/event-stream" if early else "application/json")
        self.end_headers()
        if not early:
            self.wfile.write(json.dumps(OVERLOAD).encode())
            return
        for event in (START, OVERLOAD):
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = anthropic.Anthropic(api_key="k", base_url=f"http://127.0.0.1:{server.server_port}")
time.sleep = lambda _: None
for early in (False, True):
    calls = 0
    try:
        with client.messages.stream(model="m", max_tokens=1, messages=[{"role": "user", "content": "x"}]) as stream:
            stream.until_done()
    except anthropic.APIStatusError as error:
        print("in the stream:" if early else "before it:", type(error).__name__, error.status_code,
              error.body["error"]["type"], f"after {calls} call" + "s" * (calls > 1))
PY
seen="$("$dir/venv/bin/python" -W ignore "$dir/finding.py")"
echo "$seen"
[ "$seen" = "before it: OverloadedError 529 overloaded_error after 3 calls
in the stream: APIStatusError 200 overloaded_error after 1 call" ]
