// What the list of a transcript shows: segments, and stretches in which speech has no text.

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

/** How many rows each filter has. */
export function countsOf({ segments, untranscribed, conflicts }, language) {
  const found = { doubtful: 0, edited: 0, stale: 0, gaps: untranscribed.length, conflicts: conflicts.length };
  for (const one of segments) {
    if (isDoubtful(one, language)) found.doubtful += 1;
    if (one.edited) found.edited += 1;
    if (one.translations?.[language]?.stale) found.stale += 1;
  }
  return found;
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
