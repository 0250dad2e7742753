// What a service says, in a person's words.

import assert from "node:assert/strict";
import test from "node:test";
import { failureOf } from "../web/lib/api.js";

const said = (status, error) => failureOf(status, JSON.stringify({ error })).message;

test("fields have the names that the page gives them", () => {
  assert.equal(
    said(400, { message: "segments[3].end: is behind the end of the recording, 9.000 s", code: "invalid_job", param: "segments[3].end" }),
    "Segment 4, its end: is behind the end of the recording, 9.000 s.",
  );
  assert.equal(
    said(400, { message: "config.job.target_languages[0]: 'xx' is no language", code: "invalid_job", param: "job.target_languages[0]" }),
    "Subtitles in: 'xx' is no language.",
  );
  assert.equal(said(400, { message: "config.speakers[0].name: holds U+0007", code: "invalid_job", param: "speakers[0].name" }), "The name of a speaker: holds U+0007.");
});

test("what only an operator can set is said without the names of settings", () => {
  for (const code of ["no_job_service", "host", "origin"]) {
    const text = said(503, { message: "its operator sets --jobs-endpoint", code });
    assert.doesNotMatch(text, /--/);
    assert.match(text, /\w+ \w+/);
  }
  assert.equal(
    said(400, { message: "name a model, no folder of this host; its operator sets one with --model", code: "invalid_job" }),
    "Name a model, no folder of this host.",
  );
});

test("a sentence that names no field stays, and so does a status without one", () => {
  assert.equal(said(422, { message: "the job is running: wait for it", code: "job_state" }), "The job is running: wait for it.");
  assert.equal(failureOf(502, "<html>").message, "The gateway answered 502.");
  assert.match(failureOf(413, "<html>").message, /more than the gateway takes/);
});
