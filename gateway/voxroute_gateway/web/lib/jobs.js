// The list of jobs as it is at the service: read, and then followed.

import { call, get, post } from "./api.js";
import { Store } from "./store.js";
import { durationOf } from "./words.js";

const EVERY_MS = 4000;
const MOST_STREAMS = 2; // a browser opens six connections to a host, for all of its tabs

/** "JOB_STATE_RUNNING" as "running". */
export function stateOf(job) {
  return String(job.state).replace("JOB_STATE_", "").toLowerCase();
}

export const isOpen = (job) => ["queued", "running"].includes(stateOf(job));

/** A job's recording, by its name. */
export function titleOf(job) {
  const path = job.config.upload_name || job.config.media_path || job.id;
  return path.split("/").at(-1);
}

/** Stages with their shares, `{name, share, finished}`; a share of null is not known. */
export function stagesOf(job) {
  return (job.stages ?? []).map((stage) => {
    const total = durationOf(stage.total);
    const share = stage.finished ? 1 : total > 0 ? Math.min(1, durationOf(stage.done) / total) : null;
    return { name: stage.name, share, finished: Boolean(stage.finished) };
  });
}

/** The job after an event of its stream. */
export function after(job, event) {
  const next = { ...job, last_sequence: event.sequence };
  if (event.state !== undefined) next.state = event.state;
  if (event.stage) {
    const stages = (job.stages ?? []).filter((one) => one.name !== event.stage.name);
    const at = (job.stages ?? []).findIndex((one) => one.name === event.stage.name);
    stages.splice(at < 0 ? stages.length : at, 0, event.stage);
    next.stages = stages;
  }
  return next;
}

/** Its state: `jobs` (null before the first answer), `error`, `more` (the next page's token). */
export class Jobs extends Store {
  constructor() {
    super({ jobs: null, error: null, more: "", notes: {} });
    this.streams = new Map();
    this.users = 0;
  }

  /** Follows the jobs until the returned function is called. */
  follow() {
    this.users += 1;
    if (this.users === 1) {
      this.look();
      this.shown = () => (document.hidden ? this.#closeStreams() : this.look());
      document.addEventListener("visibilitychange", this.shown);
    }
    return () => {
      this.users -= 1;
      if (this.users) return;
      clearTimeout(this.timer);
      document.removeEventListener("visibilitychange", this.shown);
      this.#closeStreams();
    };
  }

  /** Reads the list now. */
  async look() {
    clearTimeout(this.timer);
    try {
      const n = Math.min(1000, Math.max(50, this.state.jobs?.length ?? 0));
      const page = await get(`/api/jobs?page_size=${n}`);
      this.set({ jobs: page.jobs ?? [], more: page.next_page_token ?? "", error: null });
    } catch (error) {
      this.set({ error });
    }
    clearTimeout(this.timer);
    if (!this.users) return;
    this.#openStreams();
    this.timer = setTimeout(() => (document.hidden ? this.#wait() : this.look()), EVERY_MS);
  }

  #wait() {
    this.timer = setTimeout(() => this.look(), 5 * EVERY_MS);
  }

  /** Reads the next page too. */
  async readMore() {
    const page = await get(`/api/jobs?page_size=50&page_token=${encodeURIComponent(this.state.more)}`);
    this.set({ jobs: [...this.state.jobs, ...(page.jobs ?? [])], more: page.next_page_token ?? "" });
  }

  /** cancel, resume or retry. Throws ApiError. */
  async act(job, name, json) {
    this.put(await post(`/api/jobs/${encodeURIComponent(job.id)}/${name}`, json));
    this.#openStreams();
  }

  async remove(job) {
    await call("DELETE", `/api/jobs/${encodeURIComponent(job.id)}`);
    this.set({ jobs: this.state.jobs.filter((one) => one.id !== job.id) });
  }

  put(job) {
    const jobs = this.state.jobs ?? [];
    const known = jobs.some((one) => one.id === job.id);
    this.set({ jobs: known ? jobs.map((one) => (one.id === job.id ? job : one)) : [job, ...jobs] });
  }

  #openStreams() {
    const open = (this.state.jobs ?? []).filter(isOpen);
    const running = open.filter((job) => stateOf(job) === "running");
    const wanted = new Set(running.slice(0, MOST_STREAMS).map((job) => job.id));
    for (const [id, stream] of this.streams) {
      if (!wanted.has(id) || stream.readyState === EventSource.CLOSED) {
        stream.close();
        this.streams.delete(id);
      }
    }
    for (const job of running.slice(0, MOST_STREAMS)) if (!this.streams.has(job.id)) this.#stream(job);
  }

  #stream(job) {
    const path = `/api/jobs/${encodeURIComponent(job.id)}/events?after=${job.last_sequence ?? 0}`;
    const stream = new EventSource(path); // comes again by itself, with Last-Event-ID
    const heard = (message) => {
      const event = JSON.parse(message.data);
      const now = this.state.jobs?.find((one) => one.id === job.id);
      if (now) this.put(after(now, event));
      const note = event.message ?? event.warning?.message;
      if (note) this.set({ notes: { ...this.state.notes, [job.id]: note } });
      if (event.state !== undefined && event.state !== "JOB_STATE_RUNNING") {
        stream.close();
        this.look(); // its files and its times
      }
    };
    for (const name of ["state", "stage", "message", "warning"]) stream.addEventListener(name, heard);
    this.streams.set(job.id, stream);
  }

  #closeStreams() {
    for (const stream of this.streams.values()) stream.close();
    this.streams.clear();
  }
}
