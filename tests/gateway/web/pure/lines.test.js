// Long answers that are read by lines, however the network cuts them.

import assert from "node:assert/strict";
import test from "node:test";
import { ApiError, linesOf } from "../web/lib/api.js";

const HEAD = '{"revision": 2, "speakers": {"a": "Ä\\n"}, "segments": [\n';
const ITEMS = ['{"id": "1", "text": "a line\\nand ], another"}', '{"id": "2", "text": "ठीक"}', '{"id": "3"}'];
const WHOLE = `${HEAD}${ITEMS.join(",\n")}\n]}`;

/** Has `fetch` answer with these bytes, `size` at a time. */
function answers(text, size) {
  const bytes = new TextEncoder().encode(text);
  globalThis.fetch = async () =>
    new Response(new ReadableStream({
      start(stream) {
        for (let at = 0; at < bytes.length; at += size) stream.enqueue(bytes.slice(at, at + size));
        stream.close();
      },
    }));
}

test("an answer is the same however it is cut, and its beginning is told once", async () => {
  for (const size of [1, 2, 3, 7, 50, 1000]) {
    answers(WHOLE, size);
    const firsts = [];
    const { head, items } = await linesOf("/x", (part) => firsts.push(part));
    assert.deepEqual({ ...head, segments: items }, JSON.parse(WHOLE));
    assert.equal(firsts.length, 1);
    assert.deepEqual(firsts[0].head, head);
    assert.deepEqual(firsts[0].items, items.slice(0, firsts[0].items.length));
    if (size < 50) assert.equal(firsts[0].items.length, 1);
  }
});

test("an answer without items has a head, and no beginning", async () => {
  answers(`${HEAD}]}`, 5);
  const { head, items } = await linesOf("/x", () => assert.fail("there is nothing to see"));
  assert.equal(head.revision, 2);
  assert.deepEqual(items, []);
});

test("an answer that breaks off is none, wherever it does", async () => {
  for (let length = 0; length < new TextEncoder().encode(WHOLE).length; length += 1) {
    answers(new TextDecoder().decode(new TextEncoder().encode(WHOLE).slice(0, length)), 1000);
    await assert.rejects(linesOf("/x"), ApiError, `after ${length} bytes`);
  }
});
