// The official Anthropic SDK for Node.

import Anthropic from "@anthropic-ai/sdk";
import { args, call, cities, greeting, key, report, url, words } from "./seen.mjs";

// The SDK puts /v1 before its paths itself.
const client = new Anthropic({ baseURL: url.replace(/\/v1$/, ""), apiKey: key, maxRetries: 0 });

const messages = {
  tools: [{ name: "weather", description: "Tells the weather", input_schema: args }],

  async plain(model) {
    return this.told(await client.messages.create({ model, messages: [{ role: "user", content: greeting }], max_tokens: 16 }));
  },

  async stream(model) {
    let text = "";
    const stream = client.messages.stream({ model, messages: [{ role: "user", content: greeting }], max_tokens: 16 });
    stream.on("text", (delta) => (text += delta));
    const answer = await stream.finalMessage();
    if (answer.content[0].text !== text) throw new Error("the deltas do not make up the text");
    return this.told(answer);
  },

  told: (answer) => ({
    words: words(answer.content[0].text),
    finish: answer.stop_reason,
    input: answer.usage.input_tokens,
    output: answer.usage.output_tokens,
  }),

  async toolsCalled(model) {
    const ask = { model, system: "You are terse.", tools: this.tools, max_tokens: 16 };
    const turns = [{ role: "user", content: call }];
    const answer = await client.messages.create({ ...ask, messages: turns });
    const results = answer.content
      .filter((block) => block.type === "tool_use")
      .map(({ id }, at) => ({ type: "tool_result", tool_use_id: id, content: `rain in ${cities[at]}` }));
    turns.push({ role: "assistant", content: answer.content }, { role: "user", content: results });
    const after = await client.messages.create({ ...ask, messages: turns });
    return { calls: this.calls(answer), finish: answer.stop_reason, after: after.stop_reason };
  },

  async toolsStreamed(model) {
    const turns = [{ role: "user", content: call }];
    return this.calls(await client.messages.stream({ model, messages: turns, tools: this.tools, max_tokens: 16 }).finalMessage());
  },

  async forced(model) {
    const answer = await client.messages.create({
      model,
      messages: [{ role: "user", content: greeting }],
      tools: this.tools,
      tool_choice: { type: "tool", name: "weather" },
      max_tokens: 16,
    });
    return this.calls(answer).map(([name]) => name);
  },

  calls: (answer) => answer.content.filter((block) => block.type === "tool_use").map((use) => [use.name, use.input]),
};

await report({ messages });
