// What OpenAI's client for Node makes of the gateway's answers; prints them as JSON.
//   node openai.mjs BASE_URL FILE
import { createReadStream } from "node:fs";
import { Readable } from "node:stream";
import OpenAI, { toFile } from "openai";

const [baseURL, path] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const file = () => createReadStream(path);
const transcribe = (more) =>
  client.audio.transcriptions.create({ file: file(), model: "whisper-1", language: "en", ...more });

async function failure(work) {
  try {
    await work();
    return null;
  } catch (error) {
    const { status, code, param, type, message } = error;
    return { class: error.constructor.name, status, code, param, type, message };
  }
}

const found = { models: [] };
for await (const model of client.models.list()) found.models.push(model.id);
for (const form of ["json", "text", "srt", "vtt"])
  found[form] = await transcribe({ response_format: form });
found.verbose = await transcribe({
  response_format: "verbose_json",
  timestamp_granularities: ["word", "segment"],
});
found.events = [];
for await (const event of await transcribe({ stream: true })) found.events.push(event);
found.translation = await client.audio.translations.create({ file: file(), model: "whisper-1" });
found.failures = {
  model: await failure(() => client.models.retrieve("nobody")),
  language: await failure(() => transcribe({ language: "q-q-q" })),
  file: await failure(async () =>
    transcribe({ file: await toFile(Readable.from([Buffer.from("no audio at all")]), "a.mp3") }),
  ),
  route: await failure(() => client.chat.completions.create({ model: "x", messages: [] })),
};
console.log(JSON.stringify(found));
