// Which key does what, in the editor and in its list of keys.

export const KEYS = [
  { does: "toggle", keys: ["Space", "K"], and: ["Esc", "Ctrl+Space"], text: "Play or pause" },
  { does: "back", keys: ["←"], and: ["F1"], text: "Two seconds back" },
  { does: "forward", keys: ["→"], and: ["F2"], text: "Two seconds on" },
  { does: "farBack", keys: ["J"], and: [], text: "Ten seconds back" },
  { does: "farForward", keys: ["L"], and: [], text: "Ten seconds on" },
  { does: "slower", keys: [","], and: ["F3"], text: "Slower" },
  { does: "faster", keys: ["."], and: ["F4"], text: "Faster" },
  { does: "previous", keys: ["↑"], and: ["Alt+↑"], text: "The segment before" },
  { does: "next", keys: ["↓"], and: ["Alt+↓", "Enter"], text: "The next segment" },
  { does: "split", keys: [], and: ["Ctrl+Enter"], text: "Cut the segment where the cursor is" },
  { does: "merge", keys: [], and: ["Backspace at the beginning", "Delete at the end"], text: "Join it with its neighbour" },
  { does: "beginHere", keys: ["F8"], and: ["F8"], text: "The segment begins at what is heard now" },
  { does: "endHere", keys: ["F9"], and: ["F9"], text: "The segment ends at what is heard now" },
  { does: "undo", keys: ["Ctrl+Z"], and: ["Ctrl+Z"], text: "Take back" },
  { does: "redo", keys: ["Ctrl+Shift+Z"], and: ["Ctrl+Y"], text: "Do it again" },
  { does: "save", keys: ["Ctrl+S"], and: ["Ctrl+S"], text: "Save now; it is saved by itself too" },
];

const ANYWHERE = { F1: "back", F2: "forward", F3: "slower", F4: "faster", F8: "beginHere", F9: "endHere", Escape: "toggle" };
const ELSEWHERE = {
  " ": "toggle", k: "toggle", j: "farBack", l: "farForward", ",": "slower", ".": "faster",
  ArrowLeft: "back", ArrowRight: "forward", ArrowUp: "previous", ArrowDown: "next",
};

/** What a key asks for; "" for nothing. `place` is that of placeOf. */
export function meant({ key, ctrlKey, metaKey, altKey, shiftKey, isComposing }, place) {
  if (isComposing) return "";
  // what is typed into a field, and taken back in it, is the field's
  if (place === "field" && !/^F\d$/.test(key) && !((ctrlKey || metaKey) && key === "s")) return "";
  const lower = key.length === 1 ? key.toLowerCase() : key;
  if (ctrlKey || metaKey) {
    if (altKey) return "";
    if (lower === "z") return shiftKey ? "redo" : "undo";
    return { y: "redo", s: "save", " ": "toggle", Enter: place === "text" ? "split" : "" }[lower] ?? "";
  }
  if (altKey) return { ArrowUp: "previous", ArrowDown: "next" }[key] ?? "";
  if (ANYWHERE[key]) return ANYWHERE[key];
  if (place === "text") return key === "Enter" && !shiftKey ? "next" : "";
  // keys that a control has a use for itself are its own
  if (place === "control" && !/^[jkl,.]$/.test(lower)) return "";
  return shiftKey ? "" : (ELSEWHERE[lower] ?? "");
}

/** Where a key was pressed: "text" of a segment, another "field", a "control", or "" for elsewhere. */
export function placeOf(element) {
  if (element?.matches?.("textarea.words")) return "text";
  if (element?.matches?.("input, textarea, select, [contenteditable]")) return "field";
  if (element?.matches?.("button, a, summary, video, audio, [tabindex]")) return "control";
  return "";
}
