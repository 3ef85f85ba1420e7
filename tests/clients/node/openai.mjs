// The official OpenAI SDK for Node, over chat completions and over Responses.

import OpenAI from "openai";
import { args, call, cities, greeting, key, report, url, words } from "./seen.mjs";

const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
const weather = { name: "weather", description: "Tells the weather", parameters: args };

const chat = {
  tools: [{ type: "function", function: weather }],

  async plain(model) {
    const answer = await client.chat.completions.create({ model, messages: [{ role: "user", content: greeting }], max_tokens: 16 });
    return this.told(answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage);
  },

  async stream(model) {
    let [text, finish, usage] = ["", null, null];
    const stream = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: greeting }],
      max_tokens: 16,
      stream: true,
      stream_options: { include_usage: true },
    });
    for await (const chunk of stream) {
      usage = chunk.usage ?? usage;
      text += chunk.choices[0]?.delta.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
    }
    return this.told(text, finish, usage);
  },

  told: (text, finish, usage) => ({ words: words(text), finish, input: usage.prompt_tokens, output: usage.completion_tokens }),

  async toolsCalled(model) {
    const messages = [
      { role: "system", content: "You are terse." },
      { role: "user", content: call },
    ];
    const answer = (await client.chat.completions.create({ model, messages, tools: this.tools, max_tokens: 16 })).choices[0];
    messages.push(answer.message);
    answer.message.tool_calls.forEach(({ id }, at) => messages.push({ role: "tool", tool_call_id: id, content: `rain in ${cities[at]}` }));
    const after = (await client.chat.completions.create({ model, messages, tools: this.tools, max_tokens: 16 })).choices[0];
    return { calls: this.calls(answer), finish: answer.finish_reason, after: after.finish_reason };
  },

  async toolsStreamed(model) {
    const messages = [{ role: "user", content: call }];
    const stream = client.chat.completions.stream({ model, messages, tools: this.tools, max_tokens: 16 });
    return this.calls((await stream.finalChatCompletion()).choices[0]);
  },

  async forced(model) {
    const answer = await client.chat.completions.create({
      model,
      messages: [{ role: "user", content: greeting }],
      tools: this.tools,
      tool_choice: { type: "function", function: { name: "weather" } },
      max_tokens: 16,
    });
    return answer.choices[0].message.tool_calls.map((made) => made.function.name);
  },

  calls: (answer) => answer.message.tool_calls.map((made) => [made.function.name, JSON.parse(made.function.arguments)]),
};

// Of a stream's answer, not every version of the SDK puts the texts together as `output_text`.
const said = (answer) => answer.output.flatMap((item) => item.content ?? []).map((part) => part.text).join("");

const responses = {
  tools: [{ type: "function", strict: false, ...weather }],

  async plain(model) {
    return this.told(await client.responses.create({ model, input: greeting, max_output_tokens: 16 }));
  },

  async stream(model) {
    let text = "";
    const stream = client.responses.stream({ model, input: greeting, max_output_tokens: 16 });
    for await (const event of stream) {
      if (event.type === "response.output_text.delta") text += event.delta;
      if (event.type === "response.failed" || event.type === "error") throw new Error(event.type);
    }
    const answer = await stream.finalResponse();
    if (said(answer) !== text) throw new Error("the deltas do not make up the text");
    return this.told(answer);
  },

  told: (answer) => ({
    words: words(said(answer)),
    finish: answer.status,
    input: answer.usage.input_tokens,
    output: answer.usage.output_tokens,
  }),

  async toolsCalled(model) {
    const ask = { model, instructions: "You are terse.", tools: this.tools, max_output_tokens: 16 };
    const input = [{ role: "user", content: call }];
    const answer = await client.responses.create({ ...ask, input });
    input.push(...answer.output);
    answer.output
      .filter((item) => item.type === "function_call")
      .forEach((made, at) => input.push({ type: "function_call_output", call_id: made.call_id, output: `rain in ${cities[at]}` }));
    const after = await client.responses.create({ ...ask, input });
    return { calls: this.calls(answer), finish: answer.status, after: after.status };
  },

  async toolsStreamed(model) {
    const stream = client.responses.stream({ model, input: call, tools: this.tools, max_output_tokens: 16 });
    return this.calls(await stream.finalResponse());
  },

  async forced(model) {
    const tool_choice = { type: "function", name: "weather" };
    const answer = await client.responses.create({ model, input: greeting, tools: this.tools, tool_choice, max_output_tokens: 16 });
    return this.calls(answer).map(([name]) => name);
  },

  calls: (answer) =>
    answer.output.filter((item) => item.type === "function_call").map((made) => [made.name, JSON.parse(made.arguments)]),
};

await report({ chat, responses });
