// The recording: video or sound, with the transcript as captions.

import { html, useEffect, useRef, useState } from "../vendor/preact-htm.js";
import { indexAt, translationOf } from "../transcript/segments.js";
import { direction } from "../lib/words.js";

const LINGER_S = 1;

export function Player({ playing, server, desk, language, title }) {
  // the recording itself; where the browser cannot play it, its sound; or a file that the person has
  const [source, setSource] = useState({ kind: "media", url: server.media });
  const [wrong, setWrong] = useState("");
  const [picture, setPicture] = useState(true);
  const [ready, setReady] = useState(false); // for playing
  const media = useRef(null);
  const stage = useRef(null);
  const input = useRef(null);
  useEffect(() => {
    playing.use(media.current);
    return () => playing.use(null);
  }, [source.url]);
  useEffect(() => () => source.kind === "file" && URL.revokeObjectURL(source.url), [source.url]);

  const toSound = () => {
    playing.wanted = playing.time;
    setSource({ kind: "sound", url: server.sound });
    setReady(false);
    setPicture(false);
  };
  const failed = () => {
    if (source.kind === "media") toSound();
    else setWrong(source.kind === "sound" ? "The recording cannot be played here." : "This file cannot be played here.");
  };
  const loaded = () => {
    setWrong("");
    setReady(true);
    const { videoWidth, duration } = media.current;
    setPicture(videoWidth > 0);
    // a container that opens, with nothing in it that this browser knows
    if (source.kind === "media" && !(duration > 0)) toSound();
  };
  const own = (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    playing.wanted = playing.time;
    setSource({ kind: "file", url: URL.createObjectURL(file) });
  };
  const large = () => (document.fullscreenElement ? document.exitFullscreen() : stage.current.requestFullscreen());

  return html`
    <div class=${`stage ${picture ? "" : "sound"}`} ref=${stage}>
      <video key=${source.url} ref=${media} src=${source.url} controls playsinline preload="metadata" aria-label=${title}
        controlslist="nofullscreen" onError=${failed} onLoadedMetadata=${loaded}></video>
      <${Captions} playing=${playing} desk=${desk} language=${language} />
    </div>
    <div class="row player-row">
      ${picture && html`<button class="plain" onClick=${large}>Full screen</button>`}
      <button class="plain" onClick=${() => input.current.click()}>Play a file of mine…</button>
      <input ref=${input} type="file" hidden accept="audio/*,video/*,.mkv" aria-label="File to play" onChange=${own} />
    </div>
    ${source.kind === "sound" && !wrong && html`<p class="muted small" role="status">This browser cannot play the recording itself, so that its sound is played.${
      !ready && " It is made the first time, which takes about a minute for a film of two hours."}</p>`}
    ${wrong && html`<p class="bad small" role="alert">${wrong}</p>`}
  `;
}

/** What is said now, as it stands in the transcript at this moment. */
function Captions({ playing, desk, language }) {
  const [now, setNow] = useState(null);
  useEffect(() => {
    const look = () => {
      const { segments } = desk.state;
      const segment = segments[indexAt(segments, playing.time)];
      setNow(segment && playing.time <= segment.end_s + LINGER_S ? segment : null);
    };
    const ends = [playing.listen(look), desk.watch(look)];
    return () => ends.forEach((end) => end());
  }, []);
  const translated = language && translationOf(now, language);
  const [text, tag] = translated ? [translated, language] : [now?.text, now?.language];
  return html`<div class="captions">${text && html`<p lang=${tag} dir=${direction(tag)}>${text}</p>`}</div>`;
}
