// Subtitles and texts to take along: made of the newest revision, whoever has saved it.

import { html, useState } from "../vendor/preact-htm.js";
import { useStore } from "../lib/store.js";
import { languageName, size } from "../lib/words.js";
import { Dialog } from "./dialog.js";
import { History } from "./history.js";

const FORMATS = [
  ["srt", "SubRip", "for nearly every player"],
  ["vtt", "WebVTT", "for web pages"],
  ["ass", "ASS", "with styles"],
  ["ttml", "TTML", "for broadcasters"],
  ["json", "JSON", "cues for programs"],
  ["txt", "Text", "to read"],
];

/** What the job itself has made, as it was before anybody edited it; links for all of it. */
export function Files({ job }) {
  if (!job.artifacts?.length) return null;
  return html`<details>
    <summary>Files of the job, unedited</summary>
    ${job.config.mux && html`<p class="muted">The copy of the recording has the subtitles as they were before anybody edited them.</p>`}
    <ul class="made">
      ${job.artifacts.map(({ name, bytes }) => html`<li key=${name}>
        <a download dir="auto" href=${`/api/jobs/${encodeURIComponent(job.id)}/artifacts/${encodeURIComponent(name)}`}>${name}</a>
        <span class="muted">${size(Number(bytes))}</span>
      </li>`)}
    </ul>
  </details>`;
}

export function Exporting({ job, server, desk, languages, close }) {
  const { about, saving } = useStore(desk);
  const spoken = (about.source_languages ?? []).map(languageName).join(", ") || "Spoken language";
  const [language, setLanguage] = useState(languages[0] ?? "");
  return html`<${Dialog} title="Export" close=${close}>
    <fieldset class="choices">
      <legend>Language</legend>
      ${[["", `${spoken} (spoken)`], ...languages.map((tag) => [tag, languageName(tag)])].map(([tag, name]) => html`<label class="check" key=${tag}>
        <input type="radio" name="language" checked=${language === tag} onChange=${() => setLanguage(tag)} /><span>${name}</span>
      </label>`)}
    </fieldset>
    <ul class="downloads">
      ${FORMATS.map(([format, name, hint]) => html`<li key=${format}>
        <a class="button" download href=${server.exported(format, language)}>${name}</a>
        <span class="muted">${hint}</span>
      </li>`)}
    </ul>
    <${Files} job=${job} />
    <${History} job=${job} />
    ${saving !== "saved" && html`<p class="muted">What was written after the last save is not in it.</p>`}
  <//>`;
}
