// What every JavaScript client is asked to do, and how it says what it saw.

export const [url, key, ...models] = process.argv.slice(2);
export const greeting = "hello there";
export const cities = ["Paris", "São Paulo"];
// The mock provider calls what it is asked to call.
export const call = cities.map((city) => `[[call weather ${JSON.stringify({ city })}]]`).join(" ");
export const args = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
export const words = (text) => text.split(/\s+/).filter(Boolean).length;

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    return { type: error.constructor.name, status: error.status ?? error.statusCode ?? null };
  }
  return "nothing was raised";
}

/** Puts each surface of the client through everything, at each model; prints one JSON document. */
export async function report(surfaces) {
  const seen = {};
  for (const [name, surface] of Object.entries(surfaces)) {
    for (const model of models) {
      seen[`${name} ${model}`] = {
        plain: await surface.plain(model),
        stream: await surface.stream(model),
        tools: await surface.toolsCalled(model),
        tools_streamed: await surface.toolsStreamed(model),
        forced: await surface.forced(model),
        limited: await refusal(() => surface.plain(`${model}-limited`)),
        broken: (await refusal(() => surface.stream(`${model}-broken`))) !== "nothing was raised",
      };
    }
  }
  console.log(JSON.stringify(seen));
}
