// What this tab and another one wrote in the same place: the person says which one stays.

import { html } from "../vendor/preact-htm.js";
import { replaced, withText, withTranslation } from "../transcript/segments.js";
import { clock, count, languageName } from "../lib/words.js";

const FIELDS = { text: "Text", speaker: "Speaker", times: "Times", removed: "Removed here, written in there" };

export function Conflicts({ state, desk, show }) {
  const { conflicts } = state;
  return html`<section class="conflicts" aria-label="Conflicts" role="alert">
    <h2>Somebody was faster</h2>
    <p>${count(conflicts.length, "place")} ${conflicts.length === 1 ? "was" : "were"} changed in another tab too, and saved there. Nothing is lost: choose what stays.</p>
    <ul>
      ${conflicts.map((one, i) => html`<li key=${`${one.id} ${one.field} ${i}`}>
        <p><button class="plain" onClick=${() => show(one.id)}>${clock(one.start_s)}</button> ${fieldName(one.field)}</p>
        <dl>
          <dt>Here</dt><dd dir="auto">${one.mine}</dd>
          <dt>There</dt><dd dir="auto">${one.theirs}</dd>
        </dl>
        <div class="row tight">
          <button onClick=${() => desk.settle(one, true, (now) => put(now, one))}>Keep what I wrote</button>
          <button onClick=${() => desk.settle(one, false)}>Take theirs</button>
        </div>
      </li>`)}
    </ul>
  </section>`;
}

function fieldName(field) {
  const [kind, what] = field.split(" ");
  if (kind === "translation") return languageName(what);
  return kind === "name" ? "Name of a speaker" : (FIELDS[field] ?? field);
}

/** The transcript with my side of a conflict in it. */
function put({ segments, speakers }, { id, field, mine }) {
  const [kind, what] = field.split(" ");
  if (kind === "name") return { speakers: { ...speakers, [what]: mine } };
  const index = segments.findIndex((one) => one.id === id);
  if (index < 0) return {};
  if (kind === "removed") return { segments: segments.filter((one) => one.id !== id) };
  const one = segments[index];
  const next =
    kind === "translation" ? withTranslation(one, what, mine)
    : kind === "speaker" ? { ...one, speaker: mine }
    : kind === "times" ? { ...one, start_s: Number(mine.split(" ")[0]), end_s: Number(mine.split(" ")[1]) }
    : withText(one, mine);
  return { segments: replaced(segments, index, next) };
}
