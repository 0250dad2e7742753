// What is not saved yet, kept in the browser: it outlives a reload, a crash and a gateway that is away.
//
// Each tab has drafts of its own, so that two tabs do not write over each other. A draft whose tab is
// gone is taken over by the next one that opens its job.

import { newId } from "../lib/ids.js";

// a page that is left or closed takes a while to go
const RELOAD_MS = 1000;
const CLOSING_MS = 200;

const PREFIX = "voxroute:draft:";

/** Removes what any tab has kept of a job that is gone: nothing can be made of it any more. */
export function forgetDrafts(storage, job) {
  for (const name of Object.keys(storage)) if (name.startsWith(`${PREFIX}${job}:`)) storage.removeItem(name);
}

/**
 * The drafts of this tab. `storage` and `session` are localStorage and sessionStorage, `hold` is of
 * holding.js: a tab is there as long as its page holds its name.
 */
export class Drafts {
  constructor({ storage, session, hold, makeId = newId }) {
    Object.assign(this, { storage, hold, taken: [] });
    this.tab = makeId();
    this.ready = this.#settle(session);
  }

  /** A reload keeps the session, and so its tab; but a tab that is duplicated has the session of the other. */
  async #settle(session) {
    const before = session?.getItem("voxroute:tab");
    if (before && (await this.hold(`voxroute:tab:${before}`, RELOAD_MS))) this.tab = before;
    else await this.hold(`voxroute:tab:${this.tab}`);
    session?.setItem("voxroute:tab", this.tab);
  }

  #name(kind, tab = this.tab) {
    return `${PREFIX}${kind}:${tab}`;
  }

  /** Keeps a draft, in place of those that were taken. Throws where the browser has no room for it. */
  keep(kind, content) {
    this.storage.setItem(this.#name(kind), JSON.stringify(content));
    this.#forget(kind);
  }

  drop(kind) {
    this.storage.removeItem(this.#name(kind));
    this.#forget(kind);
  }

  #forget(kind) {
    const prefix = this.#name(kind, "");
    for (const name of this.taken.filter((one) => one.startsWith(prefix))) this.storage.removeItem(name);
    this.taken = this.taken.filter((one) => !one.startsWith(prefix));
  }

  /** Drafts of this tab and of those that are gone; they are this tab's from now on. */
  async take(kind) {
    await this.ready;
    const prefix = this.#name(kind, "");
    const names = Object.keys(this.storage).filter((name) => name.startsWith(prefix));
    const found = await Promise.all(names.map((name) => this.#takeOne(name, name.slice(prefix.length))));
    return found.filter((content) => content !== null);
  }

  async #takeOne(name, tab) {
    if (!(await this.hold(`voxroute:tab:${tab}`, CLOSING_MS))) return null;
    try {
      const content = JSON.parse(this.storage.getItem(name));
      // it stays until this tab has kept what is in it
      if (tab !== this.tab && content) this.taken.push(name);
      return content;
    } catch {
      return null; // no draft of ours
    }
  }
}
