// Small things that a person reads: times, speeds, languages, rows, keys, places in a list.

import assert from "node:assert/strict";
import test from "node:test";
import { after, stagesOf } from "../web/lib/jobs.js";
import { tagOf } from "../web/lib/languages.js";
import { address, parsed } from "../web/lib/router.js";
import { Pace } from "../web/lib/upload.js";
import { clock, direction, exactly, secondsOf, size, span } from "../web/lib/words.js";
import { Heights } from "../web/transcript/heights.js";
import { meant } from "../web/transcript/keys.js";
import { characters, lines, speed } from "../web/transcript/reading.js";
import { countsOf, doubts, rowsOf, seenOf, speakerName } from "../web/transcript/rows.js";

test("times and sizes", () => {
  assert.equal(clock(3723.46), "1:02:03");
  assert.equal(clock(59.96, { tenths: true }), "0:59.9");
  assert.equal(secondsOf("1:02:03.5"), 3723.5);
  for (const seconds of [0, 0.004, 59.9996, 61.25, 3723.5]) assert.equal(secondsOf(exactly(seconds)), Math.round(seconds * 1000) / 1000);
  assert.equal(secondsOf("x"), null);
  assert.deepEqual([0, 999, 1536, 20e9].map(size), ["0 B", "999 B", "1.5 kB", "20.0 GB"]);
  assert.deepEqual([5, 100, 4800, Infinity].map(span), ["5 s", "2 min", "80 min", ""]);
});

test("languages by name, tag and direction", () => {
  assert.deepEqual(["Hindi", "hi", "zh-tw", "", "no such thing"].map(tagOf), ["hi", "hi", "zh-TW", null, null]);
  assert.deepEqual(["ur", "ks-Deva", "en", ""].map(direction), ["rtl", "ltr", "ltr", "auto"]);
});

test("an address keeps whatever an id holds", () => {
  for (const id of ["a", "a/b", "ü %2F"]) assert.deepEqual(parsed(address("job", id)), { view: "job", id });
  assert.equal(parsed("").view, "jobs");
});

test("reading speed counts what a person sees, by the limits of the language", () => {
  assert.equal(characters("नमस्ते"), 3); // six code points
  assert.deepEqual(speed("a".repeat(34), 2, "en"), { rate: 17, most: 17, tooFast: false });
  assert.ok(speed("a".repeat(35), 2, "en").tooFast);
  assert.ok(speed("これはとても", 1, "ja").tooFast);
  assert.equal(lines("word ".repeat(20)).count, 3);
  assert.equal(lines("word ".repeat(20)).longest, 39);
  assert.deepEqual(lines("这是一个很长的句子需要分成两行才能读完"), { count: 2, longest: 16, most: 16 });
});

test("rows are segments and silent stretches, by time, filtered", () => {
  const segments = [
    { id: "1", start_s: 0, text: "Hello", flags: ["LOW_CONFIDENCE"], translations: {} },
    { id: "2", start_s: 10, text: "world", flags: [], edited: true, translations: { hi: { text: "दुनिया", status: "SUSPECT", stale: true } } },
  ];
  const state = { segments, untranscribed: [{ start_s: 5, end_s: 6, reason: "NO_TEXT" }], conflicts: [] };
  const keys = (how) => rowsOf(state, how).map((row) => row.key);
  assert.deepEqual(keys({}), ["1", "gap-5", "2"]);
  assert.deepEqual(keys({ filter: "doubtful" }), ["1"]);
  assert.deepEqual(keys({ filter: "doubtful", language: "hi" }), ["1", "2"]);
  assert.deepEqual(keys({ filter: "gaps" }), ["gap-5"]);
  assert.deepEqual(keys({ filter: "stale", language: "hi" }), ["2"]);
  assert.deepEqual(keys({ search: "WORLD" }), ["2"]);
  assert.deepEqual(keys({ search: "hello", written: "2" }), ["1", "2"]);
  assert.deepEqual(countsOf(state, "hi"), { doubtful: 2, edited: 1, stale: 1, toTime: 1, toTranslate: 2, gaps: 1, conflicts: 0 });
  assert.deepEqual(doubts(segments[0]), ["unsure"]);
  assert.equal(speakerName("SPEAKER_00", {}), "Speaker 1");
});

test("what a key changes is found without the rest, and is the same as of all", () => {
  const one = (i) => ({ id: `${i}`, start_s: i, text: `text ${i}`, flags: i % 3 ? [] : ["A"], words: [], speaker: `S${i % 2}`, translations: {} });
  let state = {
    segments: Array.from({ length: 30 }, (_, i) => one(i)), speakers: {}, conflicts: [],
    untranscribed: [{ start_s: 3.5, end_s: 3.9 }, { start_s: 20.5, end_s: 20.9 }],
  };
  const changes = [
    [4, { text: "other", edited: true }], [29, { translations: { hi: { text: "x", stale: true } } }], [0, { flags: [] }],
    [7, { speaker: "S9" }], [21, { start_s: 20.7 }], [12, { id: "new" }],
  ];
  for (const filter of ["all", "doubtful", "edited", "stale"]) {
    const how = { filter, search: "", language: "hi", written: "" };
    let seen = seenOf(state, how);
    for (const [i, change] of changes) {
      const segments = state.segments.slice();
      segments[i] = { ...segments[i], ...change };
      state = { ...state, segments };
      seen = seenOf(state, how, seen);
      const { rows, counts, known } = seenOf(state, how);
      assert.deepEqual([seen.rows, seen.counts, seen.known], [rows, counts, known]);
    }
    const rows = seen.rows;
    seen = seenOf({ ...state, saving: "saving" }, how, seen);
    assert.equal(seen.rows, rows); // nothing to draw
  }
});

test("places of rows are right after any number of changes", () => {
  const heights = new Heights(1000, (i) => 10 + (i % 7));
  const plain = Array.from({ length: 1000 }, (_, i) => 10 + (i % 7));
  for (let step = 0; step < 300; step += 1) {
    const i = (step * 37) % 1000;
    plain[i] = 5 + (step % 50);
    heights.set(i, plain[i]);
  }
  let top = 0;
  plain.forEach((height, i) => {
    assert.equal(heights.top(i), top);
    assert.equal(heights.at(top), i);
    assert.equal(heights.at(top + height - 1), i);
    top += height;
  });
  assert.equal(heights.top(1000), top);
  assert.equal(heights.at(top + 99), 999);
  assert.equal(new Heights(0, () => 1).at(5), 0);
});

test("keys mean one thing in the text and another beside it", () => {
  const key = (name, place, more = {}) => meant({ key: name, ...more }, place);
  assert.equal(key(" ", ""), "toggle");
  assert.equal(key(" ", "text"), "");
  assert.equal(key(" ", "control"), ""); // a button's own
  assert.equal(key("k", "control"), "toggle");
  assert.equal(key("F1", "text"), "back");
  assert.equal(key("Escape", "text"), "toggle");
  assert.equal(key("Enter", "text"), "next");
  assert.equal(key("Enter", "text", { ctrlKey: true }), "split");
  assert.equal(key("z", "field", { ctrlKey: true }), "");
  assert.equal(key("z", "text", { metaKey: true, shiftKey: true }), "redo");
  assert.equal(key("k", "text", { isComposing: true }), "");
});

test("a job follows its events", () => {
  let job = { state: "JOB_STATE_QUEUED", stages: [] };
  job = after(job, { sequence: "1", state: "JOB_STATE_RUNNING" });
  job = after(job, { sequence: "2", stage: { name: "transcribing", done: "3s", total: "12s" } });
  job = after(job, { sequence: "3", stage: { name: "transcribing", done: "6s", total: "12s" } });
  assert.deepEqual(stagesOf(job), [{ name: "transcribing", share: 0.5, finished: false }]);
  assert.equal(job.last_sequence, "3");
});

test("speed and time left are those of the last seconds", () => {
  let now = 0;
  const pace = new Pace(() => now);
  pace.tell(0, 1000);
  now = 1000;
  assert.deepEqual(pace.tell(100, 1000), { perSecond: 100, leftS: 9 });
  now = 6000;
  assert.ok(pace.tell(1000, 1000).leftS === 0);
});
