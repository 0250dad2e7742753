// Requests of the gateway: JSON in, JSON out, and failures as a sentence for a person.

import { sayingOf } from "./saying.js";

/** What went wrong; `status` is 0 where the gateway was not reached. */
export class ApiError extends Error {
  constructor(status, message, { code = "", param = "", retryAfterS = 0, body = null } = {}) {
    super(message);
    Object.assign(this, { status, code, param, retryAfterS, body });
  }

  /** Whether the same may go well later. */
  get passes() {
    return this.status === 0 || [408, 429, 500, 502, 503, 504].includes(this.status);
  }
}

const AWAY = "The gateway cannot be reached.";
const signedOut = new Set();

/** Calls `listener` each time that a request needs somebody to sign in; returns what ends that. */
export function onSignedOut(listener) {
  signedOut.add(listener);
  return () => signedOut.delete(listener);
}

/** Tells that a request needs somebody to sign in. */
export function tellSignedOut() {
  for (const listener of signedOut) listener();
}

const BROKEN = "The gateway's answer was broken off."; // its headers went ahead, and then its connection broke

/** One request; its answer's JSON, or null where there is none. Throws ApiError. */
export async function call(method, path, options) {
  const answer = await answered(method, path, options);
  if (answer.status === 204) return null;
  try {
    return JSON.parse(await answer.text());
  } catch {
    throw new ApiError(0, BROKEN);
  }
}

/** An answer whose list, its last member, has a line for each item: `{head, items}`. `first` is called
 * with the same of what has come by then, once there is an item. Throws ApiError. */
export async function linesOf(path, first) {
  const answer = await answered("GET", path);
  const read = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const items = [];
  let head = null;
  let text = "";
  try {
    for (;;) {
      const { done, value } = await read.read();
      text += value ?? "";
      const whole = text.lastIndexOf("\n");
      if (whole >= 0) {
        let lines = text.slice(0, whole);
        text = text.slice(whole + 1);
        if (head === null) {
          const end = lines.indexOf("\n");
          head = JSON.parse(`${end < 0 ? lines : lines.slice(0, end)}]}`);
          lines = end < 0 ? "" : lines.slice(end + 1);
        }
        if (lines) for (const one of JSON.parse(`[${lines.replace(/,$/, "")}]`)) items.push(one);
        if (first && items.length) {
          first({ head, items: [...items] });
          first = null;
        }
      }
      if (done) break;
    }
  } catch {
    throw new ApiError(0, BROKEN);
  }
  if (text !== "]}") throw new ApiError(0, BROKEN);
  return { head, items };
}

/** What a request is answered. Throws ApiError. */
async function answered(method, path, { json, body, headers = {}, signal } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: json === undefined ? headers : { "Content-Type": "application/json", ...headers },
      body: json === undefined ? body : typeof json === "string" ? json : JSON.stringify(json),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, AWAY);
  }
  if (!answer.ok) throw await failure(answer);
  return answer;
}

/** What an answer that is none says. */
export async function failure(answer) {
  const text = await answer.text().catch(() => "");
  const after = Number(answer.headers.get("Retry-After")) || 0;
  if (answer.status === 401) tellSignedOut();
  return failureOf(answer.status, text, after);
}

/** The same by status and body. */
export function failureOf(status, text, retryAfterS = 0) {
  if (status === 0) return new ApiError(0, AWAY);
  let body = null;
  try {
    body = JSON.parse(text);
  } catch {
    // a proxy's own page, for example
  }
  const told = body?.error;
  const said = sayingOf(status, typeof told === "string" ? { message: told } : (told ?? {}));
  return new ApiError(status, sentence(said || `The gateway answered ${status}.`), {
    code: told?.code ?? "",
    param: told?.param ?? "",
    retryAfterS,
    body,
  });
}

/** What a service says, with a capital and a full stop. */
export function sentence(text) {
  const begun = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}

export const get = (path, options) => call("GET", path, options);
export const post = (path, json, options) => call("POST", path, { ...options, json });
