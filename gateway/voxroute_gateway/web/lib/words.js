// Times, sizes, languages and counts as a person reads them.

/** 3723.4 as "1:02:03"; with tenths "1:02:03.4". */
export function clock(seconds, { tenths = false } = {}) {
  const unit = tenths ? 10 : 1;
  const whole = Math.max(0, Math.floor(seconds * unit + 1e-6));
  const s = Math.floor(whole / unit);
  const parts = [Math.floor(s / 60) % 60, s % 60].map((n) => String(n).padStart(2, "0"));
  const hours = Math.floor(s / 3600);
  const text = hours ? `${hours}:${parts.join(":")}` : `${Math.floor(s / 60)}:${parts[1]}`;
  return tenths ? `${text}.${whole % 10}` : text;
}

/** 3723.4 as "1:02:03.400", as times are written by hand. */
export function exactly(seconds) {
  const ms = Math.max(0, Math.round(seconds * 1000));
  return `${clock(Math.floor(ms / 1000))}.${String(ms % 1000).padStart(3, "0")}`;
}

/** "1:02:03.4", "62:03" or "12,5" as seconds; null for what is no time. */
export function secondsOf(text) {
  const parts = text.trim().replace(",", ".").split(":");
  if (parts.length > 3 || !parts.every((one) => /^\d+(\.\d+)?$/.test(one))) return null;
  return parts.reduce((sum, one) => sum * 60 + Number(one), 0);
}

/** A time that is left, roughly: "3 min", "45 s", "1 h 20 min". */
export function span(seconds) {
  if (!Number.isFinite(seconds) || seconds < 0) return "";
  if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  return minutes % 60 ? `${Math.floor(minutes / 60)} h ${minutes % 60} min` : `${minutes / 60} h`;
}

/** Protobuf's JSON of a duration, "12.500s", in seconds. */
export function durationOf(text) {
  return text ? Number(String(text).replace(/s$/, "")) || 0 : 0;
}

/** 1536 as "1.5 kB". */
export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let n = bytes;
  let unit = 0;
  while (n >= 999.5 && unit < units.length - 1) {
    n /= 1000;
    unit += 1;
  }
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

let names = null;

/** The English name of a language; the tag itself where it has none. */
export function languageName(tag) {
  if (!tag) return "";
  try {
    names ??= new Intl.DisplayNames(["en"], { type: "language" });
    return names.of(tag) ?? tag;
  } catch {
    return tag;
  }
}

const RIGHT_TO_LEFT = /^(ar|arc|azb|ckb|dv|fa|glk|he|iw|ji|ks|mzn|nqo|ps|sd|syr|ug|ur|yi)(-|$)|-(Arab|Hebr|Thaa|Syrc|Nkoo)\b/i;

/** "rtl" or "ltr", for the attribute `dir`; "auto" where the language is not known. */
export function direction(tag) {
  if (!tag) return "auto";
  if (/-(Latn|Deva|Cyrl)\b/i.test(tag)) return "ltr";
  return RIGHT_TO_LEFT.test(tag) ? "rtl" : "ltr";
}

/** When something was: "14:05", "26 Nov, 14:05". */
export function moment(iso, now = new Date()) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return "";
  const time = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  if (at.toDateString() === now.toDateString()) return time;
  return `${at.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

/** "1 segment", "2 segments". */
export function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}
