// What goes on in the live view: who is heard, what is written down of it, translated and kept. It is the
// page's own, so that another view takes none of it away.

import { Store } from "../lib/store.js";
import { uploads } from "../parts/uploads.js";
import { Recording } from "./recording.js";
import { listen } from "./sources.js";
import { Speaking } from "./speaking.js";
import { Translating } from "./translating.js";

const KEPT = "voxroute:live";

/** Its state: `spoken` and `targets`, the languages; `asking`, while the browser asks the person; `wrong`, why
 * there is no sound; `saving`, whether the sound is on its way to become a job. */
class Live extends Store {
  constructor() {
    const before = kept();
    super({ spoken: before.spoken ?? [], targets: before.targets ?? [], asking: false, wrong: "", saving: false });
    this.speaking = new Speaking({ kept: before.lines });
    this.translating = new Translating({ kept: before.translations });
    this.recording = new Recording();
    this.run = 0;
    this.speaking.watch(() => this.#follow());
    this.watch(() => this.#follow());
    this.translating.watch(() => this.#keep());
    this.recording.watch(({ unsaved }) => (unsaved ? addEventListener : removeEventListener)("beforeunload", warn));
    uploads.watch(({ files }) => this.#sent(files));
  }

  /** Opens a source of sound, and writes down what is said there. */
  async start(open) {
    const run = (this.run += 1);
    this.set({ asking: true, wrong: "" });
    try {
      const stream = await open();
      const close = await listen(stream, (piece) => this.#heard(piece), () => this.stop());
      if (run !== this.run) {
        close(); // the person has left meanwhile
        return;
      }
      this.close = close;
      this.speaking.start(this.state.spoken);
    } catch (error) {
      this.set({ wrong: error.message });
    } finally {
      this.set({ asking: false });
    }
  }

  stop() {
    this.run += 1;
    this.close?.();
    this.close = null;
    this.speaking.stop();
  }

  #heard(piece) {
    if (["off", "ending"].includes(this.speaking.state.state)) return;
    // its text may be lost where there is no connection for long; the sound is not
    this.recording.add(piece);
    this.speaking.send(piece);
  }

  /** Makes a job of the sound that there is. */
  save() {
    const { file, mark } = this.recording.file(`live-${stamp(new Date())}.wav`);
    const { spoken, targets } = this.state;
    const [key] = uploads.add([file], { source_languages: spoken, target_languages: targets, word_timestamps: true });
    this.sending = { key, mark };
    this.set({ saving: true });
  }

  /** Until its job is made, or the person has stopped it, the sound counts as unsaved. */
  #sent(files) {
    if (!this.sending) return;
    const file = files.find((one) => one.key === this.sending.key);
    if (file && !["done", "failed"].includes(file.state)) return;
    if (file?.state === "done") this.recording.keep(this.sending.mark);
    this.sending = null;
    this.set({ saving: false });
  }

  /** Translates again what could not be. */
  again() {
    this.translating.again();
    this.translate();
  }

  /** Forgets all of it; a file that is on its way goes on. */
  clear() {
    this.sending = null;
    this.set({ saving: false });
    this.recording.clear();
    this.speaking.clear();
    this.translating.clear();
  }

  /** Translates what is not translated yet, after a reload too. */
  translate() {
    this.translating.take(this.speaking.state.lines, this.state.targets, this.state.spoken);
  }

  #follow() {
    const { lines } = this.speaking.state;
    const { spoken, targets } = this.state;
    if (lines === this.lines && spoken === this.spoken && targets === this.targets) return;
    Object.assign(this, { lines, spoken, targets });
    this.translate();
    this.#keep();
  }

  #keep() {
    const { spoken, targets } = this.state;
    const lines = this.speaking.state.lines.map((one) => ({ ...one, done: true }));
    try {
      localStorage.setItem(KEPT, JSON.stringify({ spoken, targets, lines, translations: this.translating.state.of }));
    } catch {
      // no room: it can still be downloaded
    }
  }
}

function warn(event) {
  event.preventDefault();
}

/** "2026-11-27-1405", by the person's clock. */
function stamp(now) {
  const two = (n) => String(n).padStart(2, "0");
  return `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}-${two(now.getHours())}${two(now.getMinutes())}`;
}

function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

export const live = new Live();
