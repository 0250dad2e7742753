// A file to the gateway by tus: goes on where a connection was lost, also after a reload of the page.

import { ApiError, call, failureOf } from "./api.js";

const BYTES = "application/offset+octet-stream";
const WAITS_MS = [500, 1000, 2000, 4000, 8000, 15_000];
const SPEED_OVER_MS = 4000;

/** What tells a file from others, so that it can be recognised when it is chosen again. */
export function fingerprint(file) {
  return `${file.name}:${file.size}:${file.lastModified}`;
}

/** Speed and time left, by what has come in the last seconds. */
export class Pace {
  constructor(now = () => performance.now()) {
    this.now = now;
    this.points = [];
  }

  /** Bytes that are there now; returns `{perSecond, leftS}`. */
  tell(bytes, total) {
    const at = this.now();
    this.points.push({ at, bytes });
    while (this.points.length > 2 && at - this.points[0].at > SPEED_OVER_MS) this.points.shift();
    const [first] = this.points;
    const seconds = (at - first.at) / 1000;
    const perSecond = seconds > 0 ? Math.max(0, bytes - first.bytes) / seconds : 0;
    return { perSecond, leftS: perSecond > 0 ? (total - bytes) / perSecond : Infinity };
  }

  /** Forgets what was: the connection was lost. */
  again() {
    this.points = [];
  }
}

/**
 * Sends a file; `tell` gets `{sent, perSecond, leftS, waiting}`. Returns the upload's id. `known` is an
 * upload that may have begun; `began` is told the id of a new one. Throws ApiError where a repeat is of
 * no use, and AbortError.
 */
export async function send(file, { tell, known = "", began = () => {}, signal, waits = WAITS_MS, sendBytes = put }) {
  const pace = new Pace();
  let id = known;
  let failures = 0;
  for (;;) {
    try {
      let offset = id ? await offsetOf(id, file.size, signal) : -1;
      if (offset < 0) {
        const made = await call("POST", "/api/uploads", { headers: { "Upload-Length": String(file.size) }, signal });
        id = made.upload_id;
        offset = 0;
        began(id);
      }
      pace.again();
      tell({ sent: offset, ...pace.tell(offset, file.size), waiting: false });
      if (offset < file.size) {
        await sendBytes(id, file, offset, signal, (sent) => {
          failures = 0;
          tell({ sent, ...pace.tell(sent, file.size), waiting: false });
        });
      }
      return id;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const again = error.passes || error.status === 401 || error.status === 404 || error.status === 409;
      if (!again) throw error;
      // a gateway that was killed has forgotten it
      if (error.status === 404 && error.code !== "upload_not_found") throw error;
      tell({ waiting: true, why: error.message });
      await pause(Math.max(waits[Math.min(failures, waits.length - 1)], error.retryAfterS * 1000), signal);
      failures += 1;
    }
  }
}

/** How much of it is there; -1 for an upload that is not known, or is of another file. */
async function offsetOf(id, length, signal) {
  try {
    const told = await call("GET", `/api/uploads/${encodeURIComponent(id)}`, { signal });
    return told.length === length ? told.offset : -1;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404 && error.code === "upload_not_found") return -1;
    throw error;
  }
}

/** One PATCH. By XMLHttpRequest, which tells how far it is. */
function put(id, file, offset, signal, tell) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    const end = (act, value) => {
      signal?.removeEventListener("abort", abort);
      act(value);
    };
    request.open("PATCH", `/api/uploads/${encodeURIComponent(id)}`);
    request.setRequestHeader("Content-Type", BYTES);
    request.setRequestHeader("Upload-Offset", String(offset));
    request.setRequestHeader("Tus-Resumable", "1.0.0");
    request.upload.onprogress = (event) => tell(offset + event.loaded);
    request.onload = () => {
      if (request.status === 204) end(resolve);
      else {
        const after = Number(request.getResponseHeader("Retry-After")) || 0;
        end(reject, failureOf(request.status, request.responseText, after));
      }
    };
    request.onerror = () => end(reject, failureOf(0, ""));
    request.onabort = () => end(reject, new DOMException("", "AbortError"));
    signal?.addEventListener("abort", abort);
    request.send(file.slice(offset));
  });
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const wake = () => end(resolve);
    const stop = () => end(reject, new DOMException("", "AbortError"));
    const end = (act, value) => {
      clearTimeout(timer);
      globalThis.removeEventListener?.("online", wake);
      signal?.removeEventListener("abort", stop);
      act(value);
    };
    const timer = setTimeout(wake, ms);
    globalThis.addEventListener?.("online", wake);
    signal?.addEventListener("abort", stop);
  });
}
