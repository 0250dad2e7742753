// Files that are sent now.

import { html } from "../vendor/preact-htm.js";
import { address } from "../lib/router.js";
import { useStore } from "../lib/store.js";
import { size, span } from "../lib/words.js";
import { uploads } from "./uploads.js";

const WORDS = {
  waiting: "Waits for the one before", sending: "Sending", away: "Waiting for the connection",
  submitting: "Making the job", done: "Sent", failed: "Failed",
};

/** Files that are sent now, with their speed. */
export function OnTheirWay() {
  const { files } = useStore(uploads);
  if (!files.length) return null;
  return html`<section class="sending" aria-label="Uploads">
    <ul class="cards">
      ${files.map((one) => html`<li class="card" key=${one.key}>
        <div class="card-head">
          <h2 dir="auto">${one.name}</h2>
          <button class="plain icon" aria-label=${`${one.state === "done" ? "Forget" : "Stop"} ${one.name}`}
            onClick=${() => uploads.remove(one.key)}>×</button>
        </div>
        <progress max=${one.size} value=${one.state === "submitting" ? undefined : one.sent} aria-label=${`Upload of ${one.name}`}></progress>
        <p class="muted" role="status">${WORDS[one.state]}
          ${one.state === "sending" && html` <span class="number">${size(one.sent)} of ${size(one.size)}${
            one.perSecond > 0 ? `, ${size(one.perSecond)}/s, ${span(one.leftS)} left` : ""}</span>`}
        </p>
        ${one.why && html`<p class=${one.state === "failed" ? "bad" : "muted"}>${one.why}</p>`}
        ${one.state === "done" && html`<a class="button" href=${address("jobs")}>See it in Jobs</a>`}
      </li>`)}
    </ul>
  </section>`;
}
