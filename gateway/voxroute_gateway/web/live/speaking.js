// Live speech by the gateway's realtime API: samples out, text in. It connects again where it is cut off,
// and sends what was said meanwhile.

import { Store } from "../lib/store.js";

const TRANSCRIPTION = "conversation.item.input_audio_transcription";
const KEPT_PIECES = 300; // 30 s, while there is no connection
const PIECE_S = 0.1;
const AGAIN_MS = [500, 1000, 2000, 4000];
const LAST_WORDS_MS = 4000;

/** Its state: `lines` of settled text, each `{id, text, done, start, end, language}`, times in seconds of all
 * that was heard; `tentative` (what may follow), `state` ("off", "connecting", "on", "away", "ending"), `why`,
 * and `lost`, the seconds that could not be kept. */
export class Speaking extends Store {
  constructor({ connect = socketTo, kept = [] } = {}) {
    super({ lines: kept, tentative: "", state: "off", why: "", lost: 0 });
    this.connect = connect;
    this.waiting = [];
    this.heardS = Math.max(0, ...kept.map((one) => one.end ?? 0));
    this.times = {};
  }

  /** Begins; `languages` may be spoken, none where it is to be detected. */
  start(languages) {
    this.languages = languages;
    this.failures = 0;
    this.run = (this.run ?? 0) + 1;
    this.set({ state: "connecting", why: "", lost: 0 });
    this.#open();
  }

  #open() {
    const socket = this.connect();
    this.socket = socket;
    this.beginS = null;
    socket.onmessage = ({ data }) => this.heard(JSON.parse(data));
    socket.onclose = () => this.#closed(socket);
  }

  /** A piece of sound, an ArrayBuffer. */
  send(piece) {
    if (this.state.state === "off") return;
    this.waiting.push({ piece, at: this.heardS });
    this.heardS += PIECE_S;
    if (this.state.state === "on") this.#flush();
    while (this.waiting.length > KEPT_PIECES) {
      this.waiting.shift();
      this.set({ lost: this.state.lost + PIECE_S });
    }
  }

  #flush() {
    for (const { piece, at } of this.waiting.splice(0)) {
      this.beginS ??= at;
      this.socket.send(JSON.stringify({ type: "input_audio_buffer.append", audio: base64(piece) }));
    }
  }

  /** Ends it; what was said before is still written down. */
  stop() {
    if (this.state.state === "off") return;
    if (this.state.state !== "on") {
      this.#off();
      return;
    }
    this.set({ state: "ending" });
    // silence ends the utterance, and then its text comes
    for (let i = 0; i < 10; i += 1) this.waiting.push({ piece: new ArrayBuffer(4800), at: this.heardS });
    this.#flush();
    const run = this.run;
    setTimeout(() => run === this.run && this.#off(), LAST_WORDS_MS);
  }

  #off() {
    this.waiting = [];
    clearTimeout(this.timer);
    this.#settle("off");
    this.socket?.close();
    this.socket = null;
  }

  #closed(socket) {
    if (socket !== this.socket) return;
    if (["off", "ending"].includes(this.state.state)) {
      this.#off();
      return;
    }
    const after = AGAIN_MS[Math.min(this.failures, AGAIN_MS.length - 1)];
    this.failures += 1;
    this.#settle("away");
    this.timer = setTimeout(() => this.#open(), after);
  }

  /** Nothing more comes for the lines that there are. */
  #settle(state) {
    const ended = (one) => (one.done ? one : { ...one, done: true, end: this.times[one.id]?.end ?? this.heardS });
    this.set((now) => ({ state, tentative: "", lines: now.lines.map(ended) }));
    this.times = {};
  }

  /** An event of the gateway. */
  heard(event) {
    switch (event.type) {
      case "session.created":
        this.socket.send(JSON.stringify(session(this.languages)));
        break;
      case "session.updated":
        this.failures = 0;
        this.set({ state: "on", why: "" });
        this.#flush();
        break;
      case "input_audio_buffer.speech_started":
        this.times[event.item_id] = { start: this.beginS + event.audio_start_ms / 1000 };
        break;
      case "input_audio_buffer.speech_stopped":
        this.times[event.item_id] = { ...this.times[event.item_id], end: this.beginS + event.audio_end_ms / 1000 };
        break;
      case `${TRANSCRIPTION}.delta`:
        this.#line(event.item_id, (one) => ({ ...one, text: one.text + event.delta }));
        this.set({ tentative: "" });
        break;
      case `${TRANSCRIPTION}.completed`:
        this.#line(event.item_id, (one) => ({
          ...one, text: event.transcript, done: true, end: this.times[one.id]?.end ?? this.heardS,
          language: event.languages?.length === 1 ? event.languages[0].code : "",
        }));
        delete this.times[event.item_id];
        this.set((now) => ({ tentative: "", lines: now.lines.filter((one) => one.text || !one.done) }));
        break;
      case "voxroute.tentative":
        this.set({ tentative: event.text });
        break;
      case "error":
        this.set({ why: event.error?.message ?? "" });
        break;
      default:
    }
  }

  #line(id, change) {
    const { lines } = this.state;
    const known = lines.some((one) => one.id === id);
    const next = known ? lines : [...lines, { id, text: "", done: false, start: this.times[id]?.start ?? this.heardS }];
    this.set({ lines: next.map((one) => (one.id === id ? change(one) : one)) });
  }

  clear() {
    this.heardS = 0;
    this.set({ lines: [], tentative: "", lost: 0 });
  }
}

function session(languages) {
  return {
    type: "session.update",
    session: {
      type: "transcription",
      include: ["voxroute.tentative"],
      audio: {
        input: {
          format: { type: "audio/pcm", rate: 24_000 },
          transcription: languages.length ? { languages } : {},
          turn_detection: { type: "server_vad", silence_duration_ms: 600 },
        },
      },
    },
  };
}

function socketTo() {
  const url = new URL("/v1/realtime?intent=transcription", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  return new WebSocket(url, "realtime");
}

function base64(buffer) {
  let text = "";
  for (const byte of new Uint8Array(buffer)) text += String.fromCharCode(byte);
  return btoa(text);
}
