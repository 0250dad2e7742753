// What a service says of a request, as a person who has never seen the request reads it.

const CODES = {
  no_job_service: "No jobs are made here: whoever runs this gateway has to start a job service beside it.",
  host: "The gateway is not meant to be called by this address: whoever runs it can allow it.",
  origin: "The gateway does this only for its own page: open it again at its own address.",
  job_not_found: "There is no such job.",
  artifact_not_found: "The job has no such file any more.",
  upload_too_large: "The file is larger than the job service takes.",
  body_too_large: "That is more than the gateway takes at once.",
};
const STATUSES = { 413: "That is more than the gateway takes at once." };
const FIELDS = [
  [/^(?:segments\.)?segments\[(\d+)\](?:\.(\w+))?.*$/, (n, field) => `Segment ${Number(n) + 1}${PARTS[field] ?? ""}`],
  [/^(?:config\.)?speakers.*$/, () => "The name of a speaker"],
  [/^(?:config\.)?(?:job\.)?(\w+).*$/, (name) => JOB[name]],
];
const PARTS = {
  start: ", its beginning", start_s: ", its beginning", end: ", its end", end_s: ", its end",
  text: ", its text", words: ", a word of it", translations: ", its translation", language: ", its language",
};
const JOB = {
  upload_name: "The name of the file", data: "The file", source_languages: "Spoken", target_languages: "Subtitles in",
  glossary: "The glossary", prompt: "Names and spellings", min_speakers: "The number of speakers",
  max_speakers: "The number of speakers", language: "The language",
};

/** What has a field of a request's name in front, with what a person calls it. */
function named(text, param) {
  for (const [pattern, name] of FIELDS) {
    const found = pattern.exec(param);
    const known = found && name(...found.slice(1));
    if (known) return `${known}: ${text}`;
  }
  return text;
}

/** The sentence of an error; "" where it says nothing. */
export function sayingOf(status, { message = "", code = "", param = "" }) {
  const known = CODES[code] ?? STATUSES[status];
  if (known) return known;
  const [, field, rest] = /^([a-z_]+(?:[.[][\w.[\]]*)?): (.+)$/s.exec(message) ?? [];
  const text = field && (field === param || field.endsWith(param)) && rest ? named(rest, param || field) : message;
  // what only who runs the service can do: the names of its settings are for its log
  return text.replace(/; (?:its|the) operator[^;]*--.*$/, "");
}
