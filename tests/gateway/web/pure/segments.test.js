// What is done to segments.

import assert from "node:assert/strict";
import test from "node:test";
import {
  fitted, indexAt, merged, needsTimes, needsTranslation, replaced, split, timed, translationOf, withText, withTranslation, wordPlaces,
} from "../web/transcript/segments.js";

const words = (text, from = 0) =>
  text.split(" ").map((one, i) => ({ start_s: from + i, end_s: from + i + 0.8, text: one, probability: 0.9 }));
const segment = (id, text, from = 0, more = {}) => ({
  id, start_s: from, end_s: from + text.split(" ").length, text, language: "en", speaker: "A", flags: [],
  words: words(text, from), translations: { hi: { text: `HI ${text}`, status: "OK", stale: false } }, ...more,
});

test("a word that is corrected keeps its time, and its neighbours all they had", () => {
  const one = withText(segment("1", "the docter sleeps"), "the doctor sleeps");
  assert.deepEqual(one.words.map((w) => [w.text, w.start_s]), [["the", 0], ["doctor", 1], ["sleeps", 2]]);
  assert.equal(one.words[0].probability, 0.9);
  assert.equal(one.words[1].probability, undefined);
  assert.ok(needsTimes(one));
  assert.ok(one.translations.hi.stale);
  assert.ok(needsTranslation(one, "hi"));
});

test("both parts of a cut last", () => {
  const one = { ...segment("1", "a b"), words: [
    { start_s: 0, end_s: 2, text: "a" }, { start_s: 2 - 1e-12, end_s: 2, text: "b" },
  ] };
  const [first, second] = split([one], 0, 1, "new");
  assert.equal(first.end_s, 1);
  assert.deepEqual([second.start_s, second.end_s], [1, 2]);
});

test("what the job service would refuse is never made", () => {
  const long = withText(segment("1", "a b"), `see https://example.org/${"x".repeat(300)}`);
  assert.deepEqual(long.words, []);
  assert.deepEqual(withText(segment("1", "a b"), "a ".repeat(1200)).words, []);
  const odd = withText(segment("1", "a b"), "a\u0000 \u001b[1mb\ud83d 😀\nc");
  assert.equal(odd.text, "a [1mb\ufffd 😀\nc");
  assert.equal(withTranslation(segment("1", "a"), "hi", "x\u0007").translations.hi.text, "x");
  const two = [segment("1", "a".repeat(3000)), segment("2", "b".repeat(3000), 1)];
  assert.equal(merged(two, 0), two);
});

test("words that are added share the time between their neighbours", () => {
  const found = fitted(words("a d"), "a bb cc d", 0, 2);
  assert.deepEqual(found.map((w) => w.text), ["a", "bb", "cc", "d"]);
  for (let i = 1; i < found.length; i += 1) assert.ok(found[i].start_s >= found[i - 1].start_s);
  assert.equal(found.at(-1).start_s, 1);
});

test("a text without blanks has no words until it is timed again", () => {
  const old = [{ start_s: 0, end_s: 1, text: "你好" }, { start_s: 1, end_s: 2, text: "世界" }];
  assert.deepEqual(fitted(old, "你好世界", 0, 2), old);
  assert.deepEqual(fitted(old, "你好世人", 0, 2), []);
});

test("the same text changes nothing", () => {
  const one = segment("1", "a b");
  assert.equal(withText(one, "a b"), one);
  assert.equal(withTranslation(one, "hi", "HI a b"), one);
});

test("a segment is cut between words, at their times, and joined again", () => {
  const list = [segment("1", "one two three four"), segment("2", "five", 4)];
  const cut = split(list, 0, 8, "new-1");
  assert.deepEqual(cut.map((one) => [one.id, one.text, one.start_s, one.end_s]), [
    ["1", "one two", 0, 1.8], ["new-1", "three four", 2, 4], ["2", "five", 4, 5],
  ]);
  assert.deepEqual(cut[1].words.map((w) => w.text), ["three", "four"]);
  assert.equal(`${cut[0].translations.hi.text} ${cut[1].translations.hi.text}`, "HI one two three four");
  const joined = merged(cut, 0);
  assert.equal(joined[0].text, "one two three four");
  assert.equal(joined[0].translations.hi.text, "HI one two three four");
  assert.deepEqual(joined[0].words, list[0].words);
  assert.deepEqual([joined[0].start_s, joined[0].end_s], [0, 4]);
});

test("without words the time is cut as the letters are", () => {
  const [first, second] = split([segment("1", "aaaa bbbb", 10, { end_s: 20, words: [] })], 0, 5, "new-1");
  assert.deepEqual([first.end_s, second.start_s], [15, 15]);
});

test("there is nothing to cut at an end, and nothing to join behind the last", () => {
  const list = [segment("1", "one two")];
  for (const offset of [0, 7]) assert.equal(split(list, 0, offset, "new"), list);
  assert.equal(merged(list, 0), list);
});

test("both parts of a cut last, whatever the words' times are", () => {
  const still = [{ start_s: 5, end_s: 5, text: "a" }, { start_s: 9, end_s: 9, text: "b" }];
  const [first, second] = split([segment("1", "a b", 5, { end_s: 9, words: still })], 0, 1, "new");
  assert.ok(first.end_s > first.start_s);
  assert.ok(second.end_s > second.start_s);
});

test("the segment of a time is found", () => {
  const list = [segment("1", "a", 1), segment("2", "b", 5)];
  assert.deepEqual([0, 1, 4.9, 5, 99].map((s) => indexAt(list, s)), [-1, 0, 0, 1, 1]);
});

test("words are found in the text in their order", () => {
  assert.deepEqual(wordPlaces(segment("1", "no no yes")), [[0, 2], [3, 5], [6, 9]]);
  const odd = segment("1", "Hello, world", 0, { words: words("Hello there world") });
  assert.deepEqual(wordPlaces(odd), [[0, 5], null, [7, 12]]);
});

test("nothing is changed in place", () => {
  const list = Object.freeze([Object.freeze(segment("1", "one two")), Object.freeze(segment("2", "three", 2))]);
  split(list, 0, 3, "new");
  merged(list, 0);
  replaced(list, 0, withText(list[0], "x"));
});

test("a segment begins and ends elsewhere, and its words with it", () => {
  const list = [segment("1", "one two"), segment("2", "three four", 2), segment("3", "five", 5)];
  const next = timed(list, 1, 1.5, 3.2, 10);
  assert.deepEqual([next[1].start_s, next[1].end_s, next[1].edited], [1.5, 3.2, true]);
  assert.deepEqual(next[1].words.map((one) => [one.start_s, one.end_s]), [[2, 2.8], [3, 3.2]]);
  assert.ok(needsTimes(next[1])); // its last word was longer
  assert.equal(next[0], list[0]);
  assert.equal(timed(list, 1, 2, 4, 10), list);
});

test("times that cannot be are told in words", () => {
  const list = [segment("1", "one two"), segment("2", "three four", 2), segment("3", "five", 5)];
  const why = (index, start, end) => timed(list, index, start, end, 10);
  assert.match(why(0, -1, 2), /before the recording/);
  assert.match(why(2, 5, 11), /after the recording/);
  assert.match(why(1, 3, 3), /end after it begins/);
  assert.match(why(1, 2, NaN), /end after it begins/);
  assert.match(why(2, 1, 6), /segment before/);
  assert.match(why(0, 3, 4), /next segment/);
});

test("a translation of a text that is gone is not said", () => {
  const one = segment("1", "one two");
  assert.equal(translationOf(one, "hi"), "HI one two");
  assert.equal(translationOf(withText(one, ""), "hi"), "");
  assert.equal(translationOf(withTranslation(withText(one, ""), "hi", "(sighs)"), "hi"), "(sighs)");
  assert.equal(translationOf(one, "fr"), "");
});
