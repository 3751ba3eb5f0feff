// Vercel's AI SDK with its OpenAI provider, unmodified but for its base URL. Prints what it got as one JSON object.
import { createOpenAI } from "@ai-sdk/openai";
import { APICallError, embedMany, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { BASE_URL: baseURL, API_KEY: apiKey, MODEL: model } = process.env;
const openai = createOpenAI({ baseURL, apiKey });
const call = { instructions: "Name the intent.", prompt: "play some music", maxRetries: 0 };
const inputSchema = z.object({ city: z.string() });
const tools = {
  weather: tool({ description: "weather", inputSchema, execute: async ({ city }) => `sunny in ${city}` }),
  news: tool({ description: "news", inputSchema, execute: async ({ city }) => `none in ${city}` }),
};
const intent = Output.object({ schema: z.object({ intent: z.string() }) });
const got = {};

for (const [api, chosen] of Object.entries({ chat: openai.chat(model), responses: openai.responses(model) })) {
  const said = await generateText({ ...call, model: chosen });
  const stream = streamText({ ...call, model: chosen });
  let streamed = "";
  for await (const piece of stream.textStream) streamed += piece;
  const object = await generateText({ ...call, model: chosen, output: intent });
  const called = await generateText({ ...call, model: chosen, tools });
  got[api] = {
    text: said.text,
    tokens: said.usage.totalTokens,
    route: said.response.headers["x-slmfleet-route"],
    streamed,
    streamedTokens: (await stream.usage).totalTokens,
    reason: await stream.finishReason,
    object: object.output,
    tools: called.toolCalls.map(({ toolName, input }) => [toolName, input]),
    results: called.toolResults.map(({ output }) => output),
  };
}
const steps = await generateText({ ...call, model: openai.chat(model), tools, stopWhen: stepCountIs(3) });
got.steps = steps.steps.length;
got.afterTools = steps.text;

const { embeddings } = await embedMany({ model: openai.embedding("embedder"), values: ["a", "b"] });
got.embeddings = embeddings;
got.completion = (await generateText({ prompt: "The capital", model: openai.completion("big") })).text;

got.errors = {};
for (const wrong of ["status-401", "status-404", "status-429", "status-500", "status-context"]) {
  try {
    await generateText({ ...call, model: openai.chat(wrong) });
  } catch (error) {
    const { statusCode, isRetryable, responseHeaders } = error;
    const known = APICallError.isInstance(error);
    got.errors[wrong] = { known, statusCode, isRetryable, retryAfter: responseHeaders["retry-after"] ?? null };
  }
}

got.broken = {};
for (const [api, chosen] of Object.entries({ chat: openai.chat("breaks"), responses: openai.responses("breaks") })) {
  const stream = streamText({ ...call, model: chosen, onError: () => {} });
  for await (const part of stream.fullStream) if (part.type === "error") got.broken[api] = JSON.stringify(part.error);
}
console.log(JSON.stringify(got));
