#!/usr/bin/env bash
# A 429 with `retry-after: 300`: five clients, four behaviours.
#
# openai (Python) 2.8.1 and groq 1.7.0 honour the header up to 60 seconds; above that they ignore it and call again
# within two seconds. openai 3.57.0 honours up to 120 seconds and above that does not call again at all.
# anthropic 2.14.0 sleeps all 300 seconds, and just as readily an hour. Vercel's `ai` 6.0.326 honours 60 seconds and
# above that calls again after 2 seconds. A gateway that tells the whole truth in `retry-after` is stormed by some of
# its clients and hangs others; up to 60 seconds all five wait.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cat >"$dir/client.py" <<'PY'
import http.server, importlib, json, sys, threading, time

package, client = sys.argv[1:]
library = importlib.import_module(package)
ANSWER = {
    "id": "c", "object": "chat.completion", "created": 1, "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
} if package != "anthropic" else {
    "id": "m", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 1, "output_tokens": 1},
}
calls = 0


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        global calls
        calls += 1
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(429 if calls == 1 else 200)
        if calls == 1:
            self.send_header("retry-after", seconds)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"error": {"message": "slow down"}} if calls == 1 else ANSWER).encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
told = []
for seconds in ["59", "61", "119", "300", "3600"]:
    calls, slept = 0, []
    sdk = getattr(library, client)(api_key="k", base_url=f"http://127.0.0.1:{server.server_port}")
    call = sdk.messages.create if package == "anthropic" else sdk.chat.completions.create
    extra = {"max_tokens": 1} if package == "anthropic" else {}
    rest, time.sleep = time.sleep, slept.append
    try:
        call(model="m", messages=[{"role": "user", "content": "x"}], **extra)
    except library.RateLimitError:
        pass
    time.sleep = rest
    told.append("gives up" if calls == 1 else "waits" if slept == [float(seconds)] else "under 2 s" if slept[0] < 2 else slept)
print(package, library.__version__, *told, sep=" | ")
PY
cat >"$dir/client.mjs" <<'JS'
import http from 'node:http'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateText } from 'ai'

const ANSWER = { id: 'c', object: 'chat.completion', created: 1, model: 'm',
  choices: [{ index: 0, message: { role: 'assistant', content: 'hi' }, finish_reason: 'stop' }] }
const told = []
for (const seconds of ['59', '61', '119', '300', '3600']) {
  const calls = []
  const server = http.createServer((request, response) => {
    calls.push(Date.now())
    request.resume()
    response.writeHead(calls.length === 1 ? 429 : 200, { 'content-type': 'application/json', 'retry-after': seconds })
    response.end(JSON.stringify(calls.length === 1 ? { error: { message: 'slow down' } } : ANSWER))
  })
  await new Promise(ready => server.listen(0, '127.0.0.1', ready))
  const model = createOpenAICompatible({ name: 'x', apiKey: 'k', baseURL: `http://127.0.0.1:${server.address().port}` })('m')
  try {
    await generateText({ model, prompt: 'x', abortSignal: AbortSignal.timeout(8000) })
    told.push('about ' + Math.round((calls[1] - calls[0]) / 1000) + ' s')
  } catch {
    told.push(calls.length === 1 ? 'waits' : 'failed')
  }
  server.closeAllConnections()
  server.close()
}
console.log('ai 6.0.326 | ' + told.join(' | '))
process.exit(0)
JS
python() { # VENV PACKAGE==VERSION MODULE CLIENT
  python3 -m venv "$dir/$1"
  "$dir/$1/bin/pip" install --quiet --disable-pip-version-check "$2"
  "$dir/$1/bin/python" -W ignore "$dir/client.py" "$3" "$4"
}
seen="$(
  echo "client | 59 | 61 | 119 | 300 | 3600"
  python a openai==2.8.1 openai OpenAI
  python b groq==1.7.0 groq Groq
  python d openai==3.57.0 openai OpenAI
  python e anthropic==2.14.0 anthropic Anthropic
  cd "$dir" && npm install --silent --no-audit --no-fund ai@6.0.326 @ai-sdk/openai-compatible@2.0.92 >&2
  node client.mjs
)"
echo "$seen"
[ "$seen" = "client | 59 | 61 | 119 | 300 | 3600
openai | 2.8.1 | waits | under 2 s | under 2 s | under 2 s | under 2 s
groq | 1.7.0 | waits | under 2 s | under 2 s | under 2 s | under 2 s
openai | 3.57.0 | waits | waits | waits | gives up | gives up
anthropic | 2.14.0 | waits | waits | waits | waits | waits
ai 6.0.326 | waits | about 2 s | about 2 s | about 2 s | about 2 s" ]
