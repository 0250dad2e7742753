// The list of segments. Only rows that can be seen are in the page, however long the recording is.

import { Component, createRef, html } from "../vendor/preact-htm.js";
import { Heights } from "../transcript/heights.js";
import { indexAt, wordAt } from "../transcript/segments.js";
import { Gap, Row } from "./row.js";

const BESIDE_PX = 600; // drawn above and below what is seen
const LINE_PX = 27;
const FRAME_PX = 62;
const LETTER_PX = 8.4;
const HELD_MS = 4000; // after somebody has scrolled, it does not follow for a while

export class Transcript extends Component {
  constructor(props) {
    super(props);
    this.scroller = createRef();
    this.known = new Map();
    this.cursor = null;
    this.wanted = null;
    this.held = 0;
    this.state = { top: 0, height: 800, now: -1, word: -1 };
    this.observer = new ResizeObserver((entries) => this.measured(entries));
    this.watch = (element) => element && this.observer.observe(element);
    this.scrolled = () => this.look();
    this.byHand = () => {
      this.held = Date.now() + HELD_MS;
    };
    this.keepCursor = (cursor) => {
      this.cursor = cursor;
    };
    this.layOut(props);
  }

  componentDidMount() {
    this.props.handle.current = this; // for what others have it do
    this.look();
    this.observer.observe(this.scroller.current);
    this.unlisten = this.props.playing.listen((time, isPlaying) => this.ticked(time, isPlaying));
  }

  componentWillUnmount() {
    this.observer.disconnect();
    this.unlisten();
  }

  componentWillReceiveProps(next) {
    if (next.rows === this.props.rows && next.language === this.props.language) return;
    const same =
      next.language === this.props.language &&
      next.rows.length === this.props.rows.length &&
      next.rows.every((row, i) => row.key === this.props.rows[i].key);
    if (!same) this.layOut(next);
  }

  componentDidUpdate() {
    if (this.wanted) this.focusWanted();
  }

  /** Heights of all rows: those that were seen, and guesses. */
  layOut({ rows, language }) {
    if (language !== this.language) this.known.clear();
    this.language = language;
    const width = Math.max(200, (this.scroller.current?.clientWidth ?? 700) - 150);
    const linesOf = (text) => Math.max(1, Math.ceil((text.length * LETTER_PX) / width));
    this.indexes = new Map(rows.map((row, i) => [row.key, i]));
    this.heights = new Heights(rows.length, (i) => {
      const { key, segment } = rows[i];
      const known = this.known.get(key);
      if (known) return known;
      if (!segment) return FRAME_PX;
      const more = language ? linesOf(segment.translations?.[language]?.text ?? "") : 0;
      return FRAME_PX + LINE_PX * (linesOf(segment.text) + more - 1);
    });
  }

  measured(entries) {
    const box = this.scroller.current;
    let above = 0;
    let changed = false;
    for (const { target, borderBoxSize } of entries) {
      if (target === box) {
        this.look();
        continue;
      }
      const { key } = target.dataset;
      const index = this.indexes.get(key);
      const height = borderBoxSize[0].blockSize;
      if (!target.isConnected || index === undefined || !height) continue;
      this.known.set(key, height);
      const top = this.heights.top(index);
      const more = this.heights.set(index, height);
      if (more) changed = true;
      // what is above must not push what is read
      if (top + height < box.scrollTop) above += more;
    }
    if (above) box.scrollTop += above;
    if (changed) this.forceUpdate();
  }

  look() {
    const box = this.scroller.current;
    if (!box) return;
    const top = Math.floor(box.scrollTop / 100) * 100; // drawn again each 100 pixels
    if (top !== this.state.top || box.clientHeight !== this.state.height) this.setState({ top, height: box.clientHeight });
  }

  /** What is spoken now. */
  ticked(time, isPlaying) {
    const { rows, follow } = this.props;
    const index = this.rowAt(time);
    const segment = rows[index]?.segment;
    const said = segment && time <= segment.end_s + 0.3;
    const now = said ? segment.id : "";
    const word = said ? wordAt(segment, time) : -1;
    if (now === this.state.now && word === this.state.word) return;
    const moved = now && now !== this.state.now;
    this.setState({ now, word });
    const writing = this.scroller.current.contains(document.activeElement) && document.activeElement.matches("textarea");
    if (moved && follow && isPlaying && !writing && Date.now() > this.held) this.bring(index);
  }

  rowAt(time) {
    // rows that are gaps have their begin in another place
    const starts = (this.starts?.rows === this.props.rows ? this.starts : this.makeStarts()).list;
    return indexAt(starts, time);
  }

  makeStarts() {
    const { rows } = this.props;
    this.starts = { rows, list: rows.map((row) => row.segment ?? row.gap) };
    return this.starts;
  }

  /** Scrolls a row to where it is read. */
  bring(index) {
    const box = this.scroller.current;
    const top = this.heights.top(index);
    const height = this.heights.heights[index];
    if (top < box.scrollTop + 20 || top + height > box.scrollTop + box.clientHeight - 60) {
      box.scrollTop = Math.max(0, top - box.clientHeight * 0.25);
    }
    this.look();
  }

  /** Brings a segment into view; with `focus` the cursor goes to that place of its text. */
  show(key, { focus = null, language = "" } = {}) {
    this.wanted = { key, focus, language, tries: 5 };
    this.forceUpdate(); // what is to be shown may be new
    queueMicrotask(() => this.focusWanted());
  }

  focusWanted() {
    const { key, focus, language } = this.wanted ?? {};
    const index = this.indexes.get(key);
    if (index === undefined) {
      if (this.wanted && (this.wanted.tries -= 1) < 0) this.wanted = null;
      return;
    }
    this.bring(index);
    const row = this.scroller.current.querySelector(`[data-key="${CSS.escape(key)}"]`);
    const text = row?.querySelector(language ? ".translation textarea" : "textarea");
    if (!row) {
      this.forceUpdate();
      return;
    }
    this.wanted = null;
    if (focus === null || !text) return;
    text.focus({ preventScroll: true });
    text.setSelectionRange(focus, focus);
    this.cursor = { id: key, language, offset: focus };
  }

  /** The cursor to the segment before or after. */
  step(by) {
    const { rows } = this.props;
    const writing = document.activeElement?.closest?.("[data-key]")?.dataset.key;
    const from = writing ? this.indexes.get(writing) : this.rowAt(this.props.playing.time);
    let to = from + by;
    while (rows[to] && !rows[to].segment) to += by;
    if (!rows[to]) return;
    const { language = "" } = writing ? (this.cursor ?? {}) : {};
    if (writing) this.show(rows[to].key, { focus: 0, language });
    else {
      this.props.playing.seek(rows[to].segment.start_s);
      this.bring(to);
    }
  }

  render({ rows, speakers, known, language, acts, empty }, { top, height, now, word }) {
    const first = this.heights.at(Math.max(0, top - BESIDE_PX));
    const last = Math.min(rows.length - 1, this.heights.at(top + height + BESIDE_PX));
    const shown = [];
    for (let i = first; i <= last && i < rows.length; i += 1) shown.push(i);
    // the row that is written in stays, wherever it is scrolled to
    const held = this.cursor ? this.indexes.get(this.cursor.id) : undefined;
    if (held !== undefined && (held < first || held > last)) shown.push(held);
    const wanted = this.wanted ? this.indexes.get(this.wanted.key) : undefined;
    if (wanted !== undefined && !shown.includes(wanted)) shown.push(wanted);
    shown.sort((a, b) => a - b); // Tab goes by this order
    return html`<div class="list" ref=${this.scroller} onScroll=${this.scrolled} onWheel=${this.byHand} onTouchMove=${this.byHand}>
      ${rows.length === 0 && html`<p class="muted empty-list">${empty ? "Nothing that fits." : "Nothing was said."}</p>`}
      <div class="rows" role="list" aria-label="Segments" style=${{ height: `${this.heights.top(rows.length)}px` }}>
        ${shown.map((i) => {
          const { key, segment, gap } = rows[i];
          const place = { key, rowKey: key, top: this.heights.top(i), number: i + 1, total: rows.length, watch: this.watch, acts };
          return segment
            ? html`<${Row} ...${place} segment=${segment} speakers=${speakers} known=${known} language=${language}
                word=${now === segment.id ? word : -2} keepCursor=${this.keepCursor} />`
            : html`<${Gap} ...${place} gap=${gap} />`;
        })}
      </div>
    </div>`;
  }
}
