// When a segment begins and ends: by what is written, by arrows, or by what is heard now.

import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import { clock, exactly, secondsOf } from "../lib/words.js";

const STEP_S = 0.1;
const SMALL_STEP_S = 0.01;

/** A button with the length of the segment, which opens the two fields. */
export function Times({ id, start, end, acts }) {
  const [open, setOpen] = useState(false);
  const button = useRef(null);
  const close = () => {
    setOpen(false);
    button.current.focus();
  };
  return html`
    <button class="plain length" ref=${button} aria-expanded=${open ? "true" : "false"} title="Change when it begins and ends"
      aria-label=${`Times of the segment at ${clock(start)}`} onClick=${() => setOpen(!open)}>${(end - start).toFixed(1)} s</button>
    ${open && html`<${Fields} ...${{ id, start, end, acts, close }} />`}
  `;
}

function Fields({ id, start, end, acts, close }) {
  const [why, setWhy] = useState("");
  const set = (from, to) => {
    // what arrows do one after the other is one step
    const wrong = acts.times(id, from, to, `${id} times`);
    setWhy(wrong);
    return !wrong;
  };
  return html`<span class="times" onKeyDown=${(event) => event.key === "Escape" && close()}>
    <${Field} label="Begins" value=${start} first set=${(seconds) => set(seconds, end)} wrong=${setWhy} />
    <${Field} label="Ends" value=${end} set=${(seconds) => set(start, seconds)} wrong=${setWhy} />
    <button class="plain" title="F8" onClick=${() => set(acts.heard(), end)}>Begins now</button>
    <button class="plain" title="F9" onClick=${() => set(start, acts.heard())}>Ends now</button>
    <span class="bad" role="alert">${why}</span>
  </span>`;
}

function Field({ label, value, set, wrong, first }) {
  const [text, setText] = useState(exactly(value));
  const input = useRef(null);
  useEffect(() => setText(exactly(value)), [value]);
  useEffect(() => first && input.current.focus(), []);
  const take = () => {
    if (text === exactly(value)) return;
    const seconds = secondsOf(text);
    if (seconds === null) wrong("Write a time as 1:02:03.4.");
    else set(seconds);
  };
  const keys = (event) => {
    const up = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (event.key === "Enter") take();
    else if (up) set(value + up * (event.shiftKey ? SMALL_STEP_S : STEP_S));
    else return;
    event.preventDefault();
  };
  return html`<label>${label} <input ref=${input} value=${text} inputmode="decimal" size="11" autocomplete="off"
    onInput=${(event) => setText(event.target.value)} onKeyDown=${keys} onBlur=${take} /></label>`;
}
