// The transcript beside its recording: what is shown of it, and what keys and buttons do to it.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact-htm.js";
import { newId } from "../lib/ids.js";
import { meant, placeOf } from "../transcript/keys.js";
import { Playing } from "../transcript/playing.js";
import { seenOf } from "../transcript/rows.js";
import { indexAt, merged, needsTimes, needsTranslation, replaced, split, timed, withText, withTranslation } from "../transcript/segments.js";
import { useStore } from "../lib/store.js";
import { count, languageName } from "../lib/words.js";
import { Conflicts } from "./conflicts.js";
import { Exporting } from "./exporting.js";
import { notify, say } from "./notices.js";
import { Player } from "../player/player.js";
import { Speakers } from "./speakers.js";
import { Timeline } from "../player/timeline.js";
import { Tools } from "./tools.js";
import { Transcript } from "./transcript.js";

const BACK_S = 2;
const FAR_S = 10;
const SPEAKER = "SPEAKER_";
const THEIRS = "Somebody else has changed the same since: theirs stays.";

export function Editor({ job, desk, server, title }) {
  const state = useStore(desk);
  const languages = useMemo(() => languagesOf(state), [state.segments.length, state.about]);
  const [language, setLanguage] = useState(() => languages[0] ?? "");
  const [filter, setFilter] = useState("all");
  const [search, setSearch] = useState("");
  const [follow, setFollow] = useState(true);
  const [open, setOpen] = useState("");
  const [busy, setBusy] = useState("");
  const playing = useMemo(() => new Playing(), []);
  const list = useRef(null);

  // looked up when it is drawn: a row that loses the focus goes with the next drawing, not from under a click
  const focused = () => list.current?.wanted?.key ?? document.activeElement?.closest("[data-key]")?.dataset.key;
  const written = filter === "all" && !search ? "" : (focused() ?? "");
  const seen = useRef(null);
  seen.current = seenOf(state, { filter, search, language, written }, seen.current);
  const { rows, counts, known } = seen.current;
  const acts = useMemo(() => actsOf(desk, playing, list), [desk]);

  useEffect(() => {
    const does = {
      toggle: () => playing.toggle(),
      back: () => playing.skip(-BACK_S),
      forward: () => playing.skip(BACK_S),
      farBack: () => playing.skip(-FAR_S),
      farForward: () => playing.skip(FAR_S),
      slower: () => say(`Speed ${playing.faster(-1)}`),
      faster: () => say(`Speed ${playing.faster(1)}`),
      previous: () => list.current.step(-1),
      next: () => list.current.step(1),
      split: () => acts.split(),
      beginHere: () => acts.here("begin"),
      endHere: () => acts.here("end"),
      undo: () => acts.undo(),
      redo: () => acts.redo(),
      save: () => desk.save().catch(() => {}),
    };
    const pressed = (event) => {
      const what = event.defaultPrevented || desk.state.opening ? "" : meant(event, placeOf(event.target));
      if (!what) return;
      event.preventDefault();
      does[what]();
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, [acts]);

  /** Has the service work on segments; what is written meanwhile stays. */
  const work = async (name, said, ids, more = {}) => {
    setBusy(said);
    try {
      await desk.save();
      const told = await server.act(name, { base_revision: desk.base.revision, segment_ids: ids, ...more });
      await desk.catchUp();
      const left = told.left ?? [];
      notify(left.length
        ? `${count(left.length, "segment")} stayed as ${left.length === 1 ? "it was" : "they were"}: ${left[0].message || left[0].reason}`
        : `${said}: ${count(ids.length, "segment")} done.`, left.length ? "bad" : "good");
    } catch (error) {
      notify(error.message, "bad");
    }
    setBusy("");
  };
  const idsOf = (wants) => desk.state.segments.filter(wants).map((one) => one.id);
  const exporting = async () => {
    try {
      await desk.save();
    } catch (error) {
      notify(`What is written here is not saved yet, so that it would be missing: ${error.message}`, "bad");
      return;
    }
    setOpen("export");
  };

  return html`<div class="editor" inert=${state.opening} aria-busy=${state.opening}>
    <section class="left" aria-label="Recording">
      <${Player} playing=${playing} server=${server} desk=${desk} language=${language} title=${title} />
      <${Timeline} playing=${playing} desk=${desk} acts=${acts} />
    </section>
    <section class="right" aria-label="Transcript">
      <${Tools} ...${{ title, state, desk, languages, language, setLanguage, filter, setFilter, search, setSearch, counts, follow, setFollow, busy, acts }}
        retime=${() => work("retime", "Re-time", idsOf(needsTimes))}
        retranslate=${() => work("retranslate", "Re-translate", idsOf((one) => needsTranslation(one, language)), { languages: [language] })}
        speakers=${() => setOpen("speakers")} exporting=${exporting} />
      ${state.conflicts.length > 0 && html`<${Conflicts} state=${state} desk=${desk} show=${(id) => list.current.show(id)} />`}
      <${Transcript} handle=${list} rows=${rows} known=${known} speakers=${state.speakers} language=${language} playing=${playing}
        follow=${follow} acts=${acts} empty=${search || filter !== "all"} />
    </section>
    ${open === "speakers" && html`<${Speakers} desk=${desk} close=${() => setOpen("")} />`}
    ${open === "export" && html`<${Exporting} job=${job} server=${server} desk=${desk} languages=${languages} close=${() => setOpen("")} />`}
  </div>`;
}

/** Languages that it is translated to, and is to be. */
function languagesOf({ segments, about }) {
  const found = new Set(about.target_languages ?? []);
  for (const one of segments.slice(0, 200)) for (const tag of Object.keys(one.translations ?? {})) found.add(tag);
  return [...found].sort((a, b) => languageName(a).localeCompare(languageName(b)));
}

/** What rows and buttons do. The same object all the time, so that rows are drawn for their text alone. */
function actsOf(desk, playing, list) {
  const at = (id) => desk.state.segments.findIndex((one) => one.id === id);
  const update = (id, change, step) => {
    const { segments } = desk.state;
    const index = at(id);
    if (index < 0) return;
    desk.change({ segments: replaced(segments, index, change(segments[index])) }, step);
  };
  const acts = {
    write: (id, language, text) =>
      update(id, (one) => (language ? withTranslation(one, language, text) : withText(one, text)), `${id} ${language}`),
    speaker: (id, speaker) => {
      const known = new Set([...Object.keys(desk.state.speakers), ...desk.state.segments.map((one) => one.speaker)]);
      let number = 0;
      const name = () => SPEAKER + String(number).padStart(2, "0");
      while (speaker === "new" && known.has(name())) number += 1;
      update(id, (one) => ({ ...one, speaker: speaker === "new" ? name() : speaker }));
    },
    /** Other times; why not, or "". `step` is that of the desk. */
    times: (id, start, end, step = "") => {
      const { segments, about } = desk.state;
      const next = timed(segments, at(id), start, end, about.duration_s);
      if (typeof next === "string") return next;
      desk.change({ segments: next }, step);
      return "";
    },
    undo: () => desk.undo() || notify(THEIRS, "bad"),
    redo: () => desk.redo() || notify(THEIRS, "bad"),
    heard: () => playing.time,
    /** The segment that is written in, or heard, begins or ends at what is heard now. */
    here: (which) => {
      const { segments } = desk.state;
      const written = document.activeElement?.closest("[data-key]")?.dataset.key;
      const one = segments[written ? at(written) : indexAt(segments, playing.time)];
      if (!one) return;
      const times = which === "begin" ? [playing.time, one.end_s] : [one.start_s, playing.time];
      const why = acts.times(one.id, ...times);
      if (why) notify(why, "bad");
      else say(which === "begin" ? "It begins here" : "It ends here");
    },
    seek: (seconds) => playing.seek(seconds),
    play: (seconds) => {
      playing.seek(seconds);
      playing.play();
    },
    /** Cuts at the cursor. */
    split: () => {
      const { id: whole, language, offset } = list.current.cursor ?? {};
      const index = at(whole);
      if (index < 0 || language) return say("Put the cursor where the text is to be cut");
      const id = `new-${newId()}`;
      const next = split(desk.state.segments, index, offset, id);
      if (next === desk.state.segments) return say("The cursor has to be inside the text");
      desk.change({ segments: next });
      list.current.show(id, { focus: 0 });
      return say("Cut in two");
    },
    /** Joins the segment with the one before or after it. */
    merge: (id, which) => {
      const index = at(id) + (which < 0 ? -1 : 0);
      const { segments } = desk.state;
      if (index < 0 || !segments[index + 1]) return;
      const seam = segments[index].text.length;
      desk.change({ segments: merged(segments, index) });
      list.current.show(segments[index].id, { focus: seam });
      say("Joined");
    },
    /** A new segment where speech has no text. */
    add: (gap) => {
      const { segments } = desk.state;
      const index = indexAt(segments, gap.start_s) + 1;
      const neighbour = segments[index - 1] ?? segments[index];
      const id = `new-${newId()}`;
      const one = {
        id, start_s: gap.start_s, end_s: gap.end_s, text: "", language: neighbour?.language ?? "",
        speaker: neighbour?.speaker ?? "", words: [], flags: [], edited: true, translations: {},
      };
      desk.change({ segments: [...segments.slice(0, index), one, ...segments.slice(index)] });
      list.current.show(id, { focus: 0 });
    },
    remove: (id) => {
      desk.change({ segments: desk.state.segments.filter((one) => one.id !== id) });
      say("Removed; Control Z takes it back");
    },
  };
  return acts;
}
