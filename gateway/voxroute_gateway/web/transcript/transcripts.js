// A job's transcript at the gateway.

import { call, linesOf } from "../lib/api.js";

const texts = new WeakMap();

/** What desk.js works with. */
export function transcriptOf(jobId) {
  const path = `/api/jobs/${encodeURIComponent(jobId)}`;
  return {
    read: async (first) => {
      const whole = ({ head, items }) => ({ ...head, segments: items });
      return whole(await linesOf(`${path}/transcript`, first && ((part) => first(whole(part)))));
    },
    write: (base, segments, speakers, before) =>
      call("PUT", `${path}/transcript`, { json: body(base, segments, speakers, before) }),
    act: (name, json) => call("POST", `${path}/${name}`, { json }),
    exported: (format, language) => {
      const query = new URLSearchParams({ format });
      if (language) query.set("language", language);
      return `${path}/export?${query}`;
    },
    media: `${path}/media`,
    sound: `${path}/sound`,
  };
}

/** The body of a PUT. What is long is sent for changed segments alone: words and translations that are
 * not sent stay; and each segment's text is made once, so that a film's is there within milliseconds. */
export function body(base, segments, speakers, before) {
  const old = new Set(before.segments);
  const list = segments.map((one) => {
    if (!old.has(one)) return JSON.stringify(sent(one, true));
    let text = texts.get(one);
    if (text === undefined) {
      text = JSON.stringify(sent(one, false));
      texts.set(one, text);
    }
    return text;
  });
  return `{"base_revision":${base},"speakers":${JSON.stringify(speakers)},"segments":[${list.join(",")}]}`;
}

function sent(segment, whole) {
  const { id, start_s, end_s, text, language, speaker } = segment;
  const found = { id, start_s, end_s, text, language, speaker };
  if (!whole) return found;
  const translations = {};
  for (const [tag, { text: told, status, stale }] of Object.entries(segment.translations ?? {})) {
    translations[tag] = { text: told, status, stale: Boolean(stale) };
  }
  return { ...found, words: (segment.words ?? []).map(({ fitted, ...word }) => word), flags: segment.flags ?? [], translations };
}
