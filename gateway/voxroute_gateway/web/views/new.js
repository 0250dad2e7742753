// A new job: which files, what is spoken, what is wanted.

import { html, useRef, useState } from "../vendor/preact-htm.js";
import { count, size } from "../lib/words.js";
import { LanguageList, Languages } from "../parts/languages.js";
import { OnTheirWay } from "../parts/on_their_way.js";
import { uploads } from "../parts/uploads.js";

const KEPT = "voxroute:new";

function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

export function NewView() {
  const [asked, setAsked] = useState(() => ({
    source_languages: [], target_languages: [], word_timestamps: true, speakers: false,
    min_speakers: 0, max_speakers: 0, mux: false, prompt: "", glossary: "", ...kept(),
  }));
  const [files, setFiles] = useState([]);
  const [why, setWhy] = useState("");
  const change = (part) => setAsked((now) => {
    const next = { ...now, ...part };
    try {
      localStorage.setItem(KEPT, JSON.stringify(next));
    } catch {
      // then it is asked again next time
    }
    return next;
  });
  const choose = (list) => {
    setFiles((now) => [...now, ...list]);
    setWhy("");
  };
  const submit = (event) => {
    event.preventDefault();
    if (!files.length) {
      setWhy("Choose a film or a recording first.");
      return;
    }
    uploads.add(files, configOf(asked));
    setFiles([]);
  };
  return html`
    <div class="title"><h1>New job</h1></div>
    <${OnTheirWay} />
    <form class="new" onSubmit=${submit}>
      <${Drop} choose=${choose} />
      ${files.length > 0 && html`<ul class="files" aria-label="Chosen files">
        ${files.map((file, i) => html`<li key=${i}>
          <span class="name" dir="auto">${file.name}</span><span class="muted">${size(file.size)}</span>
          <button type="button" class="plain icon" aria-label=${`Leave out ${file.name}`}
            onClick=${() => setFiles(files.filter((one) => one !== file))}>×</button>
        </li>`)}
      </ul>`}
      ${why && html`<p class="bad" role="alert">${why}</p>`}
      <div class="columns">
        <${Languages} label="Spoken" hint="Leave it empty to have it detected." tags=${asked.source_languages}
          change=${(tags) => change({ source_languages: tags })} />
        <${Languages} label="Subtitles in" hint="Beside the spoken language; none for a transcript alone."
          tags=${asked.target_languages} change=${(tags) => change({ target_languages: tags })} />
      </div>
      <${LanguageList} />
      <details open=${Boolean(asked.prompt || asked.glossary || asked.speakers || asked.mux)}>
        <summary>More</summary>
        <div class="stack">
          <${Check} label="Times of words" hint="Text lights up word by word, and can be cut between words."
            value=${asked.word_timestamps} set=${(v) => change({ word_timestamps: v })} />
          <${Check} label="Tell speakers apart" hint="Where a service can." value=${asked.speakers}
            set=${(v) => change({ speakers: v })} />
          ${asked.speakers && html`<div class="row">
            <${Number_} label="At least" value=${asked.min_speakers} set=${(v) => change({ min_speakers: v })} />
            <${Number_} label="At most" value=${asked.max_speakers} set=${(v) => change({ max_speakers: v })} />
          </div>`}
          <${Check} label="A subtitled copy of the recording" hint="With the texts as they are before you edit them."
            value=${asked.mux} set=${(v) => change({ mux: v })} />
          <label class="field">Names and spellings
            <textarea rows="2" maxlength="2000" value=${asked.prompt} dir="auto"
              onInput=${(e) => change({ prompt: e.target.value })}></textarea>
            <span class="hint">What the recogniser should expect, such as names of people and places.</span>
          </label>
          <label class="field">Glossary
            <textarea rows="3" value=${asked.glossary} dir="auto" placeholder="source term = translation"
              onInput=${(e) => change({ glossary: e.target.value })}></textarea>
            <span class="hint">One term a line. Without “=” it stays as it is.</span>
          </label>
        </div>
      </details>
      <div class="row end">
        <button class="main">${files.length > 1 ? `Start ${count(files.length, "job")}` : "Start"}</button>
      </div>
    </form>
  `;
}

/** What the contract calls JobConfig. */
export function configOf(asked) {
  const { speakers, min_speakers, max_speakers, glossary, ...rest } = asked;
  return {
    ...rest,
    speakers,
    ...(speakers ? { min_speakers, max_speakers } : {}),
    glossary: glossary.split("\n").map((line) => line.trim()).filter(Boolean).map(termOf),
  };
}

function termOf(line) {
  const at = line.indexOf("=");
  const source = (at < 0 ? line : line.slice(0, at)).trim();
  return at < 0 ? { source, do_not_translate: true } : { source, target: line.slice(at + 1).trim() };
}

function Drop({ choose }) {
  const input = useRef(null);
  const [over, setOver] = useState(false);
  const stop = (event) => event.preventDefault();
  const drop = (event) => {
    stop(event);
    setOver(false);
    choose([...event.dataTransfer.files]);
  };
  return html`<div class=${`drop ${over ? "over" : ""}`} onDragOver=${(e) => { stop(e); setOver(true); }}
    onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <p class="big">Drop films or recordings here</p>
    <p class="muted">Video or audio, in nearly any format</p>
    <button type="button" onClick=${() => input.current.click()}>Choose files…</button>
    <input ref=${input} type="file" multiple hidden aria-label="Files" accept="audio/*,video/*,.mkv,.mka,.ts,.m2ts,.mxf,.opus"
      onChange=${(event) => { choose([...event.target.files]); event.target.value = ""; }} />
  </div>`;
}

function Check({ label, hint, value, set }) {
  return html`<label class="check">
    <input type="checkbox" checked=${value} onChange=${(event) => set(event.target.checked)} />
    <span>${label}<span class="hint">${hint}</span></span>
  </label>`;
}

function Number_({ label, value, set }) {
  return html`<label class="field narrow">${label}
    <input type="number" min="0" max="100" value=${value || ""} placeholder="any"
      onInput=${(event) => set(Math.min(100, Math.max(0, Math.floor(Number(event.target.value) || 0))))} />
  </label>`;
}
