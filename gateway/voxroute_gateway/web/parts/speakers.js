// Who speaks: names instead of numbers.

import { html, useState } from "../vendor/preact-htm.js";
import { speakerName, speakersOf } from "../transcript/rows.js";
import { count } from "../lib/words.js";
import { Dialog } from "./dialog.js";

export function Speakers({ desk, close }) {
  const all = speakersOf(desk.state);
  const [names, setNames] = useState(() => ({ ...desk.state.speakers }));
  const said = (speaker) => desk.state.segments.filter((one) => one.speaker === speaker).length;
  const save = (event) => {
    event.preventDefault();
    const kept = Object.fromEntries(Object.entries(names).map(([id, name]) => [id, name.trim()]).filter(([, name]) => name));
    if (JSON.stringify(kept) !== JSON.stringify(desk.state.speakers)) desk.change({ speakers: kept });
    close();
  };
  return html`<${Dialog} title="Speakers" close=${close} kind="small">
    <form onSubmit=${save}>
      ${all.length === 0 && html`<p>Nobody is told apart in this recording. Ask for speakers when you make the job.</p>`}
      ${all.map((speaker) => html`<label class="field" key=${speaker}>${speakerName(speaker, {})}
        <input value=${names[speaker] ?? ""} maxlength="100" dir="auto" placeholder="Name"
          onInput=${(event) => setNames({ ...names, [speaker]: event.target.value })} />
        <span class="hint">${count(said(speaker), "segment")}</span>
      </label>`)}
      <div class="row end">
        <button type="button" onClick=${close}>${all.length ? "Cancel" : "Close"}</button>
        ${all.length > 0 && html`<button class="main">Rename</button>`}
      </div>
    </form>
  <//>`;
}
