// What can be read in its time: the limits that subtitles are cut by (docs/subtitles.md).

const LINE = 42;
const WIDE_LINE = 16;
const PER_SECOND = { zh: 9, yue: 9, ja: 4, ko: 12 };
const USUAL_PER_SECOND = 17;
const WIDE = /[\u1100-\u11ff\u2e80-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uff60]/u;
const WITHOUT_BLANKS = /[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]/u;

let clusters = null;

/** How many characters a person sees. */
export function characters(text) {
  // plain text needs no segmenter, which is slow
  if (/^[\x20-\u02ff\u0370-\u058f]*$/.test(text)) return text.length;
  clusters ??= new Intl.Segmenter(undefined, { granularity: "grapheme" });
  let n = 0;
  for (const _ of clusters.segment(text)) n += 1;
  return n;
}

/** What stands between words of such a text: a blank or nothing. */
export function joiner(text) {
  return WITHOUT_BLANKS.test(text) && !/\s/.test(text.trim()) ? "" : " ";
}

/** Characters a second, and whether that is more than can be read in the language. */
export function speed(text, seconds, language) {
  const rate = seconds > 0 ? characters(text) / seconds : 0;
  const most = PER_SECOND[(language ?? "").split("-")[0]] ?? USUAL_PER_SECOND;
  return { rate, most, tooFast: rate > most + 0.05 };
}

/** How many lines of a subtitle the text takes, and the longest of them. */
export function lines(text) {
  const { most, width } = limits(text);
  const found = broken(text);
  return { count: found.length, longest: Math.ceil(Math.max(0, ...found.map(width))), most };
}

function limits(text) {
  const wide = WIDE.test(text);
  return { most: wide ? WIDE_LINE : LINE, width: wide ? wideWidth : characters };
}

/** The text as lines of a subtitle. */
export function broken(text) {
  const { most, width } = limits(text);
  const between = joiner(text);
  const pieces = between === "" ? [...text] : text.split(/\s+/).filter(Boolean);
  const found = [];
  let line = "";
  for (const piece of pieces) {
    const longer = line ? line + between + piece : piece;
    if (line && width(longer) > most) {
      found.push(line);
      line = piece;
    } else line = longer;
  }
  if (line) found.push(line);
  return found;
}

function wideWidth(text) {
  let n = 0;
  for (const one of text) n += WIDE.test(one) ? 1 : 0.5;
  return n;
}
