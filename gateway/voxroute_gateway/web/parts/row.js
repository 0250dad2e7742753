// One segment: when, who, what, and what it is in the language that is shown.

import { Component, html } from "../vendor/preact-htm.js";
import { lines, speed } from "../transcript/reading.js";
import { doubts, reasonOf, speakerName } from "../transcript/rows.js";
import { wordPlaces } from "../transcript/segments.js";
import { clock, direction, languageName } from "../lib/words.js";
import { Times } from "./times.js";

const UNSURE = 0.5;

/** Drawn again only where something of it has changed. */
class Steady extends Component {
  shouldComponentUpdate(next) {
    for (const name in next) if (name !== "children" && next[name] !== this.props[name]) return true;
    return false;
  }
}

export class Row extends Steady {
  constructor(props) {
    super(props);
    this.take = (element) => {
      this.element = element;
      props.watch(element);
    };
  }

  render({ segment, rowKey, top, number, total, speakers, known, language, word, acts, keepCursor }) {
    const translation = language ? (segment.translations?.[language] ?? { text: "" }) : null;
    const told = doubts(segment, language);
    const at = clock(segment.start_s);
    return html`<div class=${`segment ${word > -2 ? "now" : ""}`} role="listitem" aria-posinset=${number} aria-setsize=${total}
      data-key=${rowKey} ref=${this.take} style=${{ top: `${top}px` }}>
      <div class="side">
        <button class="time" aria-label=${`Play from ${at}`} onClick=${() => acts.play(segment.start_s)}>${at}</button>
        ${(known.length > 0 || segment.speaker) && html`<select class="speaker" aria-label=${`Speaker at ${at}`}
          value=${segment.speaker ?? ""} onChange=${(event) => acts.speaker(segment.id, event.target.value)}>
          ${!segment.speaker && html`<option value="">Nobody</option>`}
          ${known.map((one) => html`<option key=${one} value=${one}>${speakerName(one, speakers)}</option>`)}
          <option value="new">Another speaker</option>
        </select>`}
      </div>
      <div class="texts">
        <${Text} id=${segment.id} language="" tag=${segment.language} value=${segment.text} acts=${acts} keepCursor=${keepCursor}
          label=${`Text at ${at}`} words=${segment.words} segment=${segment} word=${word} />
        ${translation && html`<${Text} id=${segment.id} language=${language} tag=${language} value=${translation.text ?? ""} acts=${acts}
          keepCursor=${keepCursor} label=${`${languageName(language)} at ${at}`} stale=${translation.stale} />`}
        <div class="notes">
          ${told.map((text) => html`<span class="chip doubt" key=${text}>${text}</span>`)}
          ${translation?.stale && html`<span class="chip stale">${segment.text ? "text changed since" : "not in the subtitles: no text"}</span>`}
          <${Reading} text=${translation?.text || segment.text} seconds=${segment.end_s - segment.start_s}
            tag=${translation?.text ? language : segment.language} />
          <${Times} id=${segment.id} start=${segment.start_s} end=${segment.end_s} acts=${acts} />
        </div>
      </div>
      <button class="plain icon remove" aria-label=${`Remove the segment at ${at}`} onClick=${() => acts.remove(segment.id)}>×</button>
    </div>`;
  }
}

/** How fast it has to be read, and how long its lines are; quiet while both are all right. */
function Reading({ text, seconds, tag }) {
  const { rate, tooFast, most } = speed(text, seconds, tag);
  const cut = lines(text);
  const shown = tooFast ? "warn" : "";
  return html`<span class=${`reading ${shown}`} title=${`Up to ${most} characters a second, ${cut.most} a line`}>
    ${rate >= 0.5 ? `${rate.toFixed(rate < 10 ? 1 : 0)} letters/s` : ""}${tooFast ? ", too fast to read" : ""}
    <span class="lines"> · ${cut.count === 1 ? "1 line" : `${cut.count} lines`} of up to ${cut.longest}</span>
  </span>`;
}

/** A text that grows with what is written: the same text stands behind it, which also marks words. */
class Text extends Steady {
  constructor(props) {
    super(props);
    this.input = (event) => {
      const { acts, id, language } = this.props;
      this.cursor(event);
      acts.write(id, language, event.target.value.replace(/\s*\n\s*/g, " "));
    };
    this.cursor = (event) => {
      const { keepCursor, id, language } = this.props;
      keepCursor({ id, language, offset: event.target.selectionStart });
    };
    this.pointed = (event) => {
      this.cursor(event);
      const { segment, acts } = this.props;
      if (!segment || event.target.selectionStart !== event.target.selectionEnd) return;
      const offset = event.target.selectionStart;
      const index = wordPlaces(segment).findLastIndex((place) => place && place[0] <= offset);
      acts.seek(index < 0 ? segment.start_s : segment.words[index].start_s);
    };
    this.pressed = (event) => {
      const { acts, id, language, value } = this.props;
      const { selectionStart: from, selectionEnd: to } = event.target;
      if (language || from !== to) return;
      if (event.key === "Backspace" && from === 0) acts.merge(id, -1);
      else if (event.key === "Delete" && from === value.length) acts.merge(id, 1);
      else return;
      event.preventDefault();
    };
  }

  render({ value, tag, label, language, segment, word, stale }) {
    const look = { lang: tag || undefined, dir: direction(tag) };
    return html`<div class=${`text ${language ? "translation" : ""} ${stale ? "old" : ""}`}>
      <div class="mirror" aria-hidden="true" ...${look}>${segment ? marked(segment, word) : value}${"\u200b"}</div>
      <textarea class="words" rows="1" maxlength="5000" ...${look} aria-label=${label} value=${value} spellcheck="true"
        onInput=${this.input} onKeyUp=${this.cursor} onFocus=${this.cursor} onPointerUp=${this.pointed} onKeyDown=${this.pressed}></textarea>
    </div>`;
  }
}

/** The text with its unsure words and the one that is spoken now in marks. */
function marked(segment, word) {
  const words = segment.words ?? [];
  if (word < 0 && !words.some((one) => one.probability < UNSURE)) return segment.text;
  const parts = [];
  let at = 0;
  wordPlaces(segment).forEach((place, i) => {
    const unsure = words[i].probability < UNSURE;
    if (!place || (i !== word && !unsure)) return;
    parts.push(segment.text.slice(at, place[0]));
    const kind = `${i === word ? "spoken" : ""} ${unsure ? "unsure" : ""}`.trim();
    parts.push(html`<mark class=${kind}>${segment.text.slice(...place)}</mark>`);
    at = place[1];
  });
  return [...parts, segment.text.slice(at)];
}

/** A stretch of speech without text. */
export class Gap extends Steady {
  render({ gap, rowKey, top, number, total, watch, acts }) {
    const at = clock(gap.start_s);
    return html`<div class="segment gap" role="listitem" aria-posinset=${number} aria-setsize=${total} data-key=${rowKey}
      ref=${watch} style=${{ top: `${top}px` }}>
      <div class="side">
        <button class="time" aria-label=${`Play from ${at}`} onClick=${() => acts.play(gap.start_s)}>${at}</button>
      </div>
      <div class="texts">
        <p class="muted">${reasonOf(gap)}, ${(gap.end_s - gap.start_s).toFixed(1)} s
          <button class="plain" onClick=${() => acts.add(gap)}>Write it down</button></p>
      </div>
    </div>`;
  }
}
