// Reads streams of Responses that fail, at each model, and prints what the SDK, its helper and Vercel's AI SDK throw: the
// code, and the message. Vercel's is left out where it is not installed. A stream fails when its provider is told, which
// is when something of it has arrived.

import OpenAI from "openai";

const [url, key, fail, ...models] = process.argv.slice(2);

const client = new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 });
const ask = (model) => ({ model, input: "hello", max_output_tokens: 16 });

async function read(stream) {
  let hasBegun = false;
  for await (const _ of stream) {
    if (!hasBegun) await fetch(fail);
    hasBegun = true;
  }
}

const ways = {
  async loop(model) {
    await read(await client.responses.create({ ...ask(model), stream: true }));
  },
  async helper(model) {
    const stream = client.responses.stream(ask(model));
    await read(stream);
    await stream.finalResponse();
  },
};

const [core, provider] = await Promise.all(["ai", "@ai-sdk/openai"].map((name) => import(name).catch(() => null)));
if (core && provider) {
  const openai = provider.createOpenAI({ baseURL: url, apiKey: key });
  ways.vercel = async (model) => {
    const errors = [];
    const onError = ({ error }) => errors.push(error);
    const result = core.streamText({ model: openai.responses(model), prompt: "hello", maxOutputTokens: 16, maxRetries: 0, onError });
    await read(result.textStream);
    if (errors.length > 1) throw new Error(`${errors.length} errors`);
    if (errors.length) throw errors[0];
  };
}

const seen = {};
for (const [way, ask] of Object.entries(ways)) {
  for (const model of models) {
    seen[`${way} ${model}`] = await ask(model).then(() => "nothing", (error) => [error.code ?? error.data?.error?.code, error.message]);
  }
}
console.log(JSON.stringify(seen));
