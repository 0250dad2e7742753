// What this gateway has: models, languages, jobs.

import { html, useEffect, useState } from "../vendor/preact-htm.js";
import { get } from "../lib/api.js";
import { languageName } from "../lib/words.js";

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
    ask("models", "/v1/models");
    ask("jobs", "/api/jobs?page_size=1");
    ask("languages", "/languages");
  };
  useEffect(look, []);
  const { health, about, models, jobs, languages } = asked;
  return html`
    <div class="title"><h1>Services</h1><button onClick=${look}>Look again</button></div>
    <div class="cards">
      <${Service} title="Gateway" asked=${health} good=${() => html`<p>Version ${about?.answer?.info.version ?? "…"} at <code>${location.origin}</code></p>`} />
      <${Service} title="Speech" asked=${models} slow="A service may have to start first."
        good=${({ data }) => html`<p>Models that a request can name:</p><ul class="plain-list">
          ${data.map((one) => html`<li key=${one.id}><code>${one.id}</code></li>`)}</ul>`} />
      <${Service} title="Translation" asked=${languages} slow="A service may have to start first."
        good=${(list) => html`<p>From ${list.length} languages:</p><p class="muted">${list.map((one) => languageName(one.code)).join(", ")}</p>`} />
      <${Service} title="Jobs" asked=${jobs} good=${() => html`<p>The job service answers.</p>`}
        none=${(error) => error.code === "no_job_service" && "There is none behind this gateway."} />
    </div>
  `;
}

function Service({ title, asked, good, none, slow }) {
  const state = !asked ? ["running", "Asking…"] : asked.error ? ["failed", "Not there"] : ["succeeded", "There"];
  return html`<section class="card" aria-label=${title}>
    <div class="card-head"><h2>${title}</h2><span class=${`state ${state[0]}`} role="status">${state[1]}</span></div>
    ${!asked && slow && html`<p class="muted">${slow}</p>`}
    ${asked?.error && html`<p class="muted">${none?.(asked.error) || asked.error.message}</p>`}
    ${asked?.answer && good(asked.answer)}
  </section>`;
}
