// Some seconds around what is heard, as a strip: segments, and speech without text. A click hears it from
// there; the ends of segments can be drawn elsewhere. All of it can be done by keys in the list too.

import { html, useEffect, useMemo, useRef } from "../vendor/preact-htm.js";
import { indexAt } from "../transcript/segments.js";
import { clock } from "../lib/words.js";
import { notify } from "../parts/notices.js";

const SHOWN_S = 20;
const GRIP_PX = 6;
const EDGE_PX = 18; // below the segments, for the times
const NAMES = ["--tone", "--wash", "--line", "--dim", "--ink", "--warn", "--warn-wash", "--sheet"];
const TICKS_S = 5;
const REST_MS = 300;

/** What is drawn, and where a pointer is in it. Lives as long as its canvas. */
class Strip {
  constructor(canvas, { playing, desk, acts }) {
    Object.assign(this, { canvas, playing, desk, acts });
    this.pen = canvas.getContext("2d");
    // asking the canvas for its size would lay out the page
    Object.assign(this, { width: 0, height: 0, drag: null, frame: 0 });
    this.soon = () => {
      this.frame ||= requestAnimationFrame(() => this.draw());
    };
    this.rest = () => {
      clearTimeout(this.timer);
      this.timer = setTimeout(this.soon, REST_MS); // drawing at each key would slow the keys
    };
    this.recolour = () => {
      this.colours = null;
      this.soon();
    };
  }

  begin() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const sized = new ResizeObserver(([{ contentRect }]) => {
      Object.assign(this, { width: contentRect.width, height: contentRect.height });
      this.soon();
    });
    sized.observe(this.canvas);
    dark.addEventListener("change", this.recolour);
    const ends = [this.playing.listen(this.soon), this.desk.watch(this.rest)];
    return () => {
      ends.forEach((end) => end());
      sized.disconnect();
      dark.removeEventListener("change", this.recolour);
      cancelAnimationFrame(this.frame);
      clearTimeout(this.timer);
    };
  }

  /** From and to when it shows. It stands while something is drawn. */
  get window() {
    if (this.drag) return this.drag.window;
    const last = Math.max(SHOWN_S, this.desk.state.about.duration_s ?? 0);
    const from = Math.min(last - SHOWN_S, Math.max(0, this.playing.time - SHOWN_S / 2));
    return [from, from + SHOWN_S];
  }

  at(seconds) {
    const [from, to] = this.window;
    return ((seconds - from) / (to - from)) * this.width;
  }

  secondsAt(x) {
    const [from, to] = this.window;
    return from + (x / this.width) * (to - from);
  }

  /** The segments that are seen. */
  get seen() {
    const { segments } = this.desk.state;
    const [from, to] = this.window;
    const found = [];
    // one that began long ago may go on
    for (let i = Math.max(0, indexAt(segments, from) - 5); i < segments.length && segments[i].start_s < to; i += 1) {
      const one = segments[i];
      if (one.end_s > from) found.push(one.id === this.drag?.id ? { ...one, ...this.drag.times } : one);
    }
    return found;
  }

  draw() {
    this.frame = 0;
    const { canvas, pen, width, height } = this;
    const scale = devicePixelRatio || 1;
    if (!width || !height) return;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    if (!this.colours) {
      const style = getComputedStyle(canvas);
      this.colours = Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(name)]));
      this.font = `12px ${style.fontFamily}`;
    }
    const colour = this.colours;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = this.font;
    const [from, to] = this.window;
    const body = height - EDGE_PX;
    pen.fillStyle = colour["--dim"];
    for (let at = Math.ceil(from / TICKS_S) * TICKS_S; at < to; at += TICKS_S) {
      const text = clock(at);
      const x = this.at(at);
      pen.fillRect(x, body, 1, 4);
      if (x + pen.measureText(text).width < width) pen.fillText(text, x + 3, height - 4);
    }
    for (const gap of this.desk.state.untranscribed) {
      if (gap.end_s <= from || gap.start_s >= to) continue;
      pen.fillStyle = colour["--warn-wash"];
      pen.fillRect(this.at(gap.start_s), 0, this.at(gap.end_s) - this.at(gap.start_s), body);
    }
    const now = this.playing.time;
    let last = -1;
    for (const one of this.seen) {
      const spoken = one.start_s <= now && now < one.end_s;
      const right = Math.floor(this.at(one.end_s) / 2);
      if (right > last || spoken) this.block(one, body, spoken); // of many in two pixels one is seen
      last = right;
    }
    pen.fillStyle = colour["--ink"];
    pen.fillRect(this.at(now) - 1, 0, 2, body + 4);
  }

  block(one, body, spoken) {
    const { pen, colours } = this;
    const [left, right] = [this.at(one.start_s) + 0.5, this.at(one.end_s) - 0.5];
    pen.fillStyle = colours["--wash"];
    if (right - left < 6 && !spoken) {
      pen.fillRect(left, 2, Math.max(1, right - left), body - 4);
      return;
    }
    pen.strokeStyle = spoken ? colours["--tone"] : colours["--line"];
    pen.beginPath();
    pen.roundRect(left, 2, Math.max(2, right - left), body - 4, 4);
    pen.fill();
    pen.stroke();
    if (right - left < 44) return; // a letter or two say nothing
    pen.save();
    pen.beginPath();
    pen.rect(left + 4, 0, right - left - 8, body);
    pen.clip();
    pen.fillStyle = colours["--ink"];
    pen.textBaseline = "middle";
    pen.fillText(one.text, left + 5, body / 2);
    pen.restore();
  }

  /** The end of a segment that is under a pointer: `{id, end}`; null for none. */
  grip(x) {
    let best = null;
    for (const one of this.seen) {
      for (const end of ["start_s", "end_s"]) {
        const far = Math.abs(this.at(one[end]) - x);
        if (far <= GRIP_PX && far < (best?.far ?? Infinity)) best = { id: one.id, end, far, one };
      }
    }
    return best;
  }

  down(event) {
    const grip = this.grip(event.offsetX);
    if (!grip) {
      this.playing.seek(this.secondsAt(event.offsetX));
      return;
    }
    const window = this.window;
    const { start_s, end_s } = grip.one;
    this.drag = { ...grip, window, from: event.offsetX, times: { start_s, end_s } };
    this.canvas.setPointerCapture(event.pointerId);
  }

  move(event) {
    if (!this.drag) {
      this.canvas.classList.toggle("grip", this.grip(event.offsetX) !== null);
      return;
    }
    const { one, end, from } = this.drag;
    const moved = one[end] + this.secondsAt(event.offsetX) - this.secondsAt(from);
    this.drag.times = { ...this.drag.times, [end]: Math.max(0, moved) };
    this.soon();
  }

  up() {
    const { id, one, times } = this.drag ?? {};
    this.drag = null;
    this.soon();
    if (!one || (times.start_s === one.start_s && times.end_s === one.end_s)) return;
    const why = this.acts.times(id, times.start_s, times.end_s);
    if (why) notify(why, "bad");
  }

  leave() {
    this.drag = null;
    this.soon();
  }
}

export function Timeline({ playing, desk, acts }) {
  const canvas = useRef(null);
  const strip = useRef(null);
  useEffect(() => {
    strip.current = new Strip(canvas.current, { playing, desk, acts });
    return strip.current.begin();
  }, [desk]);
  const on = useMemo(() => ({
    down: (event) => strip.current.down(event),
    move: (event) => strip.current.move(event),
    up: (event) => strip.current.up(event),
    leave: () => strip.current.leave(),
  }), []);
  return html`<canvas class="timeline" ref=${canvas} role="img" aria-label="The segments around what is heard"
    onPointerDown=${on.down} onPointerMove=${on.move} onPointerUp=${on.up} onPointerCancel=${on.leave}></canvas>`;
}
