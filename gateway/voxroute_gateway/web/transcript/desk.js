// A transcript under work: what is changed, undone, saved as revisions, and put together with what
// others have saved meanwhile.

import { ApiError } from "../lib/api.js";
import { alike, difference, merge } from "./merging.js";
import { Store } from "../lib/store.js";

const SAVE_AFTER_MS = 1200;
const SAVE_AT_LEAST_MS = 10_000;
const ONE_STEP_MS = 1500;
const MOST_STEPS = 200;
const MOST_UNANSWERED = 20;
const RETRY_MS = [1000, 2000, 4000, 8000, 15_000];

/**
 * `server` has `read(first)` of the newest revision, whose beginning `first` is told when it is there,
 * and `write(base, segments, speakers, changed)`, both of which throw ApiError; `drafts` is of
 * drafts.js. Its state:
 * `opening` (it is the beginning alone, and nothing can be changed yet),
 * `segments`, `speakers`, `untranscribed`, `about` (the rest of the transcript), `conflicts`,
 * `saving` ("saved", "waiting", "saving", "away", "refused"), `why`, `undo` and `redo` (whether there
 * is something), `unkept` (the browser has no room for what is not saved).
 */
export class Desk extends Store {
  constructor(kind, server, drafts, { delays = RETRY_MS, soonMs = SAVE_AFTER_MS } = {}) {
    super({
      segments: [], speakers: {}, untranscribed: [], about: {}, conflicts: [],
      saving: "saved", why: "", undo: false, redo: false, unkept: false, opening: true,
    });
    Object.assign(this, { kind, server, drafts, delays, soonMs });
    this.base = { revision: 0, segments: [], speakers: {} };
    this.done = [];
    this.undone = [];
    this.failures = 0;
    this.timer = null;
    this.dirtySince = 0;
    this.running = null;
    this.unanswered = []; // what was sent and had no answer: it may be saved all the same
    this.closed = false;
  }

  /** Reads the transcript, and puts in it what was not saved before; `begun` is called once its beginning
   * can be seen. Throws ApiError. */
  async open(begun = () => {}) {
    const newest = await this.server.read(({ segments, speakers = {}, untranscribed = [], ...about }) => {
      this.base = { revision: about.revision, segments, speakers }; // nothing in it is a change
      this.set({ segments, speakers, untranscribed, about });
      begun();
    });
    let state = { segments: newest.segments, speakers: newest.speakers ?? {} };
    let conflicts = [];
    this.base = { revision: newest.revision, ...state };
    for (const draft of await this.drafts.take(this.kind)) {
      const found = merge(draft.base, draft.mine, state);
      state = { segments: found.segments, speakers: found.speakers };
      conflicts = [...conflicts, ...found.conflicts, ...(draft.conflicts ?? [])];
    }
    const { segments, speakers, ...about } = newest;
    this.set({ ...state, conflicts, about, untranscribed: newest.untranscribed ?? [], opening: false });
    this.keep();
    if (this.dirty) this.#changed();
  }

  get dirty() {
    return this.state.segments !== this.base.segments || this.state.speakers !== this.base.speakers;
  }

  /** A change by the person: other segments, other names of speakers. `step` joins those of one kind. */
  change({ segments = this.state.segments, speakers = this.state.speakers }, step = "") {
    const before = this.#now();
    if (this.state.opening || (segments === before.segments && speakers === before.speakers)) return;
    const last = this.done.at(-1);
    const at = Date.now();
    const joins = step && last?.step === step && at - last.at < ONE_STEP_MS;
    if (joins) Object.assign(last, { after: { segments, speakers }, at });
    else this.done.push({ before, after: { segments, speakers }, step, at });
    if (this.done.length > MOST_STEPS) this.done.shift();
    this.undone = [];
    this.#put({ segments, speakers });
  }

  /** Takes the last step back; false where others have changed the same since, which stays. */
  undo() {
    return this.#step(this.done, this.undone, "after", "before");
  }

  redo() {
    return this.#step(this.undone, this.done, "before", "after");
  }

  #step(from, to, is, becomes) {
    const step = from.pop();
    if (!step) return true;
    to.push({ ...step, step: "" });
    const now = this.#now();
    const untouched = now.segments === step[is].segments && now.speakers === step[is].speakers;
    // what others have saved since then stays
    const next = untouched ? { ...step[becomes], conflicts: [] } : merge(step[is], step[becomes], now);
    this.#put({ segments: next.segments, speakers: next.speakers });
    return next.conflicts.length === 0;
  }

  /** Settles a conflict: `mine` puts back what this tab had written. */
  settle(conflict, mine, put) {
    const conflicts = this.state.conflicts.filter((one) => one !== conflict);
    this.set({ conflicts });
    if (mine) this.change(put(this.state));
    this.keep();
  }

  #now() {
    return { segments: this.state.segments, speakers: this.state.speakers };
  }

  #put(state) {
    this.set({ ...state, undo: this.done.length > 0, redo: this.undone.length > 0 });
    this.#changed();
  }

  #changed() {
    this.dirtySince ||= Date.now();
    if (this.state.saving === "saved") this.set({ saving: this.dirty ? "waiting" : "saved" });
    const late = Date.now() - this.dirtySince > SAVE_AT_LEAST_MS;
    this.#later(late ? 0 : this.soonMs);
    this.#keepSoon();
  }

  #keepSoon() {
    this.keeping ??= setTimeout(() => this.keep(), 250);
  }

  /** Keeps in the browser what is not saved, now. */
  keep() {
    clearTimeout(this.keeping);
    this.keeping = null;
    if (this.state.opening) return; // what was kept before is not in it yet
    const { conflicts } = this.state;
    try {
      if (!this.dirty && !conflicts.length) this.drafts.drop(this.kind);
      else {
        this.drafts.keep(this.kind, { conflicts, ...difference(this.base, this.#now()) });
      }
      if (this.state.unkept) this.set({ unkept: false });
    } catch {
      this.set({ unkept: true });
    }
  }

  #later(ms) {
    if (this.closed || this.running) return;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.save().catch(() => {}), ms);
  }

  /** Saves now what is not saved; returns once all is, or throws ApiError where that is not possible. */
  async save() {
    clearTimeout(this.timer);
    this.running ??= this.#saveAll().finally(() => {
      this.running = null;
      // what was written after the last answer
      if (this.dirty && this.state.saving !== "refused") this.#later(this.#delay());
    });
    return this.running;
  }

  async #saveAll() {
    while (this.dirty) {
      const sent = this.#now();
      if (this.state.saving !== "away") this.set({ saving: "saving" });
      try {
        const told = await this.server.write(this.base.revision, sent.segments, sent.speakers, this.base);
        this.base = { revision: told.revision, ...sent };
        this.unanswered = [];
      } catch (error) {
        if (error.passes) this.unanswered = [...this.unanswered.slice(-MOST_UNANSWERED), sent];
        if (error.code !== "revision_conflict" && ![409, 412].includes(error.status)) throw this.#failed(error);
        try {
          await this.catchUp();
        } catch (other) {
          throw this.#failed(other);
        }
      }
      this.failures = 0;
      this.keep();
    }
    this.dirtySince = 0;
    this.set({ saving: "saved", why: "" });
    this.keep();
  }

  /** Puts what is at the service now together with what is written here. Throws ApiError. */
  async catchUp() {
    const newest = await this.server.read();
    const theirs = { segments: newest.segments, speakers: newest.speakers ?? {} };
    // my own revision, whose answer was lost, is no change of somebody else's
    const base = this.unanswered.find((one) => alike(one, theirs)) ?? this.base;
    this.unanswered = [];
    const found = merge(base, this.#now(), theirs);
    this.base = { revision: newest.revision, ...theirs };
    const asTheirs = alike(found, theirs);
    const { segments, speakers, ...about } = newest;
    this.set({
      ...(asTheirs ? theirs : { segments: found.segments, speakers: found.speakers }),
      about,
      untranscribed: newest.untranscribed ?? [],
      conflicts: [...this.state.conflicts, ...found.conflicts],
    });
    this.keep();
  }

  #delay() {
    if (this.state.saving !== "away") return this.soonMs;
    return this.delays[Math.min(this.failures, this.delays.length) - 1] ?? this.soonMs;
  }

  #failed(error) {
    const known = error instanceof ApiError ? error : new ApiError(0, String(error.message ?? error));
    this.failures += 1;
    // signed out is not refused: it goes on once somebody has signed in
    const passes = known.passes || known.status === 401;
    this.set({ saving: passes ? "away" : "refused", why: known.message });
    this.keep();
    return known;
  }

  /** Tries again at once: the network is back, or somebody has signed in. */
  wake() {
    if (this.dirty && !this.running) this.#later(0);
  }

  /** Keeps what is not saved, and saves no more. */
  close() {
    this.keep();
    this.closed = true;
    clearTimeout(this.timer);
  }
}
