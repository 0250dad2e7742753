// What this tab and another one wrote in the same place: the person says which one stays.

import { html } from "../vendor/preact-htm.js";
import { replaced, withPassage, withText, withTranslation } from "../transcript/segments.js";
import { clock, count, languageName } from "../lib/words.js";

const FIELDS = { text: "Text", speaker: "Speaker", times: "Times", passage: "Cut, joined or removed" };

export function Conflicts({ state, desk, show }) {
  const { conflicts } = state;
  return html`<section class="conflicts" aria-label="Conflicts" role="alert">
    <h2>Somebody was faster</h2>
    <p>${count(conflicts.length, "place")} ${conflicts.length === 1 ? "was" : "were"} changed in another tab too, and saved there. Nothing is lost: choose what stays.</p>
    <ul>
      ${conflicts.map((one, i) => html`<li key=${`${one.id} ${one.field} ${i}`}>
        <p><button class="plain" onClick=${() => show(one.id)}>${clock(one.start_s)}</button> ${fieldName(one.field)}</p>
        <dl>
          <dt>Here</dt><dd dir="auto">${told(one.field, one.mine)}</dd>
          <dt>There</dt><dd dir="auto">${told(one.field, one.theirs)}</dd>
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

function told(field, text) {
  if (field === "times") return text.split(" ").map((one) => clock(Number(one), { tenths: true })).join(" – ");
  return text || html`<span class="muted">${field === "passage" ? "removed" : "empty"}</span>`;
}

/** The transcript with my side of a conflict in it. */
function put({ segments, speakers }, { id, field, mine, put: passage }) {
  const [kind, what] = field.split(" ");
  if (kind === "name") return { speakers: { ...speakers, [what]: mine } };
  if (kind === "passage") return { segments: withPassage(segments, passage) };
  const index = segments.findIndex((one) => one.id === id);
  if (index < 0) return {};
  const one = segments[index];
  const next =
    kind === "translation" ? withTranslation(one, what, mine)
    : kind === "speaker" ? { ...one, speaker: mine }
    : kind === "times" ? { ...one, start_s: Number(mine.split(" ")[0]), end_s: Number(mine.split(" ")[1]) }
    : withText(one, mine);
  return { segments: replaced(segments, index, next) };
}
