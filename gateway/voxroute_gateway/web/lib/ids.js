// Names that nobody else has. Browsers have randomUUID only where there is https, or on the computer itself.

/** 32 hexadecimal digits. */
export function newId() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
}
