// What a job has told on its way: which services it chose and why, what it fell back to, what it doubts.

import { html, useEffect, useState } from "../vendor/preact-htm.js";
import { isOpen } from "../lib/jobs.js";
import { moment } from "../lib/words.js";

const ENDED = /_(SUCCEEDED|FAILED|CANCELLED)$/;

/** Closed until somebody opens it; it is read then, and followed while the job goes on. */
export function History({ job, title = "What the job told, and why it chose its services" }) {
  const [open, setOpen] = useState(false);
  return html`<details onToggle=${(event) => setOpen(event.target.open)}>
    <summary dir="auto">${title}</summary>
    ${open && html`<${Told} job=${job} key=${`${job.id} ${job.attempts}`} />`}
  </details>`;
}

function Told({ job }) {
  const [lines, setLines] = useState([]);
  const [ready, setReady] = useState(false);
  useEffect(() => {
    const stream = new EventSource(`/api/jobs/${encodeURIComponent(job.id)}/events?after=0`);
    const heard = ({ data }) => {
      const { sequence, time, message, warning, state } = JSON.parse(data);
      const text = message ?? warning?.message;
      if (text) setLines((now) => [...now, { sequence, time, text, bad: Boolean(warning) }]);
      setReady(true);
      // one that was tried again has ended more than once
      if (ENDED.test(state ?? "") && !isOpen(job) && Number(sequence) >= Number(job.last_sequence)) stream.close();
    };
    for (const name of ["state", "stage", "message", "warning"]) stream.addEventListener(name, heard);
    return () => stream.close();
  }, []);
  if (!lines.length) return html`<p class="muted">${ready ? "It told nothing." : "Looking…"}</p>`;
  return html`<ol class="history">
    ${lines.map((one) => html`<li key=${one.sequence}>
      <time class="muted number" datetime=${one.time}>${moment(one.time)}</time>
      <span dir="auto" class=${one.bad ? "warn" : ""}>${one.text}</span>
    </li>`)}
  </ol>`;
}
