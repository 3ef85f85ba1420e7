#!/usr/bin/env bash
# An error with `x-should-retry: false`: seven clients, and where litellm and `ai` call again in spite of it.
#
# openai (Python 3.57.0, npm 7.59.0), anthropic (Python 2.14.0, npm 1.14.0) and groq 1.7.0 obey the header. Vercel's
# `ai` 6.0.326 does not know it and calls again at a 429. litellm 1.80.16 obeys by default, as openai's client makes the
# calls. Its own retries, those of `num_retries` and of `Router` (two, unless told otherwise), look at neither the header
# nor the status: a 400 and a 402 are tried again like any error. A gateway that refuses with 402 for a spent budget is
# asked three times for each call of such a client.
# Seen: how often one call asks the provider, below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check openai==3.57.0 anthropic==2.14.0 groq==1.7.0 litellm==1.80.16 \
  tenacity==9.2.1
npm install --silent --no-audit --no-fund ai@6.0.326 @ai-sdk/openai-compatible@2.0.92 openai@7.59.0 \
  @anthropic-ai/sdk@1.14.0 >&2
cat >finding.py <<'PY'
import http.server, json, os, subprocess, threading, time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import anthropic, groq, litellm, openai

calls = 0
litellm.suppress_debug_info = True


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        global calls
        calls += 1
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(status)
        self.send_header("x-should-retry", "false")
        self.send_header("retry-after-ms", "1")
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"error": {"message": "spent", "type": "budget", "code": "budget"}}).encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}"
asked = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
lite = {"model": "openai/m", "api_key": "k", "api_base": base}
router = litellm.Router(model_list=[{"model_name": "m", "litellm_params": lite}])


def npm(client):
    subprocess.run(["node", "finding.mjs", client, base], check=True)


CLIENTS = {
    "openai": lambda: openai.OpenAI(api_key="k", base_url=base).chat.completions.create(**asked),
    "openai (npm)": lambda: npm("openai"),
    "anthropic": lambda: anthropic.Anthropic(api_key="k", base_url=base).messages.create(**asked, max_tokens=1),
    "anthropic (npm)": lambda: npm("anthropic"),
    "groq": lambda: groq.Groq(api_key="k", base_url=base).chat.completions.create(**asked),
    "ai (npm)": lambda: npm("ai"),
    "litellm": lambda: litellm.completion(**{**asked, **lite}),
    "litellm, num_retries=2": lambda: litellm.completion(**{**asked, **lite}, num_retries=2),
    "litellm, Router": lambda: router.completion(**asked),
}
time.sleep = lambda _: None
print("client | 400 | 402 | 429")
for name, ask in CLIENTS.items():
    told = []
    for status in (400, 402, 429):
        calls = 0
        try:
            ask()
        except (openai.APIError, anthropic.APIError, groq.APIError):
            pass
        told.append(calls)
    print(name, *told, sep=" | ")
PY
cat >finding.mjs <<'JS'
import Anthropic from '@anthropic-ai/sdk'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText } from 'ai'
import OpenAI from 'openai'

const [client, baseURL] = process.argv.slice(2)
const options = { apiKey: 'k', baseURL, logLevel: 'off' }
const clients = {
  ai: () => generateText({ model: createOpenAICompatible({ ...options, name: 'x' })('m'), prompt: 'x' }),
  anthropic: () => new Anthropic(options).messages.create({ model: 'm', messages: [], max_tokens: 1 }),
  openai: () => new OpenAI(options).chat.completions.create({ model: 'm', messages: [] }),
}
await clients[client]().catch(() => {})
JS
seen="$(venv/bin/python -W ignore finding.py)"
echo "$seen"
[ "$seen" = "client | 400 | 402 | 429
openai | 1 | 1 | 1
openai (npm) | 1 | 1 | 1
anthropic | 1 | 1 | 1
anthropic (npm) | 1 | 1 | 1
groq | 1 | 1 | 1
ai (npm) | 1 | 1 | 3
litellm | 1 | 1 | 1
litellm, num_retries=2 | 3 | 3 | 3
litellm, Router | 3 | 3 | 3" ]
