// Asks for a token, where the gateway wants one. What is under work stays as it is behind it.

import { html, useState } from "../vendor/preact-htm.js";
import { Dialog } from "./dialog.js";

/** Tells `done` the new session. */
export function SignIn({ done }) {
  const [token, setToken] = useState("");
  const [why, setWhy] = useState("");
  const [busy, setBusy] = useState(false);
  const send = async (event) => {
    event.preventDefault();
    setBusy(true);
    try {
      const answer = await fetch("/ui/session", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ token }),
      });
      if (answer.ok) {
        done(await answer.json());
        dispatchEvent(new Event("signed-in"));
      } else setWhy(answer.status === 401 ? "This token is not known here." : `The gateway answered ${answer.status}.`);
    } catch {
      setWhy("The gateway cannot be reached.");
    }
    setBusy(false);
  };
  return html`<${Dialog} title="Sign in" kind="small">
    <form onSubmit=${send}>
      <p>This gateway is for those who have a token. Whoever runs it gives you one.</p>
      <label class="field">Token
        <input type="password" autocomplete="current-password" required autofocus value=${token}
          aria-invalid=${why ? "true" : undefined} aria-describedby="sign-in-why"
          onInput=${(event) => setToken(event.target.value)} />
      </label>
      <p id="sign-in-why" class="bad" role="alert">${why}</p>
      <div class="row end"><button class="main" disabled=${busy}>Sign in</button></div>
    </form>
  <//>`;
}
