// All jobs: what they are, how far, and what can be done with them.

import { html, useEffect, useState } from "../vendor/preact-htm.js";
import { Jobs, isOpen, stagesOf, stateOf, titleOf } from "../lib/jobs.js";
import { address } from "../lib/router.js";
import { useStore } from "../lib/store.js";
import { languageName, moment } from "../lib/words.js";
import { forgetDrafts } from "../transcript/drafts.js";
import { Question } from "../parts/dialog.js";
import { notify, say } from "../parts/notices.js";

export const jobs = new Jobs();

export const STATES = {
  queued: "Waiting", running: "Running", succeeded: "Done", failed: "Failed", cancelled: "Cancelled",
};
const FILTERS = [["all", "All"], ["open", "Under way"], ["succeeded", "Done"], ["failed", "Failed"], ["cancelled", "Cancelled"]];

export function JobsView() {
  const { jobs: list, error, more, notes } = useStore(jobs);
  const [filter, setFilter] = useState("all");
  const [going, setGoing] = useState(null);
  useEffect(() => jobs.follow(), []);
  const shown = (list ?? []).filter((job) => filter === "all" || (filter === "open" ? isOpen(job) : stateOf(job) === filter));
  useSaid(list);
  return html`
    <div class="title">
      <h1>Jobs</h1>
      <a class="button main" href=${address("new")}>New job</a>
    </div>
    ${error && html`<p class="banner bad" role="alert">${error.message}${error.code !== "no_job_service" && " Trying again."}</p>`}
    ${list?.length > 0 && html`<div class="filters" role="group" aria-label="Which jobs">
      ${FILTERS.map(([key, name]) => html`<button key=${key} aria-pressed=${filter === key ? "true" : "false"}
        onClick=${() => setFilter(key)}>${name}</button>`)}
    </div>`}
    ${list === null && !error && html`<p class="muted">Looking…</p>`}
    ${list?.length === 0 && html`<div class="empty">
      <h2>Nothing here yet</h2>
      <p>Drop a film or a recording, and it becomes a transcript and subtitles.</p>
      <a class="button main" href=${address("new")}>Make the first job</a>
    </div>`}
    ${list?.length > 0 && shown.length === 0 && html`<p class="muted">No such job.</p>`}
    <ul class="cards" aria-label="Jobs">
      ${shown.map((job) => html`<${Card} key=${job.id} job=${job} note=${notes[job.id]} ask=${setGoing} />`)}
    </ul>
    ${more && html`<button onClick=${() => jobs.readMore().catch((e) => notify(e.message, "bad"))}>Show older ones</button>`}
    ${going && html`<${Question} title="Delete this job?" yes="Delete" close=${() => setGoing(null)}
      text=${`“${titleOf(going)}”, its recording, transcript and subtitles are removed for good.`}
      act=${() => jobs.remove(going).then(() => forgetDrafts(localStorage, going.id), (e) => notify(e.message, "bad"))} />`}
  `;
}

/** Tells screen readers when a job ends. */
function useSaid(list) {
  const [before, setBefore] = useState(new Map());
  useEffect(() => {
    const now = new Map((list ?? []).map((job) => [job.id, stateOf(job)]));
    for (const job of list ?? []) {
      const was = before.get(job.id);
      if (was && was !== now.get(job.id)) say(`${titleOf(job)}: ${STATES[now.get(job.id)]}`);
    }
    setBefore(now);
  }, [list]);
}

function Card({ job, note, ask }) {
  const state = stateOf(job);
  const { source_languages: from = [], target_languages: to = [] } = job.config;
  const act = (name, json) => () => jobs.act(job, name, json).catch((error) => notify(error.message, "bad"));
  const title = titleOf(job);
  return html`<li class="card">
    <div class="card-head">
      <h2 dir="auto">${state === "succeeded" ? html`<a href=${address("job", job.id)}>${title}</a>` : title}</h2>
      <span class=${`state ${state}`}>${STATES[state] ?? state}</span>
    </div>
    <p class="muted">
      ${from.length ? from.map(languageName).join(", ") : "Language detected"}
      ${to.length > 0 && html` <span aria-label="to">→</span> ${to.map(languageName).join(", ")}`}
      <span class="dot">·</span><time datetime=${job.create_time}>${moment(job.create_time)}</time>
    </p>
    ${isOpen(job) && html`<${Stages} job=${job} />`}
    ${isOpen(job) && note && html`<p class="muted note" dir="auto">${note}</p>`}
    ${job.error && html`<p class="bad" dir="auto">${job.error}</p>`}
    <div class="row">
      ${state === "succeeded" && html`<a class="button" href=${address("job", job.id)}>Open</a>`}
      ${isOpen(job) && html`<button onClick=${act("cancel")} aria-label=${`Cancel ${title}`}>Cancel</button>`}
      ${state === "failed" && html`<button onClick=${act("retry")} aria-label=${`Retry ${title}`}>Retry</button>`}
      ${state === "cancelled" && html`<button onClick=${act("resume")} aria-label=${`Resume ${title}`}>Resume</button>`}
      ${!isOpen(job) && html`<button class="plain" onClick=${() => ask(job)} aria-label=${`Delete ${title}`}>Delete</button>`}
    </div>
  </li>`;
}

/** A bar for each stage. */
export function Stages({ job }) {
  const stages = stagesOf(job);
  if (!stages.length && !isOpen(job)) return null;
  if (!stages.length) return html`<p class="muted">${stateOf(job) === "queued" ? "Waits for its turn." : "Starting…"}</p>`;
  return html`<ul class="stages">
    ${stages.map(({ name, share, finished }) => html`<li key=${name}>
      <span>${stageName(name)}</span>
      <progress max="1" value=${share ?? undefined} aria-label=${stageName(name)}></progress>
      <span class="muted number">${finished ? "done" : share === null ? "" : `${Math.floor(share * 100)} %`}</span>
    </li>`)}
  </ul>`;
}

function stageName(name) {
  const [, to] = /^translating to (.+)$/.exec(name) ?? [];
  const text = to ? `translating to ${languageName(to)}` : name;
  return text.charAt(0).toUpperCase() + text.slice(1);
}
