// The player as the page steers it: what plays, where it is, how fast.

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 2, 3];

/** Steers a media element, and tells `tick` where it is while it plays. */
export class Playing {
  constructor() {
    this.media = null;
    this.listeners = new Set();
    this.frame = 0;
    this.wanted = null;
    this.tell = () => {
      for (const listener of this.listeners) listener(this.time, this.isPlaying);
    };
    this.run = () => {
      this.tell();
      this.frame = this.isPlaying ? requestAnimationFrame(this.run) : 0;
    };
  }

  /** Takes an element, or null. A time that was set before it could play is kept. */
  use(media) {
    this.stop?.();
    this.media = media;
    if (!media) return;
    const begin = () => {
      if (!this.frame) this.run();
    };
    const ready = () => {
      if (this.wanted !== null) media.currentTime = this.wanted;
      this.wanted = null;
    };
    const events = { play: begin, seeked: this.tell, pause: this.tell, loadedmetadata: ready };
    for (const [name, act] of Object.entries(events)) media.addEventListener(name, act);
    this.stop = () => {
      cancelAnimationFrame(this.frame);
      this.frame = 0;
      for (const [name, act] of Object.entries(events)) media.removeEventListener(name, act);
    };
  }

  listen(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  get time() {
    return this.wanted ?? this.media?.currentTime ?? 0;
  }

  get isPlaying() {
    return Boolean(this.media && !this.media.paused && !this.media.ended);
  }

  seek(seconds) {
    const to = Math.max(0, seconds);
    if (this.media && this.media.readyState > 0) this.media.currentTime = to;
    else this.wanted = to;
    this.tell();
  }

  skip(seconds) {
    this.seek(this.time + seconds);
  }

  play() {
    this.media?.play().catch(() => {}); // a recording that cannot be played says so itself
  }

  toggle() {
    if (this.isPlaying) this.media.pause();
    else this.play();
  }

  /** The next speed above or below; returns it. */
  faster(steps) {
    if (!this.media) return 1;
    const now = SPEEDS.findIndex((one) => one >= this.media.playbackRate - 0.01);
    const next = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, (now < 0 ? 2 : now) + steps))];
    this.media.playbackRate = next;
    return next;
  }
}
