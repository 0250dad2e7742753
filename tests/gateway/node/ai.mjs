// What the AI SDK makes of the gateway's answers; prints them as JSON.
//   node ai.mjs BASE_URL FILE
import { readFile } from "node:fs/promises";
import { createOpenAI } from "@ai-sdk/openai";
import { experimental_transcribe as transcribe } from "ai";

const [baseURL, path] = process.argv.slice(2);
const openai = createOpenAI({ baseURL, apiKey: "none" });
const audio = await readFile(path);

async function result(options, model = "whisper-1", bytes = audio) {
  const { text, segments, language, durationInSeconds, warnings } = await transcribe({
    model: openai.transcription(model),
    audio: bytes,
    providerOptions: options && { openai: options },
  });
  return { text, segments, language, durationInSeconds, warnings };
}

async function failure(work) {
  try {
    await work();
    return null;
  } catch (error) {
    const { name, statusCode, isRetryable, message } = error;
    return { name, statusCode, isRetryable, message };
  }
}

console.log(
  JSON.stringify({
    plain: await result(),
    segments: await result({ timestampGranularities: ["segment"] }),
    words: await result({ language: "en", timestampGranularities: ["word"] }),
    json: await result({ language: "en" }, "gpt-4o-transcribe"),
    failures: {
      file: await failure(() => result(undefined, "whisper-1", Buffer.alloc(999, "no audio "))),
      language: await failure(() => result({ language: "q-q-q" })),
    },
  }),
);
