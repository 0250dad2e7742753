// Settled utterances into other languages: each language in its own line, in order. A slow or absent
// translator delays that language alone.

import { post } from "../lib/api.js";
import { Store } from "../lib/store.js";

const TOGETHER = 20; // utterances that wait for a slow translator go to it in one request
const PATIENCE_MS = 60_000;

/** Its state: `of`, what there is of each utterance by its id and a language: `{text}`, `{why}` where it
 * could not be translated, `{}` while it is waited for. */
export class Translating extends Store {
  constructor({ ask = translate, kept = {} } = {}) {
    super({ of: finished(kept) });
    this.ask = ask;
    this.waiting = new Map();
    this.busy = new Set();
    this.cleared = 0;
  }

  /** Translates what is settled and not translated yet. `spoken` are the languages that may be spoken. */
  take(lines, targets, spoken) {
    const { of } = this.state;
    for (const target of targets) {
      const fresh = lines.filter((one) => one.done && one.text && !of[one.id]?.[target]);
      const asked = fresh.map(({ id, text, language }) =>
        ({ id, text, source: language || (spoken.length === 1 ? spoken[0] : "auto") }));
      if (!asked.length) continue;
      this.waiting.set(target, [...(this.waiting.get(target) ?? []), ...asked]);
      this.#tell(target, asked, () => ({}));
      this.#run(target);
    }
  }

  /** Forgets what has failed, so that `take` tries it again. */
  again() {
    this.set(({ of }) => ({ of: without(of, (one) => one.why) }));
  }

  clear() {
    this.cleared += 1;
    this.waiting.clear();
    this.set({ of: {} });
  }

  async #run(target) {
    if (this.busy.has(target)) return;
    this.busy.add(target);
    while (this.waiting.get(target)?.length) await this.#translate(target, this.#next(target));
    this.busy.delete(target);
  }

  #next(target) {
    const queue = this.waiting.get(target);
    const other = queue.findIndex((one) => one.source !== queue[0].source);
    return queue.splice(0, Math.min(TOGETHER, other < 0 ? queue.length : other));
  }

  async #translate(target, asked) {
    const { source } = asked[0];
    const { cleared } = this;
    if (source === target) {
      this.#tell(target, asked, ({ text }) => ({ text, same: true }));
      return;
    }
    try {
      const texts = await this.ask(asked.map((one) => one.text), source, target);
      if (cleared === this.cleared) this.#tell(target, asked, (_, i) => ({ text: texts[i] }));
    } catch (error) {
      if (cleared !== this.cleared) return;
      if (asked.length > 1 && !error.passes) {
        // one of them is to blame
        for (const one of asked) await this.#translate(target, [one]);
      } else this.#tell(target, asked, () => ({ why: error.message }));
    }
  }

  #tell(target, asked, what) {
    const of = { ...this.state.of };
    asked.forEach((one, i) => {
      of[one.id] = { ...of[one.id], [target]: what(one, i) };
    });
    this.set({ of });
  }
}

/** What a reload keeps: what was waited for, or has failed, is asked for again. */
function finished(of) {
  return without(of, (one) => typeof one.text !== "string");
}

function without(of, leave) {
  const left = Object.entries(of).map(([id, known]) =>
    [id, Object.fromEntries(Object.entries(known).filter(([, one]) => !leave(one)))]);
  return Object.fromEntries(left);
}

async function translate(texts, source, target) {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), PATIENCE_MS);
  try {
    const answer = await post("/translate", { q: texts, source, target, format: "text" }, { signal: stop.signal });
    return answer.translatedText;
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    throw Object.assign(new Error("No translation came within a minute."), { passes: true });
  } finally {
    clearTimeout(timer);
  }
}
