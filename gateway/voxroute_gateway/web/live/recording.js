// The sound that was heard, for a job: raw samples in Blobs, which browsers may put on the disk.

import { Store } from "../lib/store.js";
import { RATE } from "./sources.js";

export const MOST_S = 2 * 3600; // 346 MB
const BYTES_PER_S = RATE * 2;
const TOGETHER_BYTES = 60 * BYTES_PER_S;

/** Its state: `seconds` that are kept, `full` where there is no room for more, and `unsaved`, whether any of it is
 * in no job. */
export class Recording extends Store {
  constructor({ most = MOST_S } = {}) {
    super({ seconds: 0, full: false, unsaved: false });
    this.most = most;
    this.clear();
  }

  clear() {
    Object.assign(this, { blobs: [], pieces: [], loose: 0, bytes: 0, saved: 0 });
    this.#tell();
  }

  /** A piece of sound, an ArrayBuffer. */
  add(piece) {
    if (this.bytes + piece.byteLength > this.most * BYTES_PER_S) {
      if (!this.state.full) this.set({ full: true });
      return;
    }
    this.pieces.push(piece);
    this.bytes += piece.byteLength;
    this.loose += piece.byteLength;
    if (this.loose >= TOGETHER_BYTES) {
      this.blobs.push(new Blob(this.pieces));
      Object.assign(this, { pieces: [], loose: 0 });
    }
    // once a second: who watches is drawn again
    if (!this.state.unsaved || Math.floor(this.bytes / BYTES_PER_S) !== this.state.seconds) this.#tell();
  }

  /** All of it as a WAV, and the `mark` that `keep` takes once that is in a job. */
  file(name) {
    return { file: new File([header(this.bytes), ...this.blobs, ...this.pieces], name, { type: "audio/wav" }), mark: this.bytes };
  }

  /** Tells that the sound up to a mark is in a job. */
  keep(mark) {
    this.saved = Math.max(this.saved, Math.min(mark, this.bytes));
    this.#tell();
  }

  #tell() {
    this.set({
      seconds: Math.floor(this.bytes / BYTES_PER_S),
      full: this.state.full && this.bytes > 0,
      unsaved: this.bytes > this.saved,
    });
  }
}

/** What stands before the samples: mono, 16 bits. */
function header(bytes) {
  const view = new DataView(new ArrayBuffer(44));
  const text = (at, letters) => [...letters].forEach((one, i) => view.setUint8(at + i, one.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 1, true);
  view.setUint32(24, RATE, true);
  view.setUint32(28, BYTES_PER_S, true);
  view.setUint16(32, 2, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, bytes, true);
  return view.buffer;
}
