#!/usr/bin/env bash
# anthropic (Python) 2.14.0: `api_key` goes out as `Authorization: Bearer`, no longer as `x-api-key`.
#
# In 1.17.0 the key went in `x-api-key`, and `Authorization` was for `auth_token`. From 2.0.0 on there is no `x-api-key` at
# all, the API version is 2026-10-21, and a client that is given both credentials is refused. (`temperature`, `top_p` and
# `top_k` are no parameters of `messages.create` in either; they raise TypeError before anything is sent.) A gateway that
# tells keys from OAuth tokens by the header, or reads `x-api-key` alone, turns its own users away after their upgrade.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cat >"$dir/finding.py" <<'PY'
import http.server, json, threading
import anthropic


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        global heads
        heads = self.headers
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
            "content": [], "usage": {"input_tokens": 1, "output_tokens": 1},
        }).encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
where = {"base_url": f"http://127.0.0.1:{server.server_port}"}
ask = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}


def tried(call):
    try:
        call()
        return "taken"
    except (TypeError, ValueError) as error:
        return type(error).__name__


client = anthropic.Anthropic(api_key="k", **where)
client.messages.create(**ask)
print(anthropic.__version__, heads["x-api-key"], heads["authorization"], heads["anthropic-version"],
      "temperature " + tried(lambda: client.messages.create(**ask, temperature=0.5)),
      "both " + tried(lambda: anthropic.Anthropic(api_key="k", auth_token="t", **where)), sep=" | ")
PY
seen="$(
  echo "version | x-api-key | authorization | anthropic-version | temperature | both credentials"
  for version in 1.17.0 2.0.0 2.14.0; do
    python3 -m venv "$dir/$version"
    "$dir/$version/bin/pip" install --quiet --disable-pip-version-check "anthropic==$version"
    "$dir/$version/bin/python" -W ignore "$dir/finding.py"
  done
)"
echo "$seen"
[ "$seen" = "version | x-api-key | authorization | anthropic-version | temperature | both credentials
1.17.0 | k | None | 2023-06-01 | temperature TypeError | both taken
2.0.0 | None | Bearer k | 2026-10-21 | temperature TypeError | both ValueError
2.14.0 | None | Bearer k | 2026-10-21 | temperature TypeError | both ValueError" ]
