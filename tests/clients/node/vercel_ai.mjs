// Vercel's AI SDK, by its OpenAI provider (chat completions and Responses) and its Anthropic provider.

import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateText, isStepCount, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { args, call, greeting, key, report, url, words } from "./seen.mjs";

const openai = createOpenAI({ baseURL: url, apiKey: key });
const anthropic = createAnthropic({ baseURL: url, apiKey: key });
// A provider that stores nothing must be sent the whole conversation, not references to what OpenAI would have stored.
const providerOptions = { openai: { store: false } };
const common = { maxOutputTokens: 16, maxRetries: 0, providerOptions };
const steps = isStepCount ?? stepCountIs;
const weather = tool({ description: "Tells the weather", inputSchema: jsonSchema(args), execute: ({ city }) => `rain in ${city}` });

const surface = (provider) => ({
  async plain(model) {
    return this.told(await generateText({ ...common, model: provider(model), prompt: greeting }));
  },

  async stream(model) {
    let failure = null;
    const onError = ({ error }) => (failure = error);
    const result = streamText({ ...common, model: provider(model), prompt: greeting, onError });
    await result.consumeStream();
    if (failure) throw failure;
    const [text, finishReason, usage] = await Promise.all([result.text, result.finishReason, result.usage]);
    return this.told({ text, finishReason, usage });
  },

  told: ({ text, finishReason, usage }) => ({
    words: words(text),
    finish: finishReason,
    input: usage.inputTokens,
    output: usage.outputTokens,
  }),

  async toolsCalled(model) {
    const tools = { weather };
    const made = await generateText({ ...common, model: provider(model), prompt: call, tools, stopWhen: steps(2), system: "You are terse." });
    const [first, last] = [made.steps[0], made.steps[made.steps.length - 1]];
    return { calls: this.calls(first.toolCalls), finish: first.finishReason, after: last.finishReason };
  },

  async toolsStreamed(model) {
    const result = streamText({ ...common, model: provider(model), prompt: call, tools: { weather }, stopWhen: steps(1) });
    await result.consumeStream();
    return this.calls(await result.toolCalls);
  },

  async forced(model) {
    const toolChoice = { type: "tool", toolName: "weather" };
    const made = await generateText({ ...common, model: provider(model), prompt: greeting, tools: { weather }, toolChoice, stopWhen: steps(1) });
    return made.toolCalls.map(({ toolName }) => toolName);
  },

  calls: (made) => made.map(({ toolName, input }) => [toolName, input]),
});

await report({ chat: surface((model) => openai.chat(model)), responses: surface(openai.responses), messages: surface(anthropic) });
