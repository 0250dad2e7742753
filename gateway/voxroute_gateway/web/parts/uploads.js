// Files on their way to become jobs. They go on whichever view is shown.

import { ApiError, call, post } from "../lib/api.js";
import { newId } from "../lib/ids.js";
import { Store } from "../lib/store.js";
import { fingerprint, send } from "../lib/upload.js";

const BEGUN = "voxroute:upload:";
const AGAIN_MS = 3000;

/** Its state: `files`, each `{key, name, size, sent, perSecond, leftS, state, why, job}`; a state is
 * "waiting", "sending", "away", "submitting", "done" or "failed". */
class Uploads extends Store {
  constructor() {
    super({ files: [] });
    this.queue = [];
    this.busy = false;
  }

  /** Takes files; `config` is the job's, without the name of the file. Returns their keys. */
  add(files, config) {
    const added = [...files].map((file) => ({
      key: newId(),
      name: file.name, size: file.size, sent: 0, perSecond: 0, leftS: Infinity, state: "waiting", why: "",
    }));
    this.set({ files: [...this.state.files, ...added] });
    added.forEach((one, i) => this.queue.push({ key: one.key, file: files[i], config, stop: new AbortController() }));
    this.#next();
    return added.map((one) => one.key);
  }

  /** Ends one that is not done; forgets one that is. */
  remove(key) {
    const at = this.queue.findIndex((one) => one.key === key);
    const left = at >= 0 ? this.queue.splice(at, 1)[0] : this.now?.key === key ? this.now : null;
    left?.stop.abort();
    if (left) forget(BEGUN + fingerprint(left.file));
    this.set({ files: this.state.files.filter((one) => one.key !== key) });
  }

  #tell(key, change) {
    this.set({ files: this.state.files.map((one) => (one.key === key ? { ...one, ...change } : one)) });
  }

  async #next() {
    if (this.busy || !this.queue.length) return;
    this.busy = true;
    this.now = this.queue.shift();
    addEventListener("beforeunload", warn);
    try {
      await this.#send(this.now);
    } catch (error) {
      if (error.name !== "AbortError") this.#tell(this.now.key, { state: "failed", why: error.message });
    }
    removeEventListener("beforeunload", warn);
    this.now = null;
    this.busy = false;
    this.#next();
  }

  async #send({ key, file, config, stop }) {
    const place = BEGUN + fingerprint(file);
    for (;;) {
      const upload = await send(file, {
        known: localStorage.getItem(place) ?? "",
        began: (id) => keep(place, id),
        signal: stop.signal,
        tell: ({ waiting, why, ...rest }) =>
          this.#tell(key, { ...rest, state: waiting ? "away" : "sending", why: why ?? "" }),
      });
      this.#tell(key, { state: "submitting", sent: file.size });
      const told = await this.#submit(key, { job: { ...config, upload_name: file.name }, upload_id: upload }, stop);
      localStorage.removeItem(place);
      if (told === null) continue; // the gateway has forgotten it
      this.#tell(key, { state: "done", job: told.job });
      return;
    }
  }

  /** The answer; null where the upload is gone. The upload's id is the key: a repeat makes no second job. */
  async #submit(key, asked, stop) {
    for (;;) {
      try {
        return await post("/api/jobs", asked, { signal: stop.signal });
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        if (error.code === "upload_not_found") return null;
        if (!error.passes && error.status !== 401) throw error;
        this.#tell(key, { state: "away", why: error.message });
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS));
        stop.signal.throwIfAborted();
      }
    }
  }
}

function keep(place, id) {
  try {
    localStorage.setItem(place, id);
  } catch {
    // then a reload begins it again
  }
}

/** Frees the place that an upload has at the gateway. */
function forget(place) {
  const id = localStorage.getItem(place);
  if (!id) return;
  localStorage.removeItem(place);
  // the gateway forgets it by itself where this fails, only later
  call("DELETE", `/api/uploads/${encodeURIComponent(id)}`, {}).catch(() => {});
}

function warn(event) {
  event.preventDefault();
}

export const uploads = new Uploads();
