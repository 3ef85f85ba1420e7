#!/usr/bin/env bash
# Two instrumentations of OpenAI's Responses lose answers of status `incomplete`: one the tokens, one the whole span.
#
# openinference-instrumentation-openai 0.1.66 takes a stream's answer from `response.completed`; one that ends in
# `response.incomplete` (token limit, content filter) becomes a span of status OK without tokens. With
# opentelemetry-instrumentation-openai 0.62.4 (Traceloop) an incomplete answer without a stream makes no span at all. Both
# answers are billed in full, and by their nature they are the longest.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cat >"$dir/finding.py" <<'PY'
import http.server, importlib, json, sys, threading
import openai
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

USAGE = {"input_tokens": 90, "output_tokens": 10, "total_tokens": 100,
         "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [{"type": "output_text", "text": "hi", "annotations": []}]}
BASE = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-4o", "output": [ITEM],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": USAGE}
ENDS = {"completed": {}, "incomplete": {"incomplete_details": {"reason": "max_output_tokens"}}}


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        stream = json.loads(self.rfile.read(int(self.headers["content-length"]))).get("stream")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if stream else "application/json")
        self.end_headers()
        answer = {**BASE, "status": status, **ENDS[status]}
        if not stream:
            self.wfile.write(json.dumps(answer).encode())
            return
        begun = {**BASE, "status": "in_progress", "output": [], "usage": None}
        for at, (kind, response) in enumerate([("created", begun), (status, answer)]):
            event = {"type": f"response.{kind}", "sequence_number": at, "response": response}
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
spans, tracing = InMemorySpanExporter(), TracerProvider()
tracing.add_span_processor(SimpleSpanProcessor(spans))
importlib.import_module(sys.argv[1]).OpenAIInstrumentor().instrument(tracer_provider=tracing)
client = openai.OpenAI(api_key="k", base_url=f"http://127.0.0.1:{server.server_port}")
told = []
for status in ENDS:
    for streamed in (False, True):
        spans.clear()
        answer = client.responses.create(model="gpt-4o", input="x", stream=streamed)
        for _ in answer if streamed else ():
            pass
        tokens = [span.attributes.get("llm.token_count.total", span.attributes.get("gen_ai.usage.total_tokens"))
                  for span in spans.get_finished_spans()]
        told.append(f"{status} {'streamed' if streamed else 'plain'} {tokens[0] if tokens else 'no span'}")
print(sys.argv[1].split(".")[0], *told, sep=" | ")
PY
traced() { # PACKAGE==VERSION MODULE
  python3 -m venv "$dir/$2"
  "$dir/$2/bin/pip" install --quiet --disable-pip-version-check openai==3.57.0 "$1" opentelemetry-sdk==1.45.2
  "$dir/$2/bin/python" -W ignore "$dir/finding.py" "$2"
}
seen="$(
  traced openinference-instrumentation-openai==0.1.66 openinference.instrumentation.openai
  traced opentelemetry-instrumentation-openai==0.62.4 opentelemetry.instrumentation.openai
)"
echo "$seen"
[ "$seen" = "openinference | completed plain 100 | completed streamed 100 | incomplete plain 100 | incomplete streamed None
opentelemetry | completed plain 100 | completed streamed 100 | incomplete plain no span | incomplete streamed 100" ]
