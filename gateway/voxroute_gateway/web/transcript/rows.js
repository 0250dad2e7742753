// What the list of a transcript shows: segments, and stretches in which speech has no text.

import { needsTimes, needsTranslation } from "./segments.js";

const MOST_CHANGED = 50;
const REASONS = {
  NO_TEXT: "Speech without text",
  DOUBTFUL: "Only doubtful text",
};
const FLAGS = {
  REPETITION: "repeats itself",
  LOW_CONFIDENCE: "unsure",
  NO_SPEECH: "probably silence",
  HALLUCINATION: "probably invented",
  LANGUAGE_SWITCH: "another language?",
  WRONG_SCRIPT: "wrong script",
  INCOMPLETE: "something missing?",
};
const DOUBTED = { SUSPECT: "doubtful translation", TRUNCATED: "cut off", FAILED: "not translated" };

export const reasonOf = (gap) => REASONS[gap.reason] ?? "Not transcribed";
export const flagName = (flag) => FLAGS[flag] ?? flag.toLowerCase().replaceAll("_", " ");

/** What is doubtful about a translation, unless a person has written it. */
const doubted = (segment, language) => {
  const one = language ? segment.translations?.[language] : undefined;
  return one && !one.edited ? DOUBTED[one.status] : undefined;
};

/** What is doubtful about a segment, in words. */
export function doubts(segment, language = "") {
  const found = (segment.flags ?? []).map(flagName);
  const status = doubted(segment, language);
  return status ? [...found, status] : found;
}

const isDoubtful = (segment, language) => segment.flags?.length > 0 || doubted(segment, language) !== undefined;

/** The rows, `{key, index, segment}` or `{key, gap}`. `filter` is "all", "doubtful", "gaps", "edited",
 * "stale" or "conflicts"; `search` is a text that has to be in a segment. The row `written` is there
 * whatever it has become by what is written in it. */
export function rowsOf(
  { segments, untranscribed, conflicts },
  { filter = "all", search = "", language = "", written = "" },
) {
  const sought = search.trim().toLocaleLowerCase();
  const told = new Set(conflicts.map((one) => one.id));
  const rows = [];
  let gap = 0;
  const gaps = sought || !["all", "gaps"].includes(filter) ? [] : untranscribed;
  const gapsBefore = (seconds) => {
    while (gap < gaps.length && gaps[gap].start_s < seconds) {
      rows.push({ key: `gap-${gaps[gap].start_s}`, gap: gaps[gap] });
      gap += 1;
    }
  };
  segments.forEach((segment, index) => {
    gapsBefore(segment.start_s);
    if (
      segment.id === written ||
      ((filter === "all" ||
        (filter === "doubtful" && isDoubtful(segment, language)) ||
        (filter === "edited" && segment.edited) ||
        (filter === "stale" && segment.translations?.[language]?.stale) ||
        (filter === "conflicts" && told.has(segment.id))) &&
        (!sought ||
          segment.text.toLocaleLowerCase().includes(sought) ||
          (language && segment.translations?.[language]?.text?.toLocaleLowerCase().includes(sought))))
    ) {
      rows.push({ key: segment.id, index, segment });
    }
  });
  gapsBefore(Infinity);
  return rows;
}

/** How many rows each filter has, and how many segments want times or a translation. */
export function countsOf({ segments, untranscribed, conflicts }, language) {
  const found = { doubtful: 0, edited: 0, stale: 0, toTime: 0, toTranslate: 0, gaps: untranscribed.length, conflicts: conflicts.length };
  for (const one of segments) count(found, one, language, 1);
  return found;
}

function count(counts, one, language, n) {
  if (isDoubtful(one, language)) counts.doubtful += n;
  if (one.edited) counts.edited += n;
  if (one.translations?.[language]?.stale) counts.stale += n;
  if (needsTimes(one)) counts.toTime += n;
  if (language && needsTranslation(one, language)) counts.toTranslate += n;
}

/** `{rows, counts, known}`: the rows, how many there are of each kind, and all speakers. With `last`,
 * what it has given before, it looks only at segments that are others now: of thousands, a key changes one. */
export function seenOf(state, how, last) {
  const { segments, untranscribed, conflicts, speakers } = state;
  const steady = last && last.state.untranscribed === untranscribed && last.state.conflicts === conflicts &&
    last.state.speakers === speakers && Object.keys(how).every((name) => how[name] === last.how[name]);
  if (steady && last.state.segments === segments) return last;
  const places = steady ? changedPlaces(last.state.segments, segments) : null;
  if (places === null) {
    const all = speakersOf(state);
    const known = last?.known.join() === all.join() ? last.known : all; // the same list draws no row again
    return { state, how, rows: rowsOf(state, how), counts: countsOf(state, how.language), known };
  }
  const counts = { ...last.counts };
  for (const i of places) {
    count(counts, last.state.segments[i], how.language, -1);
    count(counts, segments[i], how.language, 1);
  }
  const all = how.filter === "all" && !how.search.trim();
  return { state, how, rows: all ? withRows(last.rows, places, segments) : rowsOf(state, how), counts, known: last.known };
}

/** Where two lists differ; null where that is in more than the texts of a few. */
function changedPlaces(before, after) {
  if (before.length !== after.length) return null;
  const found = [];
  for (let i = 0; i < after.length; i += 1) {
    const [was, is] = [before[i], after[i]];
    if (was === is) continue;
    if (found.length === MOST_CHANGED || was.id !== is.id || was.start_s !== is.start_s || was.speaker !== is.speaker) return null;
    found.push(i);
  }
  return found;
}

function withRows(rows, places, segments) {
  const next = rows.slice();
  for (const i of places) {
    let at = i;
    while (next[at].index !== i) at += 1; // behind stretches without text
    next[at] = { ...next[at], segment: segments[i] };
  }
  return next;
}

/** All speakers, those with names and those that segments have. */
export function speakersOf({ segments, speakers }) {
  const found = new Set(Object.keys(speakers));
  for (const { speaker } of segments) if (speaker) found.add(speaker);
  return [...found].sort();
}

/** "SPEAKER_00" as "Speaker 1", where it has no name. */
export function speakerName(speaker, speakers) {
  const named = speakers[speaker];
  if (named) return named;
  const number = /^SPEAKER_(\d+)$/.exec(speaker)?.[1];
  return number ? `Speaker ${Number(number) + 1}` : speaker;
}
