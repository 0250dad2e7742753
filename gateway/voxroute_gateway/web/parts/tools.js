// What stands above a transcript: languages, what is shown of it, what can be done with it, whether it is saved.

import { html } from "../vendor/preact-htm.js";
import { address } from "../lib/router.js";
import { languageName } from "../lib/words.js";

const FILTERS = [
  ["doubtful", "Doubtful"], ["gaps", "Not transcribed"], ["edited", "Edited"], ["stale", "Old translation"], ["conflicts", "Conflicts"],
];
const SAVING = {
  saved: "Saved", waiting: "Not saved yet", saving: "Saving…", away: "Kept in this browser", refused: "Not saved",
};

// a click on a button leaves the cursor in the text
const stay = (event) => event.preventDefault();

export function Tools({
  title, state, desk, languages, language, setLanguage, filter, setFilter, search, setSearch, counts, follow, setFollow,
  busy, acts, retime, retranslate, speakers, exporting,
}) {
  const { toTime, toTranslate } = counts;
  const toggle = (key) => setFilter(filter === key ? "all" : key);
  return html`<div class="tools">
    <div class="tools-head">
      <a class="back" href=${address("jobs")} aria-label="All jobs">←</a>
      <h1 dir="auto" title=${title}>${title}</h1>
      <${Saving} state=${state} desk=${desk} />
      <button class="main" onClick=${exporting}>Export</button>
    </div>
    <div class="row tight">
      <span class="group" role="group" aria-label="Steps">
        <button class="plain" disabled=${!state.undo} onPointerDown=${stay} onClick=${() => acts.undo()}>Undo</button>
        <button class="plain" disabled=${!state.redo} onPointerDown=${stay} onClick=${() => acts.redo()}>Redo</button>
        <button class="plain" onPointerDown=${stay} onClick=${() => acts.split()} title="Cuts the text at the cursor: Ctrl+Enter">Split</button>
        <button class="plain" onClick=${speakers}>Speakers</button>
      </span>
      ${toTime > 0 && html`<button class="plain" disabled=${Boolean(busy)} onClick=${retime}
        title="Finds the times of words that were written here">Re-time ${toTime}</button>`}
      ${toTranslate > 0 && html`<button class="plain" disabled=${Boolean(busy)} onClick=${retranslate}
        title="Translates lines whose text has changed">Re-translate ${toTranslate}</button>`}
      <span class="busy" role="status">${busy && `${busy}…`}</span>
    </div>
    <div class="row tight">
      ${languages.length > 0 && html`<span class="tabs" role="group" aria-label="Language beside the spoken one">
        <button aria-pressed=${language === "" ? "true" : "false"} onClick=${() => setLanguage("")}>Spoken only</button>
        ${languages.map((tag) => html`<button key=${tag} aria-pressed=${language === tag ? "true" : "false"}
          onClick=${() => setLanguage(tag)}>${languageName(tag)}</button>`)}
      </span>`}
      <span class="filters" role="group" aria-label="Show only">
        ${FILTERS.filter(([key]) => counts[key] > 0 || filter === key).map(([key, name]) => html`<button key=${key}
          aria-pressed=${filter === key ? "true" : "false"} onClick=${() => toggle(key)}>${name} <span class="number">${counts[key]}</span></button>`)}
      </span>
      <input class="search" type="search" placeholder="Search" aria-label="Search in the text" value=${search}
        onInput=${(event) => setSearch(event.target.value)} />
      <label class="check small"><input type="checkbox" checked=${follow} onChange=${(event) => setFollow(event.target.checked)} /><span>Follow</span></label>
    </div>
  </div>`;
}

function Saving({ state, desk }) {
  const { saving, why, unkept } = state;
  const bad = saving === "refused" || unkept;
  return html`<span class=${`saving ${saving} ${bad ? "bad" : ""}`} role="status">
    ${unkept && saving !== "saved" ? "This browser has no room to keep it: leave the page open" : SAVING[saving]}
    ${why && saving !== "saved" && html`<span class="why"> ${why}</span>`}
    ${["away", "refused"].includes(saving) && html` <button class="plain" onClick=${() => desk.save().catch(() => {})}>Try now</button>`}
  </span>`;
}
