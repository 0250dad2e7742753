// One job: while it is under way how far it is, and then its transcript beside its recording.

import { html, useEffect, useMemo, useState } from "../vendor/preact-htm.js";
import { get, post } from "../lib/api.js";
import { Desk } from "../transcript/desk.js";
import { Drafts, forgetDrafts } from "../transcript/drafts.js";
import { holder } from "../lib/holding.js";
import { isOpen, stateOf, titleOf } from "../lib/jobs.js";
import { address } from "../lib/router.js";
import { transcriptOf } from "../transcript/transcripts.js";
import { Editor } from "../parts/editor.js";
import { Files } from "../parts/exporting.js";
import { History } from "../parts/history.js";
import { notify } from "../parts/notices.js";
import { STATES, Stages } from "./jobs.js";

const LOOK_MS = 2000;

let drafts = null;

export function JobView({ id }) {
  const [job, setJob] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    let timer = 0;
    let left = false;
    const look = async () => {
      try {
        const found = await get(`/api/jobs/${encodeURIComponent(id)}`);
        if (left) return;
        setJob(found);
        setError(null);
        if (isOpen(found)) timer = setTimeout(look, LOOK_MS);
      } catch (failure) {
        if (left) return;
        setError(failure);
        if (failure.code === "job_not_found") forgetDrafts(localStorage, id);
        if (failure.passes || failure.status === 401) timer = setTimeout(look, LOOK_MS);
      }
    };
    look();
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, [id]);
  useEffect(() => {
    if (job) document.title = `${titleOf(job)} – voxroute`;
  }, [job]);

  if (job && stateOf(job) === "succeeded") return html`<${Work} job=${job} />`;
  const act = (name) => () =>
    post(`/api/jobs/${encodeURIComponent(id)}/${name}`).then(setJob, (failure) => notify(failure.message, "bad"));
  return html`<div class="page">
    <p><a href=${address("jobs")}>All jobs</a></p>
    ${error && html`<p class="banner bad" role="alert">${error.message}</p>`}
    ${job && html`
      <div class="title"><h1 dir="auto">${titleOf(job)}</h1><span class=${`state ${stateOf(job)}`} role="status">${STATES[stateOf(job)]}</span></div>
      ${job.error && html`<p class="bad" dir="auto">${job.error}</p>`}
      <${Stages} job=${job} />
      <div class="row">
        ${isOpen(job) && html`<button onClick=${act("cancel")}>Cancel</button>`}
        ${stateOf(job) === "failed" && html`<button onClick=${act("retry")}>Retry</button>`}
        ${stateOf(job) === "cancelled" && html`<button onClick=${act("resume")}>Resume</button>`}
      </div>
      <${Files} job=${job} />
      <${History} job=${job} />`}
  </div>`;
}

/** The transcript of a job that has succeeded, read and held while it is shown. */
function Work({ job }) {
  const server = useMemo(() => transcriptOf(job.id), [job.id]);
  const desk = useMemo(() => {
    drafts ??= new Drafts({
      storage: localStorage,
      session: sessionStorage,
      hold: holder(navigator.locks ?? new BroadcastChannel("voxroute")), // no locks where there is no https
    });
    return new Desk(job.id, server, drafts);
  }, [server]);
  const [ready, setReady] = useState(false);
  const [why, setWhy] = useState(null);
  useEffect(() => {
    let timer = 0;
    const open = () =>
      desk.open(() => setReady(true)).then(
        () => {
          setWhy(null);
          setReady(true);
        },
        (failure) => {
          setReady(false);
          setWhy(failure);
          if (failure.passes || failure.status === 401) timer = setTimeout(open, LOOK_MS);
        },
      );
    open();
    const wake = () => desk.wake();
    const leave = (event) => {
      desk.keep();
      if (desk.dirty && desk.state.unkept) event.preventDefault();
    };
    addEventListener("online", wake);
    addEventListener("signed-in", wake);
    addEventListener("beforeunload", leave);
    return () => {
      clearTimeout(timer);
      removeEventListener("online", wake);
      removeEventListener("signed-in", wake);
      removeEventListener("beforeunload", leave);
      if (desk.dirty) desk.save().catch(() => {});
      desk.close();
    };
  }, [desk]);
  if (why && !ready) {
    return html`<div class="page">
      <p><a href=${address("jobs")}>All jobs</a></p>
      <p class="banner bad" role="alert">${why.message}</p>
    </div>`;
  }
  if (!ready) return html`<div class="page"><p class="muted">Opening…</p></div>`;
  return html`<${Editor} job=${job} desk=${desk} server=${server} title=${titleOf(job)} />`;
}

