#!/usr/bin/env bash
# Two OpenTelemetry instrumentations of Anthropic: another name for cache writes, and one token more in streams.
#
# opentelemetry-instrumentation-genai-anthropic 1.3b0 (OpenTelemetry's own) writes tokens written to the cache as
# `gen_ai.usage.cache_write.input_tokens`; opentelemetry-instrumentation-anthropic 0.62.4 (Traceloop) as
# `gen_ai.usage.cache_creation.input_tokens`, which is also the constant in opentelemetry-semantic-conventions 0.66b2. A
# query by either name sees half of the services, and such tokens cost more than plain ones. In streams Traceloop's adds
# the placeholder count of `message_start` (1) to the final count of `message_delta` (5), though the latter is cumulative.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cat >"$dir/finding.py" <<'PY'
import http.server, importlib, json, sys, threading
import anthropic
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

PROMPT = {"input_tokens": 10, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 200}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None,
           "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn",
           "usage": {**PROMPT, "output_tokens": 5}}
EVENTS = [
    {"type": "message_start", "message": {
        **MESSAGE, "content": [], "stop_reason": None, "usage": {**PROMPT, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": MESSAGE["usage"]},
    {"type": "message_stop"},
]


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        stream = json.loads(self.rfile.read(int(self.headers["content-length"]))).get("stream")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if stream else "application/json")
        self.end_headers()
        for event in EVENTS if stream else []:
            self.wfile.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        if not stream:
            self.wfile.write(json.dumps(MESSAGE).encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
spans, tracing = InMemorySpanExporter(), TracerProvider()
tracing.add_span_processor(SimpleSpanProcessor(spans))
importlib.import_module(sys.argv[1]).AnthropicInstrumentor().instrument(tracer_provider=tracing)
client = anthropic.Anthropic(api_key="k", base_url=f"http://127.0.0.1:{server.server_port}")
asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
client.messages.create(**asked)
for _ in client.messages.create(**asked, stream=True):
    pass
plain, streamed = (span.attributes for span in spans.get_finished_spans())
written = [name for name, value in plain.items() if value == 200]
print(sys.argv[1].split(".", 2)[2], *written,
      "output", plain["gen_ai.usage.output_tokens"], "streamed", streamed["gen_ai.usage.output_tokens"],
      "in the conventions", gen_ai_attributes.GEN_AI_USAGE_CACHE_CREATION_INPUT_TOKENS in written, sep=" | ")
PY
traced() { # PACKAGE==VERSION MODULE
  python3 -m venv "$dir/$2"
  "$dir/$2/bin/pip" install --quiet --disable-pip-version-check anthropic==2.14.0 "$1" \
    opentelemetry-sdk==1.45.2 opentelemetry-semantic-conventions==0.66b2
  "$dir/$2/bin/python" -W ignore "$dir/finding.py" "$2"
}
seen="$(
  traced opentelemetry-instrumentation-genai-anthropic==1.3b0 opentelemetry.instrumentation.genai.anthropic
  traced opentelemetry-instrumentation-anthropic==0.62.4 opentelemetry.instrumentation.anthropic
)"
echo "$seen"
[ "$seen" = "genai.anthropic | gen_ai.usage.cache_write.input_tokens | output | 5 | streamed | 5 | in the conventions | False
anthropic | gen_ai.usage.cache_creation.input_tokens | output | 5 | streamed | 6 | in the conventions | True" ]
