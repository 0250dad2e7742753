// What this gateway has: models, languages, jobs; and the services behind it, how busy they are.

import { html, useEffect, useState } from "../vendor/preact-htm.js";
import { get, sentence } from "../lib/api.js";
import { count, languageName } from "../lib/words.js";

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
    ask("jobs", "/api/jobs?page_size=1");
    // those find the services, and the gateway knows them then
    Promise.all([ask("models", "/v1/models"), ask("languages", "/languages")]).then(() => ask("services", "/api/services"));
  };
  useEffect(look, []);
  const { health, about, models, jobs, languages, services } = asked;
  const behind = (kind) => html`<${Behind} asked=${services} kind=${kind} />`;
  return html`
    <div class="title"><h1>Services</h1><button onClick=${look}>Look again</button></div>
    <div class="cards">
      <${Service} title="Gateway" asked=${health} good=${() => html`<p>Version ${about?.answer?.info.version ?? "…"} at <code>${location.origin}</code></p>`} />
      <${Service} title="Speech" asked=${models} slow="A service may have to start first." behind=${behind("speech")}
        good=${({ data }) => html`<p>Models that a request can name:</p><ul class="plain-list">
          ${data.map((one) => html`<li key=${one.id}><code>${one.id}</code></li>`)}</ul>`} />
      <${Service} title="Translation" asked=${languages} slow="A service may have to start first." behind=${behind("translation")}
        good=${(list) => html`<p>From ${list.length} languages:</p><p class="muted">${list.map((one) => languageName(one.code)).join(", ")}</p>`} />
      <${Service} title="Jobs" asked=${jobs} good=${() => html`<p>The job service answers.</p>`}
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
function Behind({ asked, kind }) {
  if (asked?.error) return html`<p class="muted">${asked.error.message}</p>`;
  const list = asked?.answer?.services.filter((one) => one.kind === kind) ?? [];
  if (!list.length) return null;
  return html`<ul class="services">
    ${list.map((one) => html`<li key=${one.address}>
      <h3><code>${one.address}</code>${" "}<span class=${`state ${one.error ? "failed" : one.serving ? "succeeded" : ""}`}>${
        one.error ? "Away" : one.serving ? "Serving" : "Loading, or ending"}</span></h3>
      ${one.error && html`<p class="muted">${sentence(one.error)}</p>`}
      ${one.models && html`<dl>
        <dt>Models</dt><dd>${one.models.join(", ") || "none"}</dd>
        <dt>Device</dt><dd>${one.device}</dd>
        <dt>Places</dt><dd class="number">${one.calls_in_flight} of ${one.calls_capacity} taken</dd>
        <dt>Queue</dt><dd class="number">${one.work_queued ? `${count(one.work_queued, "piece")} of work` : "empty"}</dd>
        <dt>Engine</dt><dd>${one.engine}, version ${one.version}</dd>
      </dl>`}
    </li>`)}
  </ul>`;
}
