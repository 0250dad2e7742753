// What can be done to the segments of a transcript. Nothing is changed in place: a list and a segment
// that are the same object are the same text.

import { joiner } from "./reading.js";

// as the job service takes them
const MOST_LETTERS = 5000; // of a text
const LONGEST_WORD = 256; // letters
const MOST_WORDS = 1000; // of a segment
const SHORTEST_S = 0.05; // a part of a segment that is cut
const CONTROLS = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g;

/** A text as a file can hold it: no half of a character, nothing that no screen shows. */
function clean(text) {
  return text.toWellFormed().replace(CONTROLS, "");
}

/** The list with another segment at `index`. */
export function replaced(segments, index, segment) {
  const next = segments.slice();
  next[index] = segment;
  return next;
}

/** The list with other segments in place of those with some ids, each where its time is. */
export function withPassage(segments, { ids, segments: others }) {
  const gone = new Set([...ids, ...others.map((one) => one.id)]);
  const next = segments.filter((one) => !gone.has(one.id));
  for (const one of others) next.splice(indexAt(next, one.start_s) + 1, 0, one);
  return next;
}

/** Another text; what was translated of the old one is stale, and words keep their times. */
export function withText(segment, written) {
  const text = clean(written);
  if (text === segment.text) return segment;
  return {
    ...segment,
    text,
    edited: true,
    words: fitted(segment.words ?? [], text, segment.start_s, segment.end_s),
    translations: stale(segment.translations),
  };
}

function stale(translations) {
  const next = {};
  for (const [language, one] of Object.entries(translations ?? {})) next[language] = { ...one, stale: true };
  return next;
}

/** Another translation. */
export function withTranslation(segment, language, written) {
  const text = clean(written);
  const before = segment.translations?.[language] ?? { status: "OK" };
  if (before.text === text) return segment;
  const translations = { ...segment.translations, [language]: { ...before, text, stale: false, edited: true } };
  return { ...segment, translations };
}

/** Words for a new text: those that stay keep their times, those between them share what is left.
 *
 * Where the text is not its words with blanks between them (Chinese, Thai), there are none until the
 * text is timed again.
 */
export function fitted(words, text, startS, endS) {
  const texts = text.split(/\s+/).filter(Boolean);
  const old = words.map((word) => word.text.trim());
  if (!words.length || !texts.length) return [];
  if (texts.length > MOST_WORDS || texts.some((one) => one.length > LONGEST_WORD)) return [];
  if (joiner(text) === "") return old.join("") === text ? words : [];
  let head = 0;
  while (head < old.length && head < texts.length && old[head] === texts[head]) head += 1;
  let tail = 0;
  const most = Math.min(old.length, texts.length) - head;
  while (tail < most && old[old.length - 1 - tail] === texts[texts.length - 1 - tail]) tail += 1;
  const gone = words.slice(head, words.length - tail);
  const come = texts.slice(head, texts.length - tail);
  const kept = words.slice(words.length - tail);
  let middle;
  if (gone.length === come.length) {
    middle = come.map((one, i) => ({ start_s: gone[i].start_s, end_s: gone[i].end_s, text: one, fitted: true }));
  } else {
    const from = gone[0]?.start_s ?? words[head - 1]?.end_s ?? startS;
    const to = Math.max(from, gone.at(-1)?.end_s ?? kept[0]?.start_s ?? endS);
    middle = shared(come, from, to);
  }
  return [...words.slice(0, head), ...middle, ...kept];
}

function shared(texts, from, to) {
  const letters = texts.reduce((sum, one) => sum + one.length, 0) || 1;
  let at = from;
  return texts.map((text) => {
    const begin = at;
    at += ((to - from) * text.length) / letters;
    return { start_s: round(begin), end_s: round(at), text, fitted: true };
  });
}

function round(seconds) {
  return Math.round(seconds * 1000) / 1000;
}

/** The list with the segment cut at a place of its text; the same list where nothing is on one side. */
export function split(segments, index, offset, newId) {
  const whole = segments[index];
  const texts = [whole.text.slice(0, offset), whole.text.slice(offset)].map((text) => clean(text).trim());
  if (!texts[0] || !texts[1]) return segments;
  const words = whole.words ?? [];
  const inFirst = texts[0].split(/\s+/).length;
  const cut = joiner(whole.text) === "" ? -1 : inFirst < words.length ? inFirst : -1;
  const share = texts[0].length / (texts[0].length + texts[1].length);
  const between = round(whole.start_s + (whole.end_s - whole.start_s) * share);
  const end = cut < 0 ? between : words[cut - 1].end_s;
  const start = cut < 0 ? between : Math.max(end, words[cut].start_s);
  // both have to last: words of an engine may have no length
  const last = end - whole.start_s > SHORTEST_S && whole.end_s - start > SHORTEST_S;
  const at = last ? [end, start] : [between, between];
  const translations = [{}, {}];
  for (const [language, one] of Object.entries(whole.translations ?? {})) {
    const parts = divided(one.text ?? "", share);
    parts.forEach((text, i) => {
      translations[i][language] = { ...one, text, stale: true, edited: false };
    });
  }
  const first = {
    ...whole, text: texts[0], end_s: at[0], edited: true,
    words: cut < 0 ? [] : words.slice(0, cut), translations: translations[0],
  };
  const second = {
    ...whole, id: newId, text: texts[1], start_s: at[1], edited: true,
    words: cut < 0 ? [] : words.slice(cut), translations: translations[1],
  };
  return [...segments.slice(0, index), first, second, ...segments.slice(index + 1)];
}

/** A text in two, at the blank that is nearest to a share of it. */
function divided(text, share) {
  const target = text.length * share;
  let best = -1;
  for (let at = text.indexOf(" "); at >= 0; at = text.indexOf(" ", at + 1)) {
    if (best < 0 || Math.abs(at - target) < Math.abs(best - target)) best = at;
  }
  return best < 0 ? [text, ""] : [text.slice(0, best).trim(), text.slice(best).trim()];
}

/** The list with a segment at other times, still between its neighbours' beginnings; a text why not.
 *
 * Words keep their times as far as they are inside. */
export function timed(segments, index, startS, endS, lengthS = Infinity) {
  const [start, end] = [round(startS), round(endS)];
  const one = segments[index];
  if (!(start >= 0)) return "That is before the recording begins.";
  if (end > Math.max(lengthS, one.end_s) + 0.0005) return "That is after the recording ends.";
  if (!(end - start >= SHORTEST_S)) return "It has to end after it begins.";
  if (index > 0 && start < segments[index - 1].start_s) return "The segment before begins later than that.";
  if (segments[index + 1] && start > segments[index + 1].start_s) return "The next segment begins earlier than that.";
  if (start === one.start_s && end === one.end_s) return segments;
  const inside = (seconds) => Math.min(end, Math.max(start, seconds));
  const words = (one.words ?? []).map((word) => {
    const [from, to] = [inside(word.start_s), inside(word.end_s)];
    return from === word.start_s && to === word.end_s ? word : { ...word, start_s: from, end_s: to, fitted: true };
  });
  return replaced(segments, index, { ...one, start_s: start, end_s: end, words, edited: true });
}

/** The list with a segment and the one after it as one; the same list where that were too long. */
export function merged(segments, index) {
  const [first, second] = [segments[index], segments[index + 1]];
  if (!first || !second) return segments;
  const text = clean(together(first.text, second.text));
  const words = [...(first.words ?? []), ...(second.words ?? [])];
  if (text.length > MOST_LETTERS || words.length > MOST_WORDS) return segments;
  const translations = {};
  for (const language of Object.keys({ ...first.translations, ...second.translations })) {
    const parts = [first, second].map((one) => one.translations?.[language]);
    translations[language] = {
      ...(parts[0] ?? parts[1]),
      text: together(parts[0]?.text ?? "", parts[1]?.text ?? ""),
      stale: parts.some((one) => !one || one.stale),
      edited: parts.every((one) => one?.edited),
    };
  }
  const whole = {
    ...first,
    text,
    end_s: Math.max(first.end_s, second.end_s),
    // words of one part alone would be times for half of the text
    words: first.words?.length && second.words?.length ? words : [],
    flags: [...new Set([...(first.flags ?? []), ...(second.flags ?? [])])],
    edited: true,
    translations,
  };
  return [...segments.slice(0, index), whole, ...segments.slice(index + 2)];
}

function together(a, b) {
  return a && b ? `${a}${joiner(a + b)}${b}` : a || b;
}

/** Whether its words have no times of their own since somebody has written in it. */
export function needsTimes(segment) {
  return Boolean(segment.edited && (!segment.words?.length || segment.words.some((word) => word.fitted)));
}

/** Whether its translation is not of the text that stands there now. */
export function needsTranslation(segment, language) {
  const one = segment.translations?.[language];
  return Boolean(segment.text) && (!one || Boolean(one.stale));
}

/** What is said of a segment in a language; "" where what it was translated from is gone. */
export function translationOf(segment, language) {
  const one = segment?.translations?.[language];
  return one && (segment.text || !one.stale) ? (one.text ?? "") : "";
}

/** The last segment that begins by then; -1 before the first. */
export function indexAt(segments, seconds) {
  let low = 0;
  let high = segments.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (segments[middle].start_s <= seconds) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The word that is spoken then; -1 for none. */
export function wordAt(segment, seconds) {
  const words = segment.words ?? [];
  for (let i = words.length - 1; i >= 0; i -= 1) if (words[i].start_s <= seconds + 0.01) return i;
  return -1;
}

/** Begin and end of each word in the text, `[from, to]`; null for words that are not found in it. */
export function wordPlaces(segment) {
  const places = [];
  let from = 0;
  for (const word of segment.words ?? []) {
    const text = word.text.trim();
    const at = text ? segment.text.indexOf(text, from) : -1;
    places.push(at < 0 ? null : [at, at + text.length]);
    if (at >= 0) from = at + text.length;
  }
  return places;
}
