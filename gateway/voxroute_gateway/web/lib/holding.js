// Names that one page at a time holds, of all that a browser has open here.

const ANSWER_MS = 300;

/**
 * A function that holds a name as long as the page is there: whether it is this page's. It waits up to
 * `patienceMs` for one that holds it and is about to go. `by` is navigator.locks or, where there are
 * none, a BroadcastChannel over which pages ask each other.
 */
export function holder(by) {
  const held = new Map();
  const how = by.request ? locked(by) : asked(by, held);
  return (name, patienceMs = 0) => {
    if (!held.has(name)) {
      const trying = how(name, patienceMs).catch(() => false);
      held.set(name, trying);
      trying.then((mine) => mine || held.delete(name));
    }
    return held.get(name);
  };
}

const locked = (locks) => (name, patienceMs) =>
  new Promise((resolve, reject) => {
    const how = patienceMs ? { signal: AbortSignal.timeout(patienceMs) } : { ifAvailable: true };
    const hold = (lock) => {
      resolve(lock !== null);
      return lock && new Promise(() => {}); // the browser lets go of it when the page has gone
    };
    locks.request(name, how, hold).catch(reject);
  });

/** Only http of another computer has no locks. A page that is frozen does not answer. */
function asked(channel, held) {
  const asking = new Map();
  const page = Math.random();
  channel.onmessage = ({ data: { name, from, to } }) => {
    if (to === page) asking.get(name)?.();
    else if (to !== undefined || !held.has(name)) return;
    else if (asking.has(name) && page > from) asking.get(name)(); // of two that ask at once, one gets it
    else channel.postMessage({ name, from: page, to: from });
  };
  return (name) =>
    new Promise((resolve) => {
      const done = (mine) => {
        asking.delete(name);
        resolve(mine);
      };
      asking.set(name, () => done(false));
      setTimeout(done, ANSWER_MS, true);
      channel.postMessage({ name, from: page });
    });
}
