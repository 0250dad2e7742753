// What is not saved yet, kept in the browser: it outlives a reload, a crash and a gateway that is away.
//
// Each tab has drafts of its own, so that two tabs do not write over each other. A draft whose tab is
// gone is taken over by the next one that opens its job.

import { newId } from "../lib/ids.js";

const GONE_AFTER_MS = 10_000;

/** The drafts of this tab. `storage` and `session` are localStorage and sessionStorage. */
export class Drafts {
  constructor({ storage, session, now = Date.now, makeId = newId }) {
    Object.assign(this, { storage, now });
    // a reload keeps the session, and so its tab
    this.tab = session?.getItem("voxroute:tab") ?? makeId();
    session?.setItem("voxroute:tab", this.tab);
  }

  #name(kind, tab = this.tab) {
    return `voxroute:draft:${kind}:${tab}`;
  }

  /** Keeps a draft. Throws where the browser has no room for it. */
  keep(kind, content) {
    this.storage.setItem(this.#name(kind), JSON.stringify({ at: this.now(), content }));
  }

  drop(kind) {
    this.storage.removeItem(this.#name(kind));
  }

  /** Drafts of this tab and of those that are gone; they are this tab's to keep from now on. */
  take(kind) {
    const prefix = this.#name(kind, "");
    const found = [];
    for (const name of Object.keys(this.storage)) {
      if (!name.startsWith(prefix)) continue;
      try {
        const { at, content } = JSON.parse(this.storage.getItem(name));
        const mine = name === this.#name(kind);
        if (!mine && this.now() - at < GONE_AFTER_MS) continue;
        found.push(content);
        if (!mine) this.storage.removeItem(name);
      } catch {
        // no draft of ours
      }
    }
    return found;
  }
}
