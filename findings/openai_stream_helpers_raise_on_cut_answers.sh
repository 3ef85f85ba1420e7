#!/usr/bin/env bash
# openai (Python) 3.57.0: the stream helpers have no final answer for an answer that ran into its token limit.
#
# A model that stops at `max_output_tokens` ends a stream of Responses with `response.incomplete`, which carries the
# text and the usage. `get_final_response` knows `response.completed` alone and raises, in a message that does not tell
# which event came. In chat completions the helper raises `LengthFinishReasonError` at `finish_reason: "length"`, though
# nobody asked it to parse anything. The same answers without a stream are returned with text and usage. Who counts
# tokens from the helpers' final answer counts none for exactly the longest answers.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check openai==3.57.0
cat >"$dir/finding.py" <<'PY'
import http.server, json, threading
import openai

CHAT_USAGE = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
USAGE = {"input_tokens": 9, "output_tokens": 1, "total_tokens": 10,
         "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
PART = {"type": "output_text", "text": "", "annotations": []}
ITEM = {"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []}
TEXT = {**ITEM, "status": "incomplete", "content": [{**PART, "text": "hi"}]}
BASE = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "in_progress", "output": [],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
CUT = {**BASE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": [TEXT],
       "usage": USAGE}
EVENTS = [
    {"type": "response.created", "response": BASE},
    {"type": "response.output_item.added", "output_index": 0, "item": ITEM},
    {"type": "response.content_part.added", "output_index": 0, "content_index": 0, "item_id": "msg_1", "part": PART},
    {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "item_id": "msg_1", "delta": "hi",
     "logprobs": []},
    {"type": "response.output_item.done", "output_index": 0, "item": TEXT},
    {"type": "response.incomplete", "response": CUT},
]


def chat(kind, key, body):
    return {"id": "c", "object": kind, "created": 1, "model": "m", "usage": CHAT_USAGE,
            "choices": [{"index": 0, key: body, "finish_reason": "length"}]}


class Provider(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        stream = json.loads(self.rfile.read(int(self.headers["content-length"]))).get("stream")
        said = {"role": "assistant", "content": "hi"}
        if "responses" in self.path:
            whole, events = CUT, [{**event, "sequence_number": at} for at, event in enumerate(EVENTS)]
        else:
            whole, events = chat("chat.completion", "message", said), [chat("chat.completion.chunk", "delta", said)]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if stream else "application/json")
        self.end_headers()
        if not stream:
            self.wfile.write(json.dumps(whole).encode())
            return
        for event in events:
            name = f"event: {event['type']}\n" if "type" in event else ""
            self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Provider)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.OpenAI(api_key="k", base_url=f"http://127.0.0.1:{server.server_port}")
asked = {"model": "m", "messages": [{"role": "user", "content": "x"}]}

plain = client.responses.create(model="m", input="x")
print("responses, plain:", plain.output_text, plain.usage.total_tokens)
try:
    with client.responses.stream(model="m", input="x") as stream:
        stream.get_final_response()
except RuntimeError as error:
    print("responses, helper:", error)
plain = client.chat.completions.create(**asked)
print("chat, plain:", plain.choices[0].message.content, plain.usage.total_tokens)
try:
    with client.chat.completions.stream(**asked) as stream:
        stream.get_final_completion()
except openai.LengthFinishReasonError as error:
    print("chat, helper:", type(error).__name__)
PY
seen="$("$dir/venv/bin/python" "$dir/finding.py")"
echo "$seen"
[ "$seen" = "responses, plain: hi 10
responses, helper: Didn't receive a \`response.completed\` event.
chat, plain: hi 10
chat, helper: LengthFinishReasonError" ]
