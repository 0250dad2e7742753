// Utterances as subtitles: two lines at a time, timed by their share of the text.

import { broken, characters } from "../transcript/reading.js";

const LINES = 2;

/** SRT of utterances `{text, start, end}`, in seconds. */
export function srt(utterances) {
  const cues = utterances.filter((one) => one.text && Number.isFinite(one.start)).flatMap(cuesOf);
  return cues.map((one, i) => `${i + 1}\n${time(one.start)} --> ${time(one.end)}\n${one.text}\n`).join("\n");
}

function cuesOf({ text, start, end }) {
  const lines = broken(text);
  const pairs = lines.flatMap((_, i) => (i % LINES ? [] : [lines.slice(i, i + LINES).join("\n")]));
  const sizes = pairs.map(characters);
  const all = sizes.reduce((sum, one) => sum + one, 0);
  const length = Math.max(0.1 * pairs.length, (end ?? start) - start);
  let at = start;
  return pairs.map((pair, i) => {
    const from = at;
    at += (length * sizes[i]) / all;
    return { text: pair, start: from, end: at };
  });
}

function time(seconds) {
  const ms = Math.max(0, Math.round(seconds * 1000));
  const two = (n) => String(Math.floor(n)).padStart(2, "0");
  return `${two(ms / 3_600_000)}:${two((ms / 60_000) % 60)}:${two((ms / 1000) % 60)},${String(ms % 1000).padStart(3, "0")}`;
}
