// Changes of two people, or of two tabs, put together: nothing that somebody wrote is lost.
//
// What only one side has changed is taken. Where both changed the same thing, theirs stands in the
// transcript and mine is a conflict, which the person settles.

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
 * field "text", "speaker", "times", "removed", or "translation LANGUAGE".
 */
export function merge(base, mine, theirs) {
  const [old, my, their] = [base, mine, theirs].map((one) => byId(one.segments));
  const conflicts = [];
  const found = [];
  for (const one of theirs.segments) {
    const before = old.get(one.id);
    const changed = my.get(one.id);
    if (changed === undefined) {
      if (before === undefined) found.push(one); // they added it
      else if (essence(before) !== essence(one)) {
        // I removed it, they wrote in it; what the service alone adds to a segment is no writing
        found.push(one);
        conflicts.push({ id: one.id, field: "removed", mine: before.text, theirs: one.text, start_s: one.start_s });
      }
      continue;
    }
    if (same(changed, one)) found.push(changed);
    else if (same(changed, before)) found.push(one);
    else if (same(one, before)) found.push(changed);
    else found.push(joined(before ?? { translations: {} }, changed, one, conflicts));
  }
  for (const one of mine.segments) {
    if (their.has(one.id)) continue;
    const before = old.get(one.id);
    if (before === undefined) insert(found, one); // I added it
    else if (!same(before, one)) lost(before, one, found, conflicts); // they removed what I wrote in
  }
  return { segments: found, speakers: names(base.speakers, mine.speakers, theirs.speakers, conflicts), conflicts };
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

/** What I wrote in a segment that they removed: told where its time is now. */
function lost(before, mine, found, conflicts) {
  const at = found.findLast((one) => one.start_s <= mine.start_s) ?? found[0];
  const tell = (field, text, theirs) =>
    conflicts.push({ id: at?.id ?? mine.id, field, mine: text, theirs, start_s: mine.start_s });
  if (mine.text !== before.text) tell("text", mine.text, at?.text ?? "");
  for (const [language, one] of Object.entries(mine.translations ?? {})) {
    const is = at?.translations?.[language]?.text ?? "";
    if (one.text !== before.translations?.[language]?.text) tell(`translation ${language}`, one.text, is);
  }
}

function insert(segments, one) {
  let at = segments.length;
  while (at > 0 && segments[at - 1].start_s > one.start_s) at -= 1;
  segments.splice(at, 0, one);
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
  return {
    base: { segments: base.segments.filter((one) => my.get(one.id) !== one), speakers: base.speakers },
    mine: { segments: now.segments.filter((one) => old.get(one.id) !== one), speakers: now.speakers },
  };
}
