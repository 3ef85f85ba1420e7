// Signing in with an admin token, typed or in a link's fragment, which never leaves the browser.
import { useEffect, useState } from "preact/hooks";
import { type Problem, signIn } from "../api";
import { Mark } from "../app";
import { replace, useRoute } from "../router";

export function SignIn({ link }: { link: string | null }) {
  const { path, params } = useRoute();
  const [problem, setProblem] = useState<Problem>();
  const [busy, setBusy] = useState(false);
  const enter = async (token: string) => {
    setBusy(true);
    const asked = path === "sign-in" ? "" : path;
    if (path === "sign-in") replace("sign-in");
    try {
      await signIn(token);
      replace(asked, asked ? params : undefined);
    } catch (error) {
      setProblem(error as Problem);
    }
    setBusy(false);
  };
  useEffect(() => {
    document.title = "Sign in · Weir";
    if (link) void enter(link);
  }, [link]);
  return <SignInForm enter={enter} busy={busy} problem={problem} />;
}

function SignInForm({ enter, busy, problem }: { enter: (token: string) => Promise<void>; busy: boolean; problem: Problem | undefined }) {
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    void enter(String(new FormData(event.currentTarget as HTMLFormElement).get("token")).trim());
  };
  return (
    <main class="alone">
      <form class="panel sign-in" onSubmit={submit}>
        <h1><Mark /> Sign in to Weir</h1>
        <label for="token">Admin token</label>
        <input id="token" name="token" type="password" required autocomplete="current-password" autofocus aria-describedby="token-help" />
        <p id="token-help" class="note">Make one with <code>weir tokens create</code>. Its role decides what you see and may change.</p>
        <button type="submit" class="main" disabled={busy}>{busy ? "Signing in …" : "Sign in"}</button>
        <p role="alert" class="bad">{problem?.message}</p>
      </form>
    </main>
  );
}
