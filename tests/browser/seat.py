"""What the browser tests share: a browser, somebody who sits before it, and what must never be seen there.

A `Seat` is one person's browser window. Everything that a page does wrong by itself is noted while the window is
open, and `close` fails for it: a request to anybody but the console, an error on the browser's console, a breach of
the content security policy, an exception, a dialog, a script out of somebody's text.
"""

import json
import os
import re
import subprocess
import sys
import time
import traceback
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import expect, sync_playwright

PATIENCE_MS = 30_000
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}

WATCH = """
addEventListener('securitypolicyviolation', (event) =>
  console.error(`policy violated: ${event.violatedDirective} ${event.blockedURI}`));
"""
SETTLED = """() => {
  const heading = document.querySelector('main h1');
  const loading = document.querySelector('main [aria-busy=true]');
  const said = [...document.querySelectorAll('main [role=status]')].map((one) => one.textContent);
  const left = document.querySelector('main[data-left]');
  return heading !== null && left === null && loading === null && !said.includes('Loading');
}"""

# The page that is left is marked, so that nobody takes it for the next one.
GO = """(route) => {
  const path = (hash) => hash.replace(/^#\\//, '').split('?')[0];
  const main = document.querySelector('main');
  if (main && path(location.hash) !== path(route)) main.dataset.left = '';
  location.hash = `#/${route}`;
  return new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)));
}"""


class World:
    """The installation, as the Rust test tells of it in one JSON document."""

    def __init__(self, facts):
        self.__dict__.update(facts)
        self.url = f"http://{self.console}/"

    def weir(self, *args):
        """A command of weir; what it printed."""
        command = [self.program, *args, "--config", self.config, "--data-dir", self.data_dir]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"weir {' '.join(args)}: {done.stderr}"
        return done.stdout

    def sql(self, statement):
        """The rows of an answer."""
        lines = self.weir("sql", statement, "--format", "JSONEachRow").splitlines()
        return [json.loads(line) for line in lines]

    def one(self, statement):
        """The only value of an answer, as text."""
        return str(next(iter(self.sql(statement)[0].values())))

    def until(self, is_so, what):
        """Looks again and again until it is so."""
        end = time.monotonic() + PATIENCE_MS / 1000
        while not is_so():
            assert time.monotonic() < end, f"waited in vain: {what}"

    def wait_for(self, statement, expected):
        """Waits until an answer's only value is that."""
        self.until(lambda: self.one(statement) == expected, f"{statement} = {expected}")

    def tell(self, wish):
        """Asks the Rust test to start or to kill something, and waits until it has."""
        print(wish, flush=True)
        answer = sys.stdin.readline().strip()
        assert answer == "done", f"{wish}: {answer}"


def call(world, alias="fast-chat", key=None, feature="search"):
    """A short chat; its request id."""
    body = json.dumps({"model": alias, "max_tokens": 8, "messages": [{"role": "user", "content": "Hello"}]})
    headers = {
        "authorization": f"Bearer {key or world.keys['growth']}",
        "content-type": "application/json",
        "x-weir-feature": feature,
    }
    url = f"http://{world.gateway}/v1/chat/completions"
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers)) as answer:
        return answer.headers["x-request-id"]


class Seat:
    def __init__(self, world, browser, url=None, **options):
        self.world, self.url = world, url or world.url
        self.faults = []
        self.expected = []
        options = {"viewport": WIDE, "color_scheme": "light"} | options
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.add_init_script(WATCH)
        self.context.on("request", self._request)
        self.context.on("console", self._said)
        self.context.on("weberror", lambda error: self.faults.append(f"exception: {error.error}"))
        self.context.on("dialog", self._dialog)
        self.page = self.context.new_page()

    def _request(self, request):
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(request.url))
        if not self.url.startswith(origin + "/") and not request.url.startswith(("data:", "blob:")):
            self.faults.append(f"request to somebody else: {request.url}")

    def _said(self, message):
        text = f"{message.text} {message.location.get('url', '')}"
        if message.type in ("error", "warning") and not any(re.search(one, text) for one in self.expected):
            self.faults.append(f"{message.type} on the browser's console: {text}")

    def _dialog(self, dialog):
        self.faults.append(f"a dialog opened: {dialog.message}")
        dialog.dismiss()

    def expects(self, *patterns):
        """Errors on the browser's console that belong to what is tried from here on."""
        self.expected.extend(patterns)

    def open(self, route=""):
        """Goes to a page of the console by its address, as a link from elsewhere does."""
        # Only the fragment differs from page to page, and a browser loads nothing again for that.
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}#/{route}")
        return self.settle()

    def go(self, route):
        """Goes to another page within the one that is open."""
        self.page.evaluate(GO, route)
        return self.settle()

    def settle(self):
        """Waits until a page stands and loads nothing."""
        self.page.wait_for_function(SETTLED)
        return self

    def heading(self, text):
        expect(self.page.get_by_role("heading", level=1)).to_have_text(text)
        return self

    def panel(self, title):
        return self.page.get_by_role("region", name=title, exact=True)

    def sign_in(self, token):
        """By the form."""
        # Nobody is signed in, which the browser reports for every call that says so.
        self.expects(r"401 \(Unauthorized\).*/api/session$")
        self.open()
        self.page.get_by_label("Admin token").fill(token)
        self.page.get_by_role("button", name="Sign in", exact=True).click()
        expect(self.page.get_by_role("navigation", name="Pages")).to_be_visible()
        return self.settle()

    def pages(self):
        """Names and routes of the menu."""
        links = self.page.get_by_role("navigation", name="Pages").get_by_role("link").all()
        return [(link.inner_text(), link.get_attribute("href").removeprefix("#/")) for link in links]

    def shot(self, name):
        """A picture for people, if somebody asked for some."""
        folder = os.environ.get("WEIR_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=f"{folder}/{name}.png", full_page=True)

    def axe(self, where):
        """No serious or critical finding of axe."""
        if not self.page.evaluate("typeof axe === 'object'"):
            self.page.evaluate(Path(self.world.axe).read_text())
        found = self.page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        for finding in found["violations"]:
            if finding["impact"] in ("serious", "critical"):
                at = [f"{node['target']} {node['failureSummary']}" for node in finding["nodes"][:3]]
                self.faults.append(f"axe, {where}: {finding['id']}: {finding['help']}\n    " + "\n    ".join(at))

    def fits(self, where):
        """Nothing is wider than the window."""
        wide = self.page.evaluate("""() => {
          const width = document.documentElement.clientWidth;
          if (document.documentElement.scrollWidth <= width) return [];
          return [...document.querySelectorAll('body *')]
            .filter((one) => one.getBoundingClientRect().right > width + 0.5).slice(0, 5)
            .map((one) => `${one.tagName}.${one.className} ${one.textContent.slice(0, 40)}`);
        }""")
        if wide:
            self.faults.append(f"wider than the window, {where}: {wide}")

    def close(self):
        if self.page.evaluate("window.hostile") is not None:
            self.faults.append("a script ran that was somebody's text")
        self.context.close()
        assert not self.faults, "\n  ".join(["", *dict.fromkeys(self.faults)])


@contextmanager
def seat(world, browser, **options):
    one = Seat(world, browser, **options)
    try:
        yield one
    except BaseException:
        one.shot("failed")
        for fault in one.faults:
            print(f"  noted before: {fault}", file=sys.stderr)
        one.context.close()
        raise
    one.close()


def run(ways):
    """Goes each way, one after the other, and says how long it took. All are gone, whether one fails or not."""
    world = World(json.loads(sys.argv[1]))
    only = os.environ.get("WEIR_WAYS", "")
    failed = []
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        # As root, which CI is in a container, Chromium has no sandbox.
        browser = playwright.chromium.launch(executable_path=world.chromium, args=["--no-sandbox"])
        for way in ways:
            if only not in way.__name__:
                continue
            began = time.monotonic()
            try:
                way(world, browser)
            except Exception:
                failed.append(way.__name__)
                print(f"{way.__name__} failed:\n{traceback.format_exc()}", file=sys.stderr)
            print(f"{time.monotonic() - began:6.1f} s  {way.__name__}", file=sys.stderr)
        browser.close()
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)
