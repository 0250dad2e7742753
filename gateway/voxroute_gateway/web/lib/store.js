// A value that is watched.

import { useEffect, useReducer } from "../vendor/preact-htm.js";

/** Holds `state`; `set` replaces it, or some of its fields, and tells those who watch. */
export class Store {
  constructor(state) {
    this.state = state;
    this.watchers = new Set();
  }

  set(change) {
    const given = typeof change === "function" ? change(this.state) : change;
    this.state = { ...this.state, ...given };
    this.tell();
  }

  tell() {
    for (const watcher of [...this.watchers]) watcher(this.state);
  }

  watch(watcher) {
    this.watchers.add(watcher);
    return () => this.watchers.delete(watcher);
  }
}

/** The state of a store; what calls this is drawn again when it changes. */
export function useStore(store) {
  const [, draw] = useReducer((n) => n + 1, 0);
  useEffect(() => {
    draw(); // it may have changed since it was drawn
    return store.watch(draw);
  }, [store]);
  return store.state;
}
