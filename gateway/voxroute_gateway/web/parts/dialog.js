// A dialog of the browser's own: it keeps the focus, and Escape closes it.

import { html, useEffect, useRef } from "../vendor/preact-htm.js";

/** Shown while it is drawn. `close` is called where the person closes it; without it, nobody can. */
export function Dialog({ title, close, children, kind = "" }) {
  const dialog = useRef(null);
  const id = useRef(`dialog-${Math.random().toString(36).slice(2)}`);
  useEffect(() => {
    const back = document.activeElement;
    dialog.current.showModal();
    return () => back?.focus?.();
  }, []);
  const cancelled = (event) => {
    event.preventDefault();
    close?.();
  };
  // a browser closes it at the second Escape, whatever the page says
  const closed = () => (close ? close() : dialog.current?.showModal());
  return html`<dialog ref=${dialog} class=${kind} aria-labelledby=${id.current} onCancel=${cancelled} onClose=${closed}
    onKeyDown=${(event) => event.stopPropagation()}>
    <div class="head">
      <h2 id=${id.current}>${title}</h2>
      ${close && html`<button class="plain icon" aria-label="Close" onClick=${close}>×</button>`}
    </div>
    ${children}
  </dialog>`;
}

/** Asks before something that cannot be taken back. */
export function Question({ title, text, yes, act, close }) {
  const go = () => {
    close();
    act();
  };
  return html`<${Dialog} title=${title} close=${close} kind="small">
    <p>${text}</p>
    <div class="row end">
      <button onClick=${close}>Cancel</button>
      <button class="danger" onClick=${go}>${yes}</button>
    </div>
  <//>`;
}
