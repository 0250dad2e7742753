// What this gateway has: models, languages, jobs; and the services behind it, how busy they are.

import { html, useEffect, useState } from "../vendor/preact-htm.js";
import { get, post, sentence } from "../lib/api.js";
import { titleOf } from "../lib/jobs.js";
import { count, languageName, size } from "../lib/words.js";
import { History } from "../parts/history.js";
import { notify } from "../parts/notices.js";

const LOADED = { loaded: "in memory", loading: "loading", available: "on the disk" };
const nameOf = ({ address, model }) => `${address} ${model}`;

export function ServicesView() {
  const [asked, setAsked] = useState({});
  const look = () => {
    setAsked({});
    const ask = (name, path) =>
      get(path).then(
        (answer) => setAsked((now) => ({ ...now, [name]: { answer } })),
        (error) => setAsked((now) => ({ ...now, [name]: { error } })),
      );
    ask("health", "/health");
    ask("about", "/openapi.json");
    ask("jobs", "/api/jobs?page_size=1&state=succeeded");
    // those find the services, and the gateway knows them then
    Promise.all([ask("models", "/v1/models"), ask("languages", "/languages")]).then(() => {
      ask("services", "/api/services");
      ask("loaded", "/api/services/models");
    });
  };
  const [busy, setBusy] = useState("");
  const set = (model, loaded) => {
    setBusy(nameOf(model));
    post("/api/services/models", { address: model.address, model: model.model, loaded }).then(
      (now) => setAsked(({ loaded: before, ...rest }) => ({
        ...rest,
        loaded: { answer: { models: before.answer.models.map((one) => (nameOf(one) === nameOf(now) ? now : one)) } },
      })),
      (error) => notify(error.message, "bad"),
    ).then(() => setBusy(""));
  };
  useEffect(look, []);
  const { health, about, models, jobs, languages, services, loaded } = asked;
  const behind = (kind) => html`<${Behind} asked=${services} kind=${kind} loaded=${loaded?.answer?.models ?? []} busy=${busy} set=${set} />`;
  return html`
    <div class="title"><h1>Services</h1><button onClick=${look}>Look again</button></div>
    <div class="cards">
      <${Service} title="Gateway" asked=${health} good=${() => html`<p>Version ${about?.answer?.info.version ?? "…"} at <code>${location.origin}</code></p>`} />
      <${Service} title="Speech" asked=${models} slow="A service may have to start first." behind=${behind("speech")}
        good=${({ data }) => html`<p>Models that a request can name:</p><ul class="plain-list">
          ${data.map((one) => html`<li key=${one.id}><code>${one.id}</code></li>`)}</ul>`} />
      <${Service} title="Translation" asked=${languages} slow="A service may have to start first." behind=${behind("translation")}
        good=${(list) => html`<p>From ${list.length} languages:</p><p class="muted">${list.map((one) => languageName(one.code)).join(", ")}</p>`} />
      <${Service} title="Jobs" asked=${jobs} good=${({ jobs: [newest] }) => html`<p>The job service answers.</p>
          ${newest && html`<p class="muted">Each job tells which services it chose, and why.</p><${History} job=${newest} title=${`The newest one that is done: ${titleOf(newest)}`} />`}`}
        none=${(error) => error.code === "no_job_service" && "There is none behind this gateway."} />
    </div>
  `;
}

function Service({ title, asked, good, none, slow, behind }) {
  const state = !asked ? ["running", "Asking…"] : asked.error ? ["failed", "Not there"] : ["succeeded", "There"];
  return html`<section class="card" aria-label=${title}>
    <div class="card-head"><h2>${title}</h2><span class=${`state ${state[0]}`} role="status">${state[1]}</span></div>
    ${!asked && slow && html`<p class="muted">${slow}</p>`}
    ${asked?.error && html`<p class="muted">${none?.(asked.error) || asked.error.message}</p>`}
    ${asked?.answer && good(asked.answer)}
    ${behind}
  </section>`;
}

/** The services of a kind, each by its address. */
function Behind({ asked, kind, loaded, busy, set }) {
  if (asked?.error) return html`<p class="muted">${asked.error.message}</p>`;
  const list = asked?.answer?.services.filter((one) => one.kind === kind) ?? [];
  if (!list.length) return null;
  return html`<ul class="services">
    ${list.map((one) => html`<li key=${one.address}>
      <h3><code>${one.address}</code>${" "}<span class=${`state ${one.error ? "failed" : one.serving ? "succeeded" : ""}`}>${
        one.error ? "Away" : one.serving ? "Serving" : "Loading, or ending"}</span></h3>
      ${one.error && html`<p class="muted">${sentence(one.error)}</p>`}
      ${one.models && html`<dl>
        <dt>Models</dt><dd><${Models} list=${loaded.filter((model) => model.address === one.address)} names=${one.models} busy=${busy} set=${set} /></dd>
        <dt>Device</dt><dd>${one.device}</dd>
        <dt>Places</dt><dd class="number">${one.calls_in_flight} of ${one.calls_capacity} taken</dd>
        <dt>Queue</dt><dd class="number">${one.work_queued ? `${count(one.work_queued, "piece")} of work` : "empty"}</dd>
        <dt>Engine</dt><dd>${one.engine}, version ${one.version}</dd>
      </dl>`}
    </li>`)}
  </ul>`;
}

/** What a service can use, and what of it is in its memory. */
function Models({ list, names, busy, set }) {
  if (!list.length) return html`${names.join(", ") || "none"}`;
  return html`<ul class="models">
    ${list.map((one) => html`<li key=${one.model}>
      <code>${one.model}</code>
      <span class="muted">${busy === nameOf(one) ? "working…" : LOADED[one.state]}${one.memory_bytes > 0 && `, ${size(one.memory_bytes)}`}</span>
      ${["loaded", "available"].includes(one.state) && html`<button class="plain" disabled=${Boolean(busy)}
        aria-label=${`${one.state === "loaded" ? "Unload" : "Load"} ${one.model}`}
        onClick=${() => set(one, one.state !== "loaded")}>${one.state === "loaded" ? "Unload" : "Load"}</button>`}
    </li>`)}
  </ul>`;
}
