// Changes of two tabs, put together.

import assert from "node:assert/strict";
import test from "node:test";
import { difference, merge } from "../web/transcript/merging.js";
import { merged, replaced, split, withText, withTranslation } from "../web/transcript/segments.js";

const segment = (i) => ({
  id: String(i), start_s: i * 2, end_s: i * 2 + 2, text: `text ${i} here`, language: "en", speaker: "A", words: [], flags: [],
  translations: { hi: { text: `hi ${i}`, status: "OK", stale: false } },
});
const base = { segments: Array.from({ length: 8 }, (_, i) => segment(i)), speakers: { A: "Anna" } };
const with_ = (segments, speakers = base.speakers) => ({ segments, speakers });
const copied = (state) => structuredClone(state); // as it comes from the service
const edited = (state, i, text) => with_(replaced(state.segments, i, withText(state.segments[i], text)));
const texts = (state) => state.segments.map((one) => one.text);

test("what each has changed in another segment is in it, and nothing is asked", () => {
  const found = merge(base, edited(base, 1, "mine"), copied(edited(base, 5, "theirs")));
  assert.deepEqual(found.conflicts, []);
  assert.equal(texts(found)[1], "mine");
  assert.equal(texts(found)[5], "theirs");
});

test("text and translation of one segment are two things", () => {
  const mine = with_(replaced(base.segments, 2, withTranslation(base.segments[2], "hi", "meins")));
  const found = merge(base, mine, copied(edited(base, 2, "theirs")));
  assert.deepEqual(found.conflicts, []);
  assert.deepEqual([found.segments[2].text, found.segments[2].translations.hi.text], ["theirs", "meins"]);
});

test("where both wrote, theirs stands and mine is told", () => {
  const found = merge(base, edited(base, 3, "mine"), copied(edited(base, 3, "theirs")));
  assert.equal(texts(found)[3], "theirs");
  assert.deepEqual(found.conflicts, [{ id: "3", field: "text", mine: "mine", theirs: "theirs", start_s: 6 }]);
});

test("the same change twice is no conflict", () => {
  const mine = edited(base, 3, "same");
  const found = merge(base, mine, copied(mine));
  assert.deepEqual(found.conflicts, []);
  assert.equal(found.segments[3], mine.segments[3]);
});

test("a cut here and an edit there are both in it", () => {
  const mine = with_(split(base.segments, 2, 4, "new-1"));
  const found = merge(base, mine, copied(edited(base, 6, "theirs")));
  assert.deepEqual(found.conflicts, []);
  assert.deepEqual(found.segments.map((one) => one.id), ["0", "1", "2", "new-1", "3", "4", "5", "6", "7"]);
  assert.equal(texts(found)[7], "theirs");
});

test("a cut here of what was written in there loses neither text", () => {
  const mine = with_(split(base.segments, 2, 4, "new-1"));
  const found = merge(base, mine, copied(edited(base, 2, "theirs wholly")));
  const all = [...texts(found), ...found.conflicts.flatMap((one) => [one.mine, one.theirs])].join("|");
  for (const text of ["text", "2 here", "theirs wholly"]) assert.ok(all.includes(text), text);
  assert.ok(found.conflicts.length);
});

test("what I wrote in a segment that they joined is told", () => {
  const theirs = copied(with_(merged(base.segments, 3)));
  const found = merge(base, edited(base, 4, "mine"), theirs);
  assert.deepEqual(found.conflicts.map((one) => [one.id, one.mine]), [["3", "mine"]]);
});

test("what they wrote in a segment that I joined is told", () => {
  const found = merge(base, with_(merged(base.segments, 3)), copied(edited(base, 4, "theirs")));
  assert.ok(texts(found).includes("theirs"));
  assert.deepEqual(found.conflicts.map((one) => one.field), ["removed"]);
});

test("names of speakers are put together too", () => {
  const found = merge(base, with_(base.segments, { A: "Anna", B: "Ben" }), with_(base.segments, { A: "Anne" }));
  assert.deepEqual(found.speakers, { A: "Anne", B: "Ben" });
  const both = merge(base, with_(base.segments, { A: "Mine" }), with_(base.segments, { A: "Theirs" }));
  assert.equal(both.speakers.A, "Theirs");
  assert.deepEqual(both.conflicts.map((one) => one.mine), ["Mine"]);
});

test("whatever two people do, each text of both is there or told", () => {
  let seed = 7;
  const random = (n) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % n;
  };
  for (let round = 0; round < 500; round += 1) {
    const work = (name) => {
      let list = base.segments;
      const wrote = [];
      for (let step = 0; step < 1 + random(4); step += 1) {
        const i = random(list.length);
        const what = random(3);
        if (what === 0) {
          const text = `${name} ${round} ${step}`;
          wrote.push(text);
          list = replaced(list, i, withText(list[i], text));
        } else if (what === 1) list = split(list, i, 4, `new-${name}-${round}-${step}`);
        else list = merged(list, i);
      }
      const last = list.map((one) => one.text).join(" ");
      return { state: with_(list), wrote: wrote.filter((text) => last.includes(text)) };
    };
    const [mine, theirs] = [work("mine"), work("theirs")];
    const found = merge(base, mine.state, copied(theirs.state));
    const all = [...texts(found), ...found.conflicts.flatMap((one) => [one.mine, one.theirs])].join("|");
    for (const text of [...mine.wrote, ...theirs.wrote]) assert.ok(all.includes(text), `round ${round}: ${text}`);
    const starts = found.segments.map((one) => one.start_s);
    assert.deepEqual(starts, [...starts].sort((a, b) => a - b));
    assert.equal(new Set(found.segments.map((one) => one.id)).size, found.segments.length);
  }
});

test("a draft is the difference, and makes of any transcript what the whole ones make of it", () => {
  const mine = with_(split(edited(base, 1, "mine").segments.toSpliced(6, 1), 4, 4, "new-1"), { A: "Anne" });
  const draft = JSON.parse(JSON.stringify(difference(base, mine)));
  assert.deepEqual(draft.mine.segments.map((one) => one.id), ["1", "4", "new-1"]);
  assert.deepEqual(draft.base.segments.map((one) => one.id), ["1", "4", "6"]);
  const { segments, speakers } = merge(draft.base, draft.mine, copied(base));
  assert.deepEqual({ segments, speakers }, mine);
  const theirs = copied(with_(split(edited(edited(base, 1, "theirs"), 6, "theirs too").segments, 3, 4, "new-2")));
  assert.deepEqual(merge(draft.base, draft.mine, theirs), merge(base, mine, theirs));
});

test("what the service adds to a segment that I removed is no writing in it", () => {
  const theirs = copied(base);
  theirs.segments[3].words = [{ start_s: 6, end_s: 7, text: "text", fitted: true }];
  const found = merge(base, with_(base.segments.toSpliced(3, 1)), theirs);
  assert.deepEqual(found.conflicts, []);
  assert.equal(found.segments.length, 7);
});
