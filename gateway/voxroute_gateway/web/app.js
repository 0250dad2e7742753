// The page: which view is shown, what stands around it, and who is signed in.

import { html, render, useEffect, useRef, useState } from "./vendor/preact-htm.js";
import { get, onSignedOut } from "./lib/api.js";
import { address, parsed } from "./lib/router.js";
import { useStore } from "./lib/store.js";
import { Notices } from "./parts/notices.js";
import { SignIn } from "./parts/sign_in.js";
import { uploads } from "./parts/uploads.js";
import { HelpView } from "./views/help.js";
import { JobView } from "./views/job.js";
import { JobsView } from "./views/jobs.js";
import { LiveView } from "./views/live.js";
import { NewView } from "./views/new.js";
import { ServicesView } from "./views/services.js";

const VIEWS = [
  { view: "jobs", title: "Jobs", part: JobsView },
  { view: "new", title: "New", part: NewView },
  { view: "live", title: "Live", part: LiveView },
  { view: "services", title: "Services", part: ServicesView },
  { view: "help", title: "Help", part: HelpView },
  { view: "job", title: "Job", part: JobView, hidden: true },
];

function Page() {
  const [place, setPlace] = useState(() => parsed(location.hash));
  const [session, setSession] = useState(null);
  const main = useRef(null);
  const shown = VIEWS.find((one) => one.view === place.view) ?? VIEWS[0];

  useEffect(() => {
    const go = () => {
      setPlace(parsed(location.hash));
      main.current.focus({ preventScroll: true }); // the next Tab is in the view, and a screen reader begins there
    };
    addEventListener("hashchange", go);
    return () => removeEventListener("hashchange", go);
  }, []);

  useEffect(() => {
    const ask = () => get("/ui/session").then(setSession, () => setTimeout(ask, 3000));
    ask();
    return onSignedOut(() => setSession((known) => ({ ...known, asked: true, signed_in: false })));
  }, []);

  useEffect(() => {
    document.title = shown.hidden ? document.title : `${shown.title} – voxroute`;
  }, [shown]);

  const skip = (event) => {
    event.preventDefault();
    main.current.focus();
  };
  const asks = session !== null && session.asked && !session.signed_in;
  // who is signed out in the middle of something finds it again
  const entered = useRef(false);
  if (session !== null && !asks) entered.current = true;
  return html`
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="top">
      <a class="brand" href=${address("jobs")} aria-label="voxroute"><${Mark} /><span>voxroute</span></a>
      <nav aria-label="Views">
        ${VIEWS.filter((one) => !one.hidden).map(
          (one) => html`<a key=${one.view} href=${address(one.view)}
            aria-current=${one === shown ? "page" : undefined}>${one.title}</a>`,
        )}
      </nav>
      <${Away} />
      ${session?.asked && session.signed_in && html`<${SignOut} />`}
    </header>
    <main id="main" ref=${main} tabindex="-1" class=${`view-${shown.view}`}>
      ${entered.current && html`<${shown.part} key=${`${shown.view}/${place.id}`} id=${place.id} />`}
    </main>
    <${Notices} />
    ${asks && html`<${SignIn} done=${setSession} />`}
  `;
}

function Mark() {
  return html`<svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
    <rect width="32" height="32" rx="8" />
    <path d="M8 13v4M13 8v14M18 11v8M23 13v4M8 25h9M21 25h3" />
  </svg>`;
}

/** How many files are on their way, on each view. */
function Away() {
  const { files } = useStore(uploads);
  const open = files.filter((one) => one.state !== "done" && one.state !== "failed");
  if (!open.length) return null;
  const share = open.reduce((sum, one) => sum + one.sent, 0) / open.reduce((sum, one) => sum + one.size, 0);
  return html`<a class="away" href=${address("new")}>
    <progress max="1" value=${share || 0} aria-label="Upload"></progress>${Math.floor(100 * (share || 0))} %
  </a>`;
}

function SignOut() {
  const leave = async () => {
    const answer = await fetch("/ui/session", { method: "DELETE" });
    if (answer.ok) location.reload(); // nothing of it stays on the screen
  };
  return html`<button class="plain" onClick=${leave}>Sign out</button>`;
}

render(html`<${Page} />`, document.getElementById("page"));
