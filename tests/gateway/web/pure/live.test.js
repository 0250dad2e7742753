// Live speech: what is settled, when it was said, and in other languages.

import assert from "node:assert/strict";
import test from "node:test";
import { Recording } from "../web/live/recording.js";
import { Speaking } from "../web/live/speaking.js";
import { srt } from "../web/live/srt.js";
import { Translating } from "../web/live/translating.js";

const KIND = "conversation.item.input_audio_transcription";

function connected(kept = []) {
  const sockets = [];
  const connect = () => {
    const socket = { sent: [], send: (text) => socket.sent.push(JSON.parse(text)), close: () => {} };
    sockets.push(socket);
    return socket;
  };
  return { speaking: new Speaking({ connect, kept }), sockets };
}

test("live text is settled, tentative, and whole after a break", () => {
  const { speaking, sockets } = connected();
  speaking.start(["hi"]);
  speaking.send(new ArrayBuffer(4));
  assert.equal(sockets[0].sent.length, 0);
  speaking.heard({ type: "session.created" });
  assert.deepEqual(sockets[0].sent[0].session.audio.input.transcription.languages, ["hi"]);
  speaking.heard({ type: "session.updated" });
  assert.equal(sockets[0].sent[1].audio, "AAAAAA==");
  speaking.heard({ type: `${KIND}.delta`, item_id: "a", delta: "one" });
  speaking.heard({ type: "voxroute.tentative", item_id: "a", text: "tow" });
  assert.equal(speaking.state.tentative, "tow");
  speaking.heard({ type: `${KIND}.delta`, item_id: "a", delta: " two" });
  assert.deepEqual([speaking.state.lines[0].text, speaking.state.tentative], ["one two", ""]);
  sockets[0].onclose();
  assert.equal(speaking.state.state, "away");
  assert.equal(speaking.state.lines[0].text, "one two");
  speaking.stop();
  assert.equal(speaking.state.state, "off");
});

test("times go on over breaks, and from what was kept", async () => {
  const { speaking, sockets } = connected([{ id: "before", text: "x", done: true, start: 1, end: 5 }]);
  const say = (id, start, end) => {
    speaking.heard({ type: "input_audio_buffer.speech_started", item_id: id, audio_start_ms: start });
    speaking.heard({ type: `${KIND}.delta`, item_id: id, delta: id });
    speaking.heard({ type: "input_audio_buffer.speech_stopped", item_id: id, audio_end_ms: end });
    speaking.heard({ type: `${KIND}.completed`, item_id: id, transcript: id, languages: [{ code: "hi" }] });
  };
  const pieces = (n) => Array.from({ length: n }, () => speaking.send(new ArrayBuffer(4800)));
  speaking.start([]);
  pieces(10); // while it connects
  speaking.heard({ type: "session.updated" });
  pieces(10);
  say("a", 500, 1500);
  sockets[0].onclose();
  pieces(10);
  while (sockets.length < 2) await settled();
  speaking.heard({ type: "session.updated" }); // another session, whose times begin at 0
  say("b", 100, 900);
  const told = speaking.state.lines.slice(1).map((one) => [one.id, one.start, one.end, one.language]);
  assert.deepEqual(told.map((one) => one.map((n) => (typeof n === "number" ? Math.round(n * 10) / 10 : n))),
    [["a", 5.5, 6.5, "hi"], ["b", 7.1, 7.9, "hi"]]);
  speaking.stop();
});

const line = (id, more = {}) => ({ id, text: `say ${id}`, done: true, ...more });
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

test("utterances are translated once, in order, those that wait together", async () => {
  const asked = [];
  const translating = new Translating({ ask: async (texts, source, target) => {
    asked.push([texts.length, source, target]);
    await null;
    return texts.map((text) => `${target}:${text}`);
  } });
  const lines = [line("1"), line("2", { language: "en" }), line("3", { language: "hi" }), line("4", { done: false })];
  translating.take(lines.slice(0, 1), ["hi"], ["en"]);
  translating.take(lines, ["hi", "ta"], ["en"]);
  translating.take(lines, ["hi", "ta"], ["en"]);
  await settled();
  assert.deepEqual(asked.filter((one) => one[2] === "hi"), [[1, "en", "hi"], [1, "en", "hi"]]);
  assert.deepEqual(asked.filter((one) => one[2] === "ta"), [[2, "en", "ta"], [1, "hi", "ta"]]);
  assert.equal(translating.state.of["2"].hi.text, "hi:say 2");
  assert.ok(translating.state.of["3"].hi.same);
  assert.equal(translating.state.of["4"], undefined);
});

test("what cannot be translated is told at its line and keeps nothing else up", async () => {
  let away = true;
  const never = new Promise(() => {});
  const translating = new Translating({ ask: async (texts, _, target) => {
    if (target === "ta") return never;
    if (away) throw Object.assign(new Error("Away."), { passes: true });
    if (texts.includes("say 2")) throw Object.assign(new Error("Text 2 cannot be translated."), { passes: false });
    return texts;
  } });
  const lines = [line("1"), line("2"), line("3")];
  translating.take(lines, ["ta", "hi"], ["en"]);
  await settled();
  assert.deepEqual(lines.map(({ id }) => translating.state.of[id].hi.why), ["Away.", "Away.", "Away."]);
  away = false;
  translating.again();
  translating.take(lines, ["ta", "hi"], ["en"]);
  await settled();
  assert.deepEqual(lines.map(({ id }) => translating.state.of[id].hi), [
    { text: "say 1" }, { why: "Text 2 cannot be translated." }, { text: "say 3" }]);
  assert.deepEqual(lines.map(({ id }) => translating.state.of[id].ta), [{}, {}, {}]);
  const again = new Translating({ kept: translating.state.of });
  assert.deepEqual(again.state.of["2"], {});
});

test("what comes after all was cleared is dropped", async () => {
  let answer;
  const translating = new Translating({ ask: () => new Promise((resolve) => { answer = resolve; }) });
  translating.take([line("1"), line("2")], ["hi"], ["en"]);
  translating.clear();
  answer(["one", "two"]);
  await settled();
  assert.deepEqual(translating.state.of, {});
});

test("sound is kept as a WAV, up to its bound, until a job has it", async () => {
  const recording = new Recording({ most: 130 });
  const piece = (value) => new Int16Array(2400).fill(value).buffer;
  for (let i = 0; i < 1290; i += 1) recording.add(piece(i));
  assert.deepEqual(recording.state, { seconds: 129, full: false, unsaved: true });
  const { file, mark } = recording.file("live.wav");
  for (let i = 0; i < 20; i += 1) recording.add(piece(7));
  assert.deepEqual(recording.state, { seconds: 130, full: true, unsaved: true });
  const bytes = await file.arrayBuffer();
  const view = new DataView(bytes);
  assert.equal(bytes.byteLength, 44 + 1290 * 4800);
  assert.deepEqual([view.getUint32(4, true), view.getUint32(24, true), view.getUint32(40, true)],
    [bytes.byteLength - 8, 24_000, bytes.byteLength - 44]);
  assert.equal(view.getInt16(44 + 1289 * 4800, true), 1289);
  recording.keep(mark);
  assert.ok(recording.state.unsaved);
  recording.keep(recording.file("live.wav").mark);
  assert.ok(!recording.state.unsaved);
  recording.clear();
  assert.deepEqual(recording.state, { seconds: 0, full: false, unsaved: false });
});

test("utterances become subtitles of two lines at most", () => {
  const long = "word ".repeat(25).trim();
  const text = srt([{ text: "Good night.", start: 0.25, end: 1.5 }, { text: "", start: 2, end: 3 },
    { text: long, start: 3661, end: 3671 }]);
  const cues = text.split("\n\n").map((one) => one.trim().split("\n"));
  assert.deepEqual(cues[0], ["1", "00:00:00,250 --> 00:00:01,500", "Good night."]);
  assert.equal(cues.length, 3);
  assert.ok(cues.every((cue) => cue.length <= 4));
  assert.equal(cues[1][1].slice(0, 12), "01:01:01,000");
  assert.equal(cues[2][1].slice(-12), "01:01:11,000");
  assert.equal(cues[1][1].slice(-12), cues[2][1].slice(0, 12));
  assert.equal(cues.slice(1).flatMap((cue) => cue.slice(2)).join(" "), long);
});
