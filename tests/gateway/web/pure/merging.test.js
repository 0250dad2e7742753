// Changes of two tabs, put together.

import assert from "node:assert/strict";
import test from "node:test";
import { difference, merge } from "../web/transcript/merging.js";
import { merged, replaced, split, withPassage, withText, withTranslation } from "../web/transcript/segments.js";

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
  assert.ok(!texts(found).includes("2 here")); // not the half of it beside theirs
});

test("a cut here and a word corrected there are asked about, as a whole", () => {
  const mine = with_(split(base.segments, 2, 4, "new-1"));
  const found = merge(base, mine, copied(edited(base, 2, "text 2 there")));
  assert.deepEqual(texts(found), texts(edited(base, 2, "text 2 there")));
  const [one] = found.conflicts;
  assert.deepEqual([one.field, one.mine, one.theirs], ["passage", "text | 2 here", "text 2 there"]);
  assert.deepEqual(withPassage(found.segments, one.put), mine.segments);
});

test("a cut there and a word corrected here are asked about, as a whole", () => {
  const theirs = copied(with_(split(base.segments, 2, 4, "new-1")));
  const mine = edited(base, 2, "text 2 there");
  const found = merge(base, mine, theirs);
  assert.deepEqual(found.segments, theirs.segments);
  assert.deepEqual(found.conflicts.map((one) => [one.mine, one.theirs]), [["text 2 there", "text | 2 here"]]);
  assert.deepEqual(withPassage(found.segments, found.conflicts[0].put), mine.segments);
});

test("a cut here and another speaker there are put together, in both halves", () => {
  const mine = with_(split(base.segments, 2, 4, "new-1"));
  const theirs = copied(with_(replaced(base.segments, 2, { ...base.segments[2], speaker: "B" })));
  const found = merge(base, mine, theirs);
  assert.deepEqual(found.conflicts, []);
  assert.deepEqual(found.segments.slice(1, 5).map((one) => one.speaker), ["A", "B", "B", "A"]);
});

test("the same cut of two is one cut, and what is written in its halves is put together", () => {
  const cut = with_(split(base.segments, 2, 4, "new-1"));
  const at = (state, id) => state.segments.findIndex((one) => one.id === id);
  const write = (id, text) => edited(cut, at(cut, id), text);
  const found = merge(cut, write("2", "mine"), copied(write("new-1", "theirs")));
  assert.deepEqual(found.conflicts, []);
  assert.deepEqual(texts(found).slice(2, 4), ["mine", "theirs"]);
});

test("a translation made anew there does not stand against a cut here", () => {
  const theirs = copied(base);
  theirs.segments[2].translations.hi.text = "made anew";
  const mine = with_(split(base.segments, 2, 4, "new-1"));
  assert.deepEqual(merge(base, mine, theirs), { ...mine, conflicts: [] });
  theirs.segments[2].translations.hi.edited = true; // a person has written it
  assert.equal(merge(base, mine, theirs).conflicts.length, 1);
});

test("what I wrote in a segment that they joined is told", () => {
  const theirs = copied(with_(merged(base.segments, 3)));
  const found = merge(base, edited(base, 4, "mine"), theirs);
  assert.deepEqual(found.conflicts.map((one) => [one.id, one.mine]), [["3", "text 3 here | mine"]]);
});

test("what they wrote in a segment that I joined is told", () => {
  const found = merge(base, with_(merged(base.segments, 3)), copied(edited(base, 4, "theirs")));
  assert.deepEqual(texts(found).slice(3, 5), ["text 3 here", "theirs"]);
  assert.deepEqual(found.conflicts.map((one) => one.mine), ["text 3 here text 4 here"]);
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

test("whatever two people do, nothing is said twice, whichever side is kept", () => {
  let seed = 11;
  const random = (n) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return (seed >> 8) % n;
  };
  const said = (i) => [0, 1, 2, 3].map((n) => `w${i}.${n}`).join(" ");
  const start = with_(base.segments.map((one, i) => ({ ...one, text: said(i) })));
  const every = start.segments.flatMap((one) => one.text.split(" "));
  let asked = 0;
  for (let round = 0; round < 2000; round += 1) {
    const work = (name) => {
      let list = start.segments;
      for (let step = 0; step < 1 + random(4); step += 1) {
        const i = random(list.length);
        const what = random(4);
        const { text } = list[i];
        if (what === 0) list = replaced(list, i, withText(list[i], `${text} ${name}${round}.${step}`));
        else if (what === 1) list = split(list, i, text.indexOf(" ") + 1, `new-${name}-${step}`);
        else if (what === 2) list = merged(list, i);
        else if (list.length > 1) list = list.toSpliced(i, 1);
      }
      return with_(list);
    };
    const [mine, theirs] = [work("m"), work("t")];
    const found = merge(start, mine, copied(theirs));
    const words = (segments) => segments.flatMap((one) => one.text.split(" "));
    const once = (segments, which) => {
      const there = words(segments);
      assert.equal(new Set(there).size, there.length, `round ${round}, ${which}: ${there}`);
      assert.equal(new Set(segments.map((one) => one.id)).size, segments.length);
    };
    once(found.segments, "theirs");
    const kept = found.conflicts.filter((one) => one.put).reduce((list, one) => withPassage(list, one.put), found.segments);
    once(kept, "mine");
    const told = new Set([...words(found.segments), ...words(kept), ...found.conflicts.flatMap((one) => [...one.mine.split(/[ |]+/), ...one.theirs.split(/[ |]+/)])]);
    for (const word of every) {
      const both = [mine, theirs].every((side) => words(side.segments).includes(word));
      if (both) assert.ok(told.has(word), `round ${round}: ${word}`);
    }
    for (const side of [mine, theirs]) for (const word of words(side.segments)) if (!every.includes(word)) assert.ok(told.has(word), word);
    asked += found.conflicts.length;
  }
  assert.ok(asked > 100);
});

test("who speaks at the same time as a segment that is cut is no part of it, from a draft too", () => {
  const over = { ...segment(9), id: "over", start_s: 5, end_s: 5.5, text: "somebody else" };
  const both = with_(base.segments.toSpliced(3, 0, over));
  const mine = with_(split(both.segments, 2, 4, "new-1"));
  const theirs = copied(edited(both, 2, "theirs"));
  const draft = JSON.parse(JSON.stringify(difference(both, mine)));
  for (const found of [merge(both, mine, theirs), merge(draft.base, draft.mine, theirs)]) {
    assert.equal(found.conflicts.length, 1);
    const kept = withPassage(found.segments, found.conflicts[0].put);
    assert.deepEqual(kept.map((one) => one.id), mine.segments.map((one) => one.id));
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
