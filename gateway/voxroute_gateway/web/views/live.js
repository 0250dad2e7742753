// What is spoken now: the microphone into text, settled text plain and what may still change dim.

import { html, useEffect, useMemo, useRef, useState } from "../vendor/preact-htm.js";
import { LANGUAGES, tagOf } from "../lib/languages.js";
import { openMicrophone } from "../live/microphone.js";
import { Speaking } from "../live/speaking.js";
import { useStore } from "../lib/store.js";
import { direction, languageName } from "../lib/words.js";

const KEPT = "voxroute:live";
const SAID = { off: "", connecting: "Connecting…", on: "Listening", away: "The connection is lost; what you say is kept for half a minute.", ending: "Finishing…" };

function kept() {
  try {
    return JSON.parse(localStorage.getItem(KEPT)) ?? {};
  } catch {
    return {};
  }
}

export function LiveView() {
  const before = useMemo(kept, []);
  const speaking = useMemo(() => new Speaking({ kept: before.lines }), []);
  const { lines, tentative, state, why, lost } = useStore(speaking);
  const [language, setLanguage] = useState(before.language ?? "");
  const [wrong, setWrong] = useState("");
  const microphone = useRef(null);
  const end = useRef(null);
  const tag = tagOf(language) ?? "";
  const on = state !== "off";

  useEffect(() => {
    try {
      localStorage.setItem(KEPT, JSON.stringify({ language, lines: lines.map((one) => ({ ...one, done: true })) }));
    } catch {
      // no room: it can still be downloaded
    }
    end.current?.scrollIntoView({ block: "nearest" });
  }, [lines, tentative, language]);
  const close = () => {
    microphone.current?.();
    microphone.current = null;
  };
  useEffect(() => () => {
    close();
    speaking.stop();
  }, []);

  const start = async () => {
    setWrong("");
    if (!navigator.mediaDevices) {
      setWrong("A browser lets a page hear the microphone only by https, or on this computer itself.");
      return;
    }
    try {
      speaking.start(tag);
      microphone.current = await openMicrophone((piece) => speaking.send(piece));
    } catch (error) {
      speaking.stop();
      setWrong(error.name === "NotAllowedError" ? "The browser does not let this page hear the microphone."
        : error.name === "NotFoundError" ? "There is no microphone." : error.message);
    }
  };
  const stop = () => {
    close();
    speaking.stop();
  };
  const text = lines.map((one) => one.text).join("\n");
  const download = () => {
    const url = URL.createObjectURL(new Blob([`${text}\n`], { type: "text/plain" }));
    const link = Object.assign(document.createElement("a"), { href: url, download: "live.txt" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  };
  return html`
    <div class="title"><h1>Live</h1><span class=${`state ${state === "on" ? "running" : ""}`} role="status">${SAID[state]}</span></div>
    <div class="row live-row">
      <label class="field narrow">Spoken
        <input list="live-languages" value=${language} disabled=${on} placeholder="Detected"
          aria-invalid=${language && !tag ? "true" : undefined} onInput=${(event) => setLanguage(event.target.value)} />
        <datalist id="live-languages">${LANGUAGES.map((one) => html`<option key=${one.tag} value=${one.name}>${one.tag}</option>`)}</datalist>
      </label>
      ${on ? html`<button class="main" onClick=${stop}>Stop</button>` : html`<button class="main" onClick=${start}>Start the microphone</button>`}
      ${text && html`<button onClick=${download}>Save as text</button>`}
      ${text && !on && html`<button class="plain" onClick=${() => speaking.clear()}>Clear</button>`}
    </div>
    ${language && !tag && html`<p class="bad" role="alert">“${language}” is no language that is known here.</p>`}
    ${wrong && html`<p class="banner bad" role="alert">${wrong}</p>`}
    ${why && html`<p class="bad" role="alert">${why}</p>`}
    ${lost >= 1 && html`<p class="bad" role="alert">${Math.round(lost)} s were said while there was no connection, and are lost.</p>`}
    <section class="live" aria-label="What is said" aria-live="polite" lang=${tag || undefined} dir=${direction(tag)} tabindex="0">
      ${lines.map((one, i) => html`<p key=${one.id}>${one.text}${i === lines.length - 1 && !one.done && tentative
        ? html` <span class="tentative">${tentative}</span>` : ""}</p>`)}
      ${tentative && (!lines.length || lines.at(-1).done) && html`<p><span class="tentative">${tentative}</span></p>`}
      ${!lines.length && !tentative && html`<p class="muted" lang="en" dir="ltr">${on ? "Say something." : `What is said into the microphone is written here${tag ? `, in ${languageName(tag)}` : ""}.`}</p>`}
      <span ref=${end}></span>
    </section>
  `;
}
