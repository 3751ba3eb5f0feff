// The official `openai` client for Node, unmodified but for its base URL. Prints what it got as one JSON object.
import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const { BASE_URL: baseURL, API_KEY: apiKey, MODEL: model } = process.env;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [
  { role: "system", content: "Name the intent." },
  { role: "user", content: "play some music" },
];
const Intent = z.object({ intent: z.string() });
const functions = ["weather", "news"].map((name) => ({ name, parameters: { type: "object" } }));
const tools = functions.map((one) => ({ type: "function", function: one }));
const got = {};

const { data, response } = await client.chat.completions.create({ model, messages }).withResponse();
got.chat = data.choices[0].message.content;
got.total = data.usage.total_tokens;
got.route = response.headers.get("x-slmfleet-route");
got.requestId = data._request_id;

got.streams = {};
for (const stream_options of [undefined, { include_usage: true }]) {
  const stream = await client.chat.completions.create({ model, messages, stream: true, stream_options });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  got.streams[stream_options ? "usage" : "plain"] = {
    text: chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""),
    usage: chunks.filter((chunk) => chunk.usage).length,
    reason: chunks.findLast((chunk) => chunk.choices.length).choices[0].finish_reason,
  };
}

const helped = client.chat.completions.stream({ model, messages, tools });
const { tool_calls } = (await helped.finalChatCompletion()).choices[0].message;
got.tools = tool_calls.map((call) => [call.function.name, JSON.parse(call.function.arguments)]);
const one = await client.chat.completions.create({ model, messages, tools, parallel_tool_calls: false });
got.oneTool = one.choices[0].message.tool_calls.length;
const answered = [
  ...messages,
  one.choices[0].message,
  { role: "tool", tool_call_id: one.choices[0].message.tool_calls[0].id, content: "sunny" },
];
got.afterTool = (await client.chat.completions.create({ model, messages: answered, tools })).choices[0].finish_reason;

const format = zodResponseFormat(Intent, "intent");
got.parsed = (await client.chat.completions.parse({ model, messages, response_format: format })).choices[0].message.parsed;

got.embedding = (await client.embeddings.create({ model: "embedder", input: ["a", "b"] })).data.map((row) => row.embedding);
got.completion = (await client.completions.create({ model: "big", prompt: "The capital" })).choices[0].text;

got.response = (await client.responses.create({ model, input: "play some music" })).output_text;
const text = { format: zodTextFormat(Intent, "intent") };
got.responseParsed = (await client.responses.parse({ model, input: "play", text })).output_parsed;
got.responseEvents = [];
for await (const event of await client.responses.create({ model, input: "play", stream: true }))
  got.responseEvents.push(event.type);

got.models = [];
for await (const listed of client.models.list()) got.models.push(listed.id);
got.found = (await client.models.retrieve(model)).id;

got.errors = {};
for (const wrong of ["status-401", "status-404", "status-429", "status-500", "status-context"]) {
  try {
    await client.chat.completions.create({ model: wrong, messages, stream: wrong === "status-429" });
  } catch (error) {
    const { status, code, requestID, headers } = error;
    const retryAfter = headers.get("retry-after");
    got.errors[wrong] = { kind: error.constructor.name, status, code, requestID, retryAfter };
  }
}

got.broken = {};
const streamed = { model: "breaks", stream: true };
for (const [api, start] of Object.entries({
  chat: () => client.chat.completions.create({ ...streamed, messages }),
  responses: () => client.responses.create({ ...streamed, input: "play" }),
})) {
  try {
    for await (const event of await start()) got.broken[api] = event;
  } catch (error) {
    got.broken[api] = { kind: error.constructor.name, code: error.code };
  }
}
console.log(JSON.stringify(got));
