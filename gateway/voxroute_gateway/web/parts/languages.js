// Languages as a person chooses them.

import { html, useState } from "../vendor/preact-htm.js";
import { LANGUAGES, tagOf } from "../lib/languages.js";
import { languageName } from "../lib/words.js";

/** What a browser proposes in the fields of a view: there once. */
export function LanguageList() {
  return html`<datalist id="languages">${LANGUAGES.map(({ tag, name }) => html`<option key=${tag} value=${name}>${tag}</option>`)}</datalist>`;
}

/** A field for several languages, by name or tag. */
export function Languages({ label, hint, tags, change, disabled = false }) {
  const [text, setText] = useState("");
  const [why, setWhy] = useState("");
  const id = label.replaceAll(" ", "-").toLowerCase();
  const add = (typed) => {
    const tag = tagOf(typed);
    if (tag === null) {
      setWhy(typed.trim() ? `“${typed.trim()}” is no language that is known here.` : "");
      return;
    }
    if (!tags.includes(tag)) change([...tags, tag]);
    setText("");
    setWhy("");
  };
  const keys = (event) => {
    if (event.key === "Enter" && text.trim()) {
      event.preventDefault();
      add(text);
    } else if (event.key === "Backspace" && !text && tags.length) change(tags.slice(0, -1));
  };
  const typed = (event) => {
    setText(event.target.value);
    setWhy("");
    // chosen from the list, by mouse or key
    if (event.inputType === "insertReplacementText" || !event.inputType) add(event.target.value);
  };
  return html`<div class="field">
    <label for=${id}>${label}</label>
    <div class="chips">
      ${tags.map((tag) => html`<span class="chip" key=${tag}>${languageName(tag)}
        <button type="button" disabled=${disabled} aria-label=${`Without ${languageName(tag)}`}
          onClick=${() => change(tags.filter((one) => one !== tag))}>×</button></span>`)}
      <input id=${id} list="languages" autocomplete="off" disabled=${disabled} placeholder=${tags.length ? "" : "Hindi, en, …"} value=${text}
        aria-describedby=${`${id}-hint`} onInput=${typed} onKeyDown=${keys} onBlur=${() => text.trim() && add(text)} />
    </div>
    <span class="hint" id=${`${id}-hint`}>${hint}</span>
    ${why && html`<span class="bad" role="alert">${why}</span>`}
  </div>`;
}
