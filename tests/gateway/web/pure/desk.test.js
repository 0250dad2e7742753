// A transcript under work: saved, undone, put together, kept.

import assert from "node:assert/strict";
import test from "node:test";
import { ApiError } from "../web/lib/api.js";
import { holder } from "../web/lib/holding.js";
import { Desk } from "../web/transcript/desk.js";
import { Drafts } from "../web/transcript/drafts.js";
import { merged, replaced, split, withText } from "../web/transcript/segments.js";
import { body } from "../web/transcript/transcripts.js";

/** Storage as browsers have it; may be full. */
class Storage {
  setItem(name, value) {
    if (Storage.full) throw new Error("QuotaExceededError");
    this[name] = value;
  }

  getItem(name) {
    return Object.hasOwn(this, name) ? this[name] : null;
  }

  removeItem(name) {
    delete this[name];
  }
}

const KEPT = 20;

/** A service that keeps some revisions, and may be away. */
class Service {
  constructor() {
    const segments = [0, 1, 2].map((i) => ({ id: String(i), start_s: i, end_s: i + 1, text: `text ${i}`, words: [], translations: {} }));
    this.revisions = [null, { revision: 1, segments, speakers: {}, untranscribed: [] }];
    this.failure = null;
    this.writes = 0;
  }

  async read(first = () => {}) {
    if (this.failure) throw this.failure;
    const newest = structuredClone(this.revisions.at(-1));
    first({ ...newest, segments: newest.segments.slice(0, 1) });
    if (this.brokenOff) throw this.brokenOff;
    return newest;
  }

  async write(base, segments, speakers) {
    this.writes += 1;
    if (this.failure) throw this.failure;
    if (base !== this.revisions.length - 1) throw new ApiError(409, "another was faster", { code: "revision_conflict" });
    this.revisions.push(structuredClone({ revision: base + 1, segments, speakers, untranscribed: [] }));
    if (this.lost) {
      this.lost = false;
      throw new ApiError(0, "the answer was lost");
    }
    return { revision: base + 1 };
  }

  get texts() {
    return this.revisions.at(-1).segments.map((one) => one.text);
  }
}

const texts = (desk) => desk.state.segments.map((one) => one.text);
const type = (desk, i, text) =>
  desk.change({ segments: replaced(desk.state.segments, i, withText(desk.state.segments[i], text)) }, `${i}`);

/** navigator.locks of one page; pages of a browser have `names` in common. */
class Locks {
  constructor(names) {
    Object.assign(this, { names, mine: [] });
  }

  async request(name, { signal }, callback) {
    for (; this.names.has(name); await new Promise((resolve) => setTimeout(resolve, 5))) {
      if (!signal) return callback(null);
      signal.throwIfAborted();
    }
    this.names.add(name);
    this.mine.push(name);
    return callback({ name });
  }

  end() {
    for (const name of this.mine) this.names.delete(name);
  }
}

const browsers = new WeakMap(); // by what they store

async function opened(service, storage = new Storage(), session = new Storage()) {
  if (!browsers.has(storage)) browsers.set(storage, new Set());
  const locks = new Locks(browsers.get(storage));
  const drafts = new Drafts({ storage, session, hold: holder(locks) });
  const desk = new Desk("job", service, drafts, { soonMs: 5, delays: [5, 5] });
  desk.locks = locks;
  await desk.open();
  return desk;
}

/** The end of a page, by a reload or for good. */
function left(desk) {
  desk.close();
  desk.locks.end();
}

const until = async (condition) => {
  for (let i = 0; i < 400 && !condition(); i += 1) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(condition());
};

/** A tab writes "mine" into the second segment while the service is away, and is gone. */
async function leftUnsaved(service, storage, session) {
  const before = await opened(service, storage, session);
  service.failure = new ApiError(0, "away");
  type(before, 1, "mine");
  left(before);
}

test("what is written is saved by itself, as one revision for what is written at once", async () => {
  const service = new Service();
  const desk = await opened(service);
  for (const text of ["a", "ab", "abc"]) type(desk, 1, text);
  await until(() => desk.state.saving === "saved" && service.writes > 0);
  assert.deepEqual(service.texts, ["text 0", "abc", "text 2"]);
  assert.equal(service.writes, 1);
  desk.close();
});

test("steps are taken back and done again, and what is typed at once is one step", async () => {
  const desk = await opened(new Service());
  type(desk, 1, "a");
  type(desk, 1, "ab");
  type(desk, 2, "c");
  desk.undo();
  assert.deepEqual(texts(desk), ["text 0", "ab", "text 2"]);
  desk.undo();
  assert.deepEqual(texts(desk), ["text 0", "text 1", "text 2"]);
  assert.equal(desk.state.undo, false);
  desk.redo();
  desk.redo();
  assert.deepEqual(texts(desk), ["text 0", "ab", "c"]);
  desk.close();
});

test("a service that is away is tried again, and all is saved then", async () => {
  const service = new Service();
  const desk = await opened(service);
  service.failure = new ApiError(0, "away");
  type(desk, 0, "mine");
  await until(() => desk.state.saving === "away" && service.writes >= 2);
  service.failure = null;
  await until(() => desk.state.saving === "saved");
  assert.equal(service.texts[0], "mine");
  desk.close();
});

test("what another tab has saved is put together with what is written here", async () => {
  const service = new Service();
  const [one, other] = [await opened(service), await opened(service)];
  type(one, 0, "one's");
  await one.save();
  type(other, 2, "other's");
  await other.save();
  assert.deepEqual(service.texts, ["one's", "text 1", "other's"]);
  assert.deepEqual(texts(other), service.texts);
  assert.deepEqual(other.state.conflicts, []);
  one.close();
  other.close();
});

test("a conflict is told and settled, and taking back leaves what others have saved", async () => {
  const service = new Service();
  const [one, other] = [await opened(service), await opened(service)];
  type(one, 0, "one's");
  await one.save();
  type(other, 1, "kept");
  type(other, 0, "other's");
  await other.save();
  assert.deepEqual(service.texts, ["one's", "kept", "text 2"]);
  const [conflict] = other.state.conflicts;
  assert.deepEqual([conflict.mine, conflict.theirs], ["other's", "one's"]);
  assert.equal(other.undo(), false); // of what is in the conflict: there is nothing of it here
  assert.equal(other.undo(), true);
  assert.deepEqual(texts(other), ["one's", "text 1", "text 2"]);
  other.settle(conflict, true, (now) => ({ segments: replaced(now.segments, 0, withText(now.segments[0], conflict.mine)) }));
  await other.save();
  assert.deepEqual(service.texts, ["other's", "text 1", "text 2"]);
  assert.deepEqual(other.state.conflicts, []);
  one.close();
  other.close();
});

test("an answer that is lost makes no conflict", async () => {
  const service = new Service();
  const desk = await opened(service);
  service.lost = true;
  type(desk, 0, "mine");
  await until(() => desk.state.saving === "saved" && service.writes >= 2);
  assert.deepEqual(desk.state.conflicts, []);
  assert.equal(service.texts[0], "mine");
  desk.close();
});

test("what is written after an answer that is lost is no conflict with itself", async () => {
  const service = new Service();
  const desk = await opened(service);
  service.lost = true;
  type(desk, 0, "mine");
  await until(() => service.revisions.length === 3);
  type(desk, 0, "mine, and more");
  await until(() => desk.state.saving === "saved");
  assert.deepEqual(desk.state.conflicts, []);
  assert.equal(service.texts[0], "mine, and more");
  desk.close();
});

test("what is refused is told, kept, and not sent again and again", async () => {
  const service = new Service();
  const desk = await opened(service);
  service.failure = new ApiError(400, "too long");
  type(desk, 0, "mine");
  await until(() => desk.state.saving === "refused");
  const { writes } = service;
  await new Promise((resolve) => setTimeout(resolve, 60));
  assert.equal(service.writes, writes);
  assert.equal(desk.state.why, "too long");
  desk.close();
});

test("what is not saved outlives a reload, also where others have saved meanwhile", async () => {
  const service = new Service();
  const [storage, session] = [new Storage(), new Storage()];
  await leftUnsaved(service, storage, session);
  service.failure = null;
  const other = await opened(service);
  type(other, 2, "theirs");
  await other.save();
  const after = await opened(service, storage, session);
  assert.deepEqual(texts(after), ["text 0", "mine", "theirs"]);
  await after.save();
  assert.deepEqual(service.texts, ["text 0", "mine", "theirs"]);
  assert.ok(!Object.keys(storage).some((name) => name.includes("draft")));
  other.close();
  after.close();
});

test("what is not saved loses nothing of others', also where its revision is no longer kept", async () => {
  const service = new Service();
  const [storage, session] = [new Storage(), new Storage()];
  const before = await opened(service, storage, session);
  service.failure = new ApiError(0, "away");
  type(before, 1, "mine");
  before.change({ segments: split(before.state.segments, 2, 4, "new-mine") });
  left(before);
  service.failure = null;
  const other = await opened(service);
  type(other, 1, "theirs");
  other.change({ segments: split(other.state.segments, 0, 4, "new-theirs") });
  for (let i = 0; i < KEPT + 4; i += 1) {
    type(other, 0, `text of ${i}`);
    await other.save();
  }
  const after = await opened(service, storage, session);
  await after.save();
  assert.deepEqual(service.texts, [`text of ${KEPT + 3}`, "0", "theirs", "text", "2"]);
  assert.deepEqual(after.state.conflicts.map((one) => [one.mine, one.theirs]), [["mine", "theirs"]]);
  other.close();
  after.close();
});

test("a draft of a tab that is gone is taken over at once, one of a tab that is there is not", async () => {
  const service = new Service();
  const storage = new Storage();
  const one = await opened(service, storage);
  service.failure = new ApiError(0, "away");
  type(one, 0, "of the other tab");
  one.keep();
  service.failure = null;
  const early = await opened(service, storage);
  assert.equal(texts(early)[0], "text 0");
  left(one);
  const late = await opened(service, storage);
  assert.equal(texts(late)[0], "of the other tab");
  await late.save();
  assert.ok(!Object.keys(storage).some((name) => name.includes("draft")));
  left(early);
  left(late);
});

test("taking back what others have changed since says that theirs stays", async () => {
  const service = new Service();
  const [one, other] = [await opened(service), await opened(service)];
  type(one, 0, "mine");
  await one.save();
  await other.catchUp();
  type(other, 0, "theirs");
  await other.save();
  await one.catchUp();
  assert.equal(one.undo(), false);
  assert.equal(texts(one)[0], "theirs");
  assert.equal(one.redo(), false);
  assert.equal(texts(one)[0], "theirs");
  one.close();
  other.close();
});

test("the beginning of a transcript can be seen, not changed, and is never saved as the whole", async () => {
  const service = new Service();
  const [storage, session] = [new Storage(), new Storage()];
  await leftUnsaved(service, storage, session);
  service.failure = null;
  service.brokenOff = new ApiError(0, "broken off");
  const desk = new Desk("job", service, new Drafts({ storage, session, hold: async () => true }));
  let seen = [];
  await assert.rejects(desk.open(() => {
    seen = texts(desk);
    type(desk, 0, "too early");
  }));
  assert.deepEqual(seen, ["text 0"]);
  assert.deepEqual(texts(desk), ["text 0"], "nothing was changed");
  assert.equal(desk.dirty, false);
  await desk.save();
  desk.close();
  assert.equal(service.writes, 0);
  service.brokenOff = null;
  const after = await opened(service, storage, session);
  assert.deepEqual(texts(after), ["text 0", "mine", "text 2"], "the draft is still there");
  left(after);
});

test("a page that is left before it could open anything drops no draft", async () => {
  const service = new Service();
  const [storage, session] = [new Storage(), new Storage()];
  await leftUnsaved(service, storage, session);
  const hold = async () => true;
  const unable = new Desk("job", service, new Drafts({ storage, session, hold }));
  await assert.rejects(unable.open());
  unable.close();
  service.failure = null;
  const after = await opened(service, storage, session);
  assert.equal(texts(after)[1], "mine");
  left(after);
});

test("a tab that is duplicated has drafts of its own", async () => {
  const service = new Service();
  const [storage, session] = [new Storage(), new Storage()];
  const one = await opened(service, storage, session);
  const other = await opened(service, storage, Object.assign(new Storage(), session));
  service.failure = new ApiError(0, "away");
  type(one, 0, "one's");
  type(other, 1, "other's");
  left(one);
  left(other);
  service.failure = null;
  const after = await opened(service, storage);
  assert.deepEqual(texts(after), ["one's", "other's", "text 2"]);
  left(after);
});

test("without locks, pages ask each other", async () => {
  const channels = [1, 2, 3].map(() => new BroadcastChannel("test"));
  const [one, other, third] = channels.map(holder);
  assert.deepEqual((await Promise.all([one("a"), other("a"), third("a")])).sort(), [false, false, true]);
  assert.equal(await one("b"), true);
  assert.equal(await one("b"), true);
  assert.equal(await other("b"), false);
  channels[0].close();
  assert.equal(await other("b"), true);
  for (const channel of channels.slice(1)) channel.close();
});

test("a conflict that is not settled outlives a reload", async () => {
  const service = new Service();
  const [storage, session] = [new Storage(), new Storage()];
  const [one, other] = [await opened(service), await opened(service, storage, session)];
  type(one, 0, "one's");
  await one.save();
  type(other, 0, "other's");
  await other.save();
  left(other);
  const again = await opened(service, storage, session);
  assert.deepEqual(again.state.conflicts.map((c) => c.mine), ["other's"]);
  one.close();
  again.close();
});

test("a browser without room is told of", async () => {
  const service = new Service();
  const desk = await opened(service);
  service.failure = new ApiError(0, "away");
  Storage.full = true;
  type(desk, 0, "mine");
  await until(() => desk.state.unkept);
  Storage.full = false;
  type(desk, 0, "mine too");
  await until(() => !desk.state.unkept);
  desk.close();
});

test("what is long is sent for changed segments alone", () => {
  const words = [{ start_s: 0, end_s: 1, text: "a", fitted: true }];
  const old = { id: "1", start_s: 0, end_s: 1, text: "a", words, translations: { hi: { text: "b", status: "OK", stale: false } } };
  const changed = { ...old, text: "c" };
  const sent = (segments) => JSON.parse(body(3, segments, {}, { segments: [old] }));
  assert.equal(sent([old]).base_revision, 3);
  assert.equal(sent([old]).segments[0].words, undefined);
  assert.deepEqual(sent([changed]).segments[0].words, [{ start_s: 0, end_s: 1, text: "a" }]);
  assert.deepEqual(sent([changed]).segments[0].translations, { hi: { text: "b", status: "OK", stale: false } });
});

test("what is stale of a segment that was cut, or joined with another, is sent as stale", () => {
  const one = (id, text, stale) => ({ id, start_s: 0, end_s: 1, text, translations: { hi: { text: `HI ${text}`, status: "OK", stale } } });
  const [a, b] = [one("1", "a a", false), one("2", "b", true)];
  const stale = (segments) => JSON.parse(body(3, segments, {}, { segments: [a, b] })).segments.map((s) => s.translations?.hi.stale);
  assert.deepEqual(stale(split([a, b], 0, 1, "new-1")), [true, true, undefined]);
  assert.deepEqual(stale(merged([a, b], 0)), [true]);
});
