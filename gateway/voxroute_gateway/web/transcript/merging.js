// Changes of two people, or of two tabs, put together: nothing that somebody wrote is lost.
//
// What only one side has changed is taken. Where both changed the same thing, theirs stands in the
// transcript and mine is a conflict, which the person settles. A segment that one side has cut, joined
// or removed is one thing with all that came of it: half of a cut beside the whole would be said twice.

import { indexAt } from "./segments.js";

const keys = new WeakMap();

/** A segment as a text by which two are compared, made once. */
function key(segment) {
  let known = keys.get(segment);
  if (known === undefined) {
    known = JSON.stringify(segment);
    keys.set(segment, known);
  }
  return known;
}

/** Whether two segments are the same. */
export function same(a, b) {
  return a === b || (a !== undefined && b !== undefined && key(a) === key(b));
}

/** Whether a person finds no difference: the same texts, times and speakers. */
export function alike(a, b) {
  const [one, other] = [a.segments, b.segments];
  return one.length === other.length && one.every((mine, i) => mine === other[i] || essence(mine) === essence(other[i])) &&
    JSON.stringify(Object.entries(a.speakers).sort()) === JSON.stringify(Object.entries(b.speakers).sort());
}

function essence({ id, text, speaker, start_s, end_s, translations }) {
  const said = Object.entries(translations ?? {}).map(([language, one]) => [language, one.text ?? ""]).sort();
  return JSON.stringify([id, text, speaker ?? "", Math.round(start_s * 1000), Math.round(end_s * 1000), said]);
}

const byId = (segments) => new Map(segments.map((one) => [one.id, one]));

/** What I made of `base`, put into `theirs`: `{segments, speakers, conflicts}`.
 *
 * Each of the three is `{segments, speakers}`. A conflict is `{id, field, mine, theirs, start_s}`, its
 * field "text", "speaker", "times", "translation LANGUAGE", "name SPEAKER", or "passage": segments that
 * were cut, joined or removed, for which `put` has the `ids` of theirs and the `segments` of mine.
 */
export function merge(base, mine, theirs) {
  const old = byId(base.segments);
  const my = byId(mine.segments);
  const conflicts = [];
  const { of, passages } = passagesOf(base.segments, mine.segments, theirs.segments);
  const found = [];
  for (const one of theirs.segments) {
    if (of.has(one.id)) continue;
    const changed = my.get(one.id);
    const before = old.get(one.id);
    if (changed === undefined || same(changed, one)) found.push(changed ?? one); // they added it, or it is the same
    else if (same(changed, before)) found.push(one);
    else if (same(one, before)) found.push(changed);
    else found.push(joined(before ?? { translations: {} }, changed, one, conflicts));
  }
  for (const one of mine.segments) if (!of.has(one.id) && !old.has(one.id)) insert(found, one); // I added it
  for (const passage of passages) for (const one of passed(passage, conflicts)) insert(found, one);
  conflicts.sort((a, b) => a.start_s - b.start_s);
  return { segments: found, speakers: names(base.speakers, mine.speakers, theirs.speakers, conflicts), conflicts };
}

/** What one side cut, joined or removed, each with all that both made of the same stretch:
 * `{base, mine, theirs}` with the segments of each; `of` tells which ids are in one. */
function passagesOf(base, mine, theirs) {
  const parent = new Map();
  const root = (id) => {
    let at = id;
    while (parent.has(at)) at = parent.get(at);
    return at;
  };
  const inOne = (a, b) => {
    const [one, other] = [root(a), root(b)];
    if (one !== other) parent.set(one, other);
  };
  const heads = new Set();
  const [old, my, their] = [base, mine, theirs].map(byId);
  for (const [side, known, others] of [[mine, my, their], [theirs, their, my]]) {
    for (const one of base) {
      if (known.has(one.id)) continue;
      heads.add(one.id); // removed, or joined with what is over it now
      const over = side[indexAt(side, one.start_s)];
      if (over && spans(over, one) && !alikeIn(over, old.get(over.id))) inOne(one.id, over.id);
    }
    for (const one of side) {
      if (old.has(one.id) || others.has(one.id)) continue;
      const under = base[indexAt(base, one.start_s)];
      if (!under || !spans(under, one) || alikeIn(under, known.get(under.id))) continue;
      heads.add(one.id); // cut off from what was there
      inOne(one.id, under.id);
    }
  }
  const groups = new Map();
  for (const id of heads) groups.set(root(id), { base: [], mine: [], theirs: [] });
  const of = new Set();
  for (const [name, segments] of Object.entries({ base, mine, theirs })) {
    for (const one of segments) {
      const group = groups.get(root(one.id));
      if (!group) continue;
      group[name].push(one);
      of.add(one.id);
    }
  }
  return { of, passages: [...groups.values()] };
}

const spans = (long, one) => long.end_s > one.start_s || long.end_s >= one.end_s;

/** Whether it has the same text and times. */
const alikeIn = (a, b) => a !== undefined && b !== undefined && a.text === b.text && sameTimes(a, b);
const sameTimes = (a, b) => Math.abs(a.start_s - b.start_s) < 0.001 && Math.abs(a.end_s - b.end_s) < 0.001;

/** The segments of a passage: of the side that changed it; of theirs where both did, and mine is told. */
function passed({ base, mine, theirs }, conflicts) {
  if (quiet(base, mine)) return withSpeakers(theirs, base, mine);
  if (quiet(base, theirs) || alikeAll(mine, theirs)) return withSpeakers(mine, base, theirs);
  const [one] = theirs.length ? theirs : mine.length ? mine : base;
  conflicts.push({
    id: one.id, field: "passage", mine: said(mine), theirs: said(theirs), start_s: one.start_s,
    put: { ids: theirs.map(({ id }) => id), segments: mine },
  });
  return theirs;
}

const said = (segments) => segments.map((one) => one.text).join(" | ");

const alikeAll = (a, b) => a.length === b.length && a.every((one, i) => one.id === b[i].id && alikeIn(one, b[i]));

/** Whether nobody has cut, joined, moved or written in it; what a service translates again is no writing. */
function quiet(base, side) {
  return alikeAll(base, side) && base.every((before, i) =>
    Object.entries(side[i].translations ?? {}).every(([language, { text, edited }]) =>
      !edited || text === before.translations?.[language]?.text));
}

/** The segments with the speakers that the other side has put there. */
function withSpeakers(segments, base, other) {
  let next = segments;
  base.forEach((before) => {
    const speaker = other.find((one) => one.id === before.id)?.speaker ?? before.speaker;
    if (speaker === before.speaker) return;
    next = next.map((one) => {
      const inIt = one.speaker === before.speaker && one.start_s >= before.start_s && one.start_s < before.end_s;
      return inIt ? { ...one, speaker } : one;
    });
  });
  return next;
}

/** One segment of which both changed something. */
function joined(before, mine, theirs, conflicts) {
  const next = { ...theirs };
  const take = (field, mineIs, before_, theirsIs, put) => {
    if (mineIs === before_ || mineIs === theirsIs) return;
    if (theirsIs === before_) put();
    else conflicts.push({ id: theirs.id, field, mine: mineIs, theirs: theirsIs, start_s: theirs.start_s });
  };
  take("text", mine.text, before.text, theirs.text, () => {
    Object.assign(next, { text: mine.text, words: mine.words, edited: mine.edited });
  });
  take("speaker", mine.speaker, before.speaker, theirs.speaker, () => {
    next.speaker = mine.speaker;
  });
  const times = (one) => (one.start_s === undefined ? undefined : `${one.start_s} ${one.end_s}`);
  take("times", times(mine), times(before), times(theirs), () => {
    Object.assign(next, { start_s: mine.start_s, end_s: mine.end_s });
  });
  const translations = { ...theirs.translations };
  for (const [language, one] of Object.entries(mine.translations ?? {})) {
    const was = before.translations?.[language]?.text;
    const is = theirs.translations?.[language];
    take(`translation ${language}`, one.text, was, is?.text, () => {
      translations[language] = one;
    });
    const stale = Boolean(is?.stale || (one.stale && next.text !== theirs.text));
    if (translations[language] === is && is && stale !== Boolean(is.stale)) translations[language] = { ...is, stale };
  }
  next.translations = translations;
  return next;
}

function insert(segments, one) {
  segments.splice(indexAt(segments, one.start_s) + 1, 0, one);
}

function names(base = {}, mine = {}, theirs = {}, conflicts) {
  const next = { ...theirs };
  for (const [speaker, name] of Object.entries(mine)) {
    if (name === base[speaker] || name === theirs[speaker]) continue;
    if (theirs[speaker] === base[speaker]) next[speaker] = name;
    else conflicts.push({ id: "", field: `name ${speaker}`, mine: name, theirs: theirs[speaker] ?? "", start_s: 0 });
  }
  for (const speaker of Object.keys(base)) {
    if (!(speaker in mine) && theirs[speaker] === base[speaker]) delete next[speaker];
  }
  return next;
}

/** What of `now` differs from `base`, small enough to be kept in the browser: `{base, mine}`, of which
 * `merge` makes the same as of the two whole ones, whatever revisions the service still has. */
export function difference(base, now) {
  const [old, my] = [byId(base.segments), byId(now.segments)];
  const kept = (segments, other) => {
    const changed = segments.map((one) => other.get(one.id) !== one);
    // who speaks at the same time as a changed one is not part of it: that has to be seen
    const beside = (one, i) => changed[i] && Math.min(one.end_s, segments[i].end_s) > Math.max(one.start_s, segments[i].start_s);
    return segments.filter((one, i) => changed[i] || beside(one, i - 1) || beside(one, i + 1));
  };
  const was = kept(base.segments, my);
  const ids = new Set(was.map((one) => one.id));
  const is = now.segments.filter((one) => ids.has(one.id) || old.get(one.id) !== one);
  return { base: { segments: was, speakers: base.speakers }, mine: { segments: is, speakers: now.speakers } };
}
