#!/usr/bin/env bash
# Vercel's `ai` 6.0.326: a stream that is cut off ends as if it were finished, and an event unknown to it is an error.
#
# With @ai-sdk/openai 3.0.141 and @ai-sdk/anthropic 3.0.140 a stream that closes before its last event gives no error:
# the finish reason is "other" and the usage is empty, even where Anthropic's `message_start` had told the prompt's tokens.
# @ai-sdk/openai-compatible 2.0.92 reports the same cut as an error. An event of a new type, on the other hand, which
# Anthropic asks clients to ignore, goes to `onError` in @ai-sdk/anthropic, though text and usage go on behind it.
# Seen: the lines below. Fails if that changes.
set -euo pipefail
dir="$(mktemp -d)"
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm install --silent --no-audit --no-fund ai@6.0.326 @ai-sdk/openai@3.0.141 @ai-sdk/anthropic@3.0.140 \
  @ai-sdk/openai-compatible@2.0.92 >&2
cat >finding.mjs <<'JS'
import http from 'node:http'
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { streamText } from 'ai'

globalThis.AI_SDK_LOG_WARNINGS = false
const chat = [{ id: 'c', object: 'chat.completion.chunk', created: 1, model: 'm',
  choices: [{ index: 0, delta: { role: 'assistant', content: 'hi' }, finish_reason: null }] }]
const usage = { input_tokens: 10, output_tokens: 1 }
const cut = [
  { type: 'message_start', message: { id: 'msg_1', type: 'message', role: 'assistant', model: 'claude-x', content: [],
    stop_reason: null, stop_sequence: null, usage } },
  { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
  { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'hi' } },
]
const whole = [...cut, { type: 'content_block_stop', index: 0 },
  { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: null }, usage }, { type: 'message_stop' }]
const unknown = [whole[0], { type: 'some_later_event' }, ...whole.slice(1)]

async function told(name, model, events) {
  const server = http.createServer((request, response) => {
    request.resume()
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.end(events.map(event => `data: ${JSON.stringify(event)}\n\n`).join(''))
  })
  await new Promise(ready => server.listen(0, '127.0.0.1', ready))
  let error = 'no error'
  const result = streamText({ model: model(`http://127.0.0.1:${server.address().port}`), prompt: 'x',
    maxOutputTokens: 9, onError: ({ error: seen }) => { error = seen.name } })
  let text = ''
  for await (const part of result.textStream) text += part
  console.log([name, text, await result.finishReason, (await result.totalUsage).inputTokens ?? 'no usage', error].join(' | '))
  server.closeAllConnections()
  server.close()
}
const anthropic = baseURL => createAnthropic({ baseURL, apiKey: 'k' })('claude-x')
await told('openai cut', baseURL => createOpenAI({ baseURL, apiKey: 'k' }).chat('m'), chat)
await told('openai-compatible cut', baseURL => createOpenAICompatible({ name: 'x', baseURL, apiKey: 'k' })('m'), chat)
await told('anthropic cut', anthropic, cut)
await told('anthropic whole', anthropic, whole)
await told('anthropic whole, new event', anthropic, unknown)
process.exit(0)
JS
seen="$(node finding.mjs)"
echo "$seen"
[ "$seen" = "openai cut | hi | other | no usage | no error
openai-compatible cut | hi | error | no usage | AI_InvalidResponseDataError
anthropic cut | hi | other | no usage | no error
anthropic whole | hi | stop | 10 | no error
anthropic whole, new event | hi | stop | 10 | AI_TypeValidationError" ]
