// Short messages, which a screen reader hears too.

import { html, useEffect } from "../vendor/preact-htm.js";
import { Store, useStore } from "../lib/store.js";

const SHOWN_MS = 8000;

const notices = new Store({ list: [], said: "" });
let number = 0;

/** Shows a message; `kind` is "good" or "bad". */
export function notify(text, kind = "good") {
  number += 1;
  notices.set(({ list }) => ({ list: [...list.slice(-3), { id: number, text, kind }] }));
}

/** Says something to screen readers alone. */
export function say(text) {
  notices.set({ said: text });
}

function drop(id) {
  notices.set(({ list }) => ({ list: list.filter((one) => one.id !== id) }));
}

/** Where they are shown; there from the beginning, or no screen reader listens to it. */
export function Notices() {
  const { list, said } = useStore(notices);
  return html`
    <div class="said" role="status" aria-live="polite">${said}</div>
    <div class="notices" role="status" aria-live="polite">
      ${list.map((one) => html`<${Notice} key=${one.id} ...${one} />`)}
    </div>
  `;
}

function Notice({ id, text, kind }) {
  useEffect(() => {
    if (kind === "bad") return undefined; // stays until somebody has read it
    const timer = setTimeout(() => drop(id), SHOWN_MS);
    return () => clearTimeout(timer);
  }, []);
  return html`<div class=${`notice ${kind}`}>
    <span>${text}</span>
    <button class="plain icon" aria-label="Close the message" onClick=${() => drop(id)}>×</button>
  </div>`;
}
