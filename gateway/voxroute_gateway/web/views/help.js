// Keys, and what other programs have to be told.

import { html } from "../vendor/preact-htm.js";
import { KEYS } from "../transcript/keys.js";

const PROGRAMS = [
  ["OpenAI's clients, and programs for compatible servers", "/v1", "token, or anything", "whisper-1"],
  ["Subtitle Edit, speech to text: OpenAI Compatible Server", "/v1/audio/transcriptions", "token, or none", "whisper-1"],
  ["Subtitle Edit, auto-translate: LibreTranslate", "/", "token, or none", ""],
  ["Bazarr, provider Whisper", "", "none: it sends no key", ""],
  ["Bazarr, translator Lingarr", "", "token, or none", ""],
  ["Open WebUI, speech to text: OpenAI", "/v1", "token, or anything", "whisper-1"],
];

const Keys = ({ list }) => list.map((one, i) => html`${i > 0 && " or "}<kbd>${one}</kbd>`);

export function HelpView() {
  return html`
    <div class="title"><h1>Help</h1></div>
    <section class="prose">
      <h2>From a film to subtitles</h2>
      <ol>
        <li>Under New, drop the film and say what is spoken and which subtitles are wanted.</li>
        <li>Under Jobs, watch it. The page may be closed meanwhile.</li>
        <li>Open the job. Click a word to hear it, and write to correct it. It is saved by itself.</li>
        <li>Export it, in each language and format.</li>
      </ol>
      <p>What is not saved yet is kept in this browser, also while the gateway is away, and sent again.</p>
      <h2 id="keys">Keys</h2>
      <div class="scroll" tabindex="0" role="region" aria-labelledby="keys">
      <table>
        <thead><tr><th scope="col">What</th><th scope="col">Outside the text</th><th scope="col">Also in the text</th></tr></thead>
        <tbody>${KEYS.map(({ does, keys, and, text }) => html`<tr key=${does}>
          <th scope="row">${text}</th><td><${Keys} list=${keys} /></td><td><${Keys} list=${and} /></td></tr>`)}</tbody>
      </table>
      </div>
      <p class="muted">F1 to F4 and Esc are those of oTranscribe. On a Mac, Cmd does what Ctrl does.</p>
      <h2 id="programs">Other programs</h2>
      <div class="scroll" tabindex="0" role="region" aria-labelledby="programs">
      <table>
        <thead><tr><th scope="col">Program</th><th scope="col">Address</th><th scope="col">Key</th><th scope="col">Model</th></tr></thead>
        <tbody>${PROGRAMS.map(([name, path, key, model]) => html`<tr key=${name}>
          <th scope="row">${name}</th><td><code>${location.origin}${path}</code></td><td>${key}</td><td>${model && html`<code>${model}</code>`}</td></tr>`)}</tbody>
      </table>
      </div>
    </section>
  `;
}
