// What is spoken now: a microphone, a tab or a screen into text, settled text plain and what may still change dim,
// and into other languages below it.

import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import { useStore } from "../lib/store.js";
import { clock, direction, languageName } from "../lib/words.js";
import { live } from "../live/live.js";
import { MOST_S } from "../live/recording.js";
import { microphone, screen } from "../live/sources.js";
import { srt } from "../live/srt.js";
import { Question } from "../parts/dialog.js";
import { LanguageList, Languages } from "../parts/languages.js";
import { OnTheirWay } from "../parts/on_their_way.js";

const SAID = { off: "", connecting: "Connecting…", on: "Listening", away: "The connection is lost; what you say is kept for half a minute.", ending: "Finishing…" };

export function LiveView() {
  const { spoken, targets, asking, wrong } = useStore(live);
  const { lines, state, why, lost } = useStore(live.speaking);
  const { of } = useStore(live.translating);
  const kept = useStore(live.recording);
  const [sure, setSure] = useState(false);
  const clear = () => (kept.unsaved ? setSure(true) : live.clear());
  const on = state !== "off";
  useEffect(() => {
    live.translate();
    return () => live.stop();
  }, []);
  const failed = lines.some((one) => targets.some((tag) => of[one.id]?.[tag]?.why));
  return html`
    <div class="title"><h1>Live</h1><span class=${`state ${state === "on" ? "running" : ""}`} role="status">${SAID[state]}</span></div>
    <div class="columns">
      <${Languages} label="Spoken" hint="Leave it empty to have it detected." tags=${spoken} disabled=${on || asking}
        change=${(tags) => live.set({ spoken: tags })} />
      <${Languages} label="Translated into" hint="Below each utterance, once it is whole." tags=${targets}
        change=${(tags) => live.set({ targets: tags })} />
    </div>
    <${LanguageList} />
    <div class="row live-row">
      ${on ? html`<button class="main" onClick=${() => live.stop()}>Stop</button>` : html`
        <button class="main" disabled=${asking} onClick=${() => live.start(microphone)}>Start the microphone</button>
        <button disabled=${asking} onClick=${() => live.start(screen)}>Start a tab or screen</button>`}
      ${failed && html`<button onClick=${() => live.again()}>Translate again what failed</button>`}
      ${(lines.length > 0 || kept.seconds > 0) && !on && html`<button class="plain" onClick=${clear}>Clear</button>`}
    </div>
    <${Saving} lines=${lines} targets=${targets} of=${of} kept=${kept} />
    ${wrong && html`<p class="banner bad" role="alert">${wrong}</p>`}
    ${why && html`<p class="bad" role="alert">${why}</p>`}
    ${lost >= 1 && html`<p class="bad" role="alert">${Math.round(lost)} s were said while there was no connection, and are lost.</p>`}
    <${OnTheirWay} />
    ${sure && html`<${Question} title="Clear all of it?" yes="Clear" close=${() => setSure(false)} act=${() => live.clear()}
      text=${`The sound of ${clock(kept.seconds)} is in no job. It is lost, and the text too.`} />`}
    <${Said} on=${on} spoken=${spoken} targets=${targets} />
  `;
}

/** What can be taken along: the sound as a job, the text as files. */
function Saving({ lines, targets, of, kept }) {
  const { saving } = useStore(live);
  if (!lines.length && !kept.seconds) return null;
  // what is still said ends now
  const words = lines.filter((one) => one.text).map((one) => (one.done ? one : { ...one, end: live.speaking.heardS }));
  const translated = (tag) => words.flatMap((one) => {
    const known = of[one.id]?.[tag];
    return known?.text ? [{ ...one, text: known.text }] : [];
  });
  return html`<div class="row live-row">
    ${kept.seconds > 0 && html`<button disabled=${saving || !kept.unsaved} onClick=${() => live.save()}>Save as a job</button>`}
    ${words.length > 0 && html`
      <button onClick=${() => download("live.txt", textOf(words, targets, of))}>Save as text</button>
      <button onClick=${() => download("live.srt", srt(words))}>Save as SRT</button>
      ${targets.map((tag) => html`<button key=${tag} disabled=${!translated(tag).length}
        onClick=${() => download(`live.${tag}.srt`, srt(translated(tag)))}>SRT in ${languageName(tag)}</button>`)}`}
    ${kept.seconds > 0 && html`<span class=${`small number ${kept.full ? "bad" : "muted"}`} role=${kept.full ? "alert" : undefined}>${kept.full
      ? `The first ${clock(MOST_S)} of sound are kept, and no more; save them as a job and clear.`
      : `${clock(kept.seconds)} of sound kept in this page, of ${clock(MOST_S)} at most${kept.unsaved ? "" : "; it is in a job"}.`}</span>`}
  </div>`;
}

function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function Said({ on, spoken, targets }) {
  const { lines, tentative } = useStore(live.speaking);
  const { of } = useStore(live.translating);
  const end = useRef(null);
  useEffect(() => end.current?.scrollIntoView({ block: "nearest" }), [lines, tentative, of]);
  const tag = spoken.length === 1 ? spoken[0] : "";
  const open = lines.length > 0 && !lines.at(-1).done;
  return html`<section class="live" aria-label="What is said" aria-live="polite" tabindex="0">
    ${lines.map((one) => html`<div key=${one.id}>
      <p lang=${one.language || tag || undefined} dir=${direction(one.language || tag)}>${one.text}${
        open && one === lines.at(-1) && tentative ? html` <span class="tentative">${tentative}</span>` : ""}</p>
      ${targets.map((target) => html`<${Translated} key=${target} tag=${target} known=${of[one.id]?.[target]} />`)}
    </div>`)}
    ${tentative && !open && html`<p lang=${tag || undefined} dir=${direction(tag)}><span class="tentative">${tentative}</span></p>`}
    ${!lines.length && !tentative && html`<p class="muted">${on ? "Say something."
      : `What is said into the microphone, or in a tab or on a screen, is written here${tag ? `, in ${languageName(tag)}` : ""}.`}</p>`}
    <span ref=${end}></span>
  </section>`;
}

function Translated({ tag, known }) {
  if (!known || known.same) return null;
  if (known.why) return html`<p class="translated bad">Not translated to ${languageName(tag)}: ${known.why}</p>`;
  if (known.text === undefined) return html`<p class="translated tentative" aria-hidden="true">…</p>`;
  return html`<p class="translated" lang=${tag} dir=${direction(tag)}>${known.text}</p>`;
}

/** All of it for a file: each utterance, and its translations below it. */
function textOf(lines, targets, of) {
  const blocks = lines.map((one) => [one.text, ...targets.map((tag) => of[one.id]?.[tag]).filter((known) => known?.text && !known.same)
    .map((known) => known.text)].join("\n"));
  return `${blocks.join(targets.length ? "\n\n" : "\n")}\n`;
}
