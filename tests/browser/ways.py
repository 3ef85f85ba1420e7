"""The main ways through the console, as its users go them, over an installation with some traffic."""

import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from playwright.sync_api import expect

from seat import PHONE, call, run, seat


def tile(page, label):
    """What stands in large letters under a label."""
    return page.locator(".tile", has=page.get_by_text(label, exact=True)).locator(".figure")


def sign_in_by_form_and_by_link(world, browser):
    with seat(world, browser) as me:
        page = me.page
        me.expects(r"401 \(Unauthorized\).*/api/session$")
        me.open()
        me.heading("Sign in to Weir")
        me.axe("sign-in")
        page.get_by_label("Admin token").fill("not-a-token")
        page.get_by_role("button", name="Sign in", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("unknown, revoked or expired")
        me.shot("sign-in")
        me.sign_in(world.tokens["admin"])
        me.heading("Overview")
        page.get_by_role("button", name="Sign out").click()
        me.heading("Sign in to Weir")

        page.goto(f"{world.url}#/sign-in?token={world.tokens['auditor']}")
        expect(page.get_by_title("Signed in as auditor")).to_be_visible()
        assert "token" not in page.url, "the token stays in the address"
        page.reload()
        expect(page.get_by_role("navigation", name="Pages")).to_be_visible()


def figures_are_those_of_sql_and_of_the_providers(world, browser):
    ledger = world.ledger
    assert world.one("SELECT count() FROM weir.attempts") == str(ledger["calls"])
    requests, errors, cost = world.sql(
        "SELECT toString(count()), toString(countIf(error_kind != '')), toString(sum(cost_usd)) FROM weir.requests")[0].values()
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        expect(tile(me.page, "Requests")).to_have_text(requests)
        expect(tile(me.page, "Errors")).to_have_text(errors)
        shown = tile(me.page, "Cost of these").inner_text()
        assert abs(float(shown.strip().removeprefix("$")) - float(cost)) < 0.001, f"{shown}, not {cost}"
        me.go("explorer?by=provider&measure=requests,input_tokens,output_tokens,cost_usd")
        steady = me.page.get_by_role("row", name="steady")
        for tokens in ("input_tokens", "output_tokens"):
            expect(steady).to_contain_text(f"{ledger[tokens]:,}")


def explorer_slices_compares_and_is_found_again_by_its_address(world, browser):
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        page = me.page
        me.go("explorer?by=team")
        page.get_by_label("Compare with the period before").check()
        me.settle()
        page.locator(".choices select").first.select_option("feature")
        me.settle()
        assert "by=feature" in page.url and "compare=true" in page.url, page.url
        page.reload()
        me.settle()
        expect(page.get_by_label("Compare with the period before")).to_be_checked()
        table = page.get_by_role("region", name="Slices")
        expect(table.get_by_role("row", name="onboarding")).to_contain_text("new")
        with page.expect_download() as download:
            page.get_by_role("link", name="CSV").last.click()
        lines = download.value.path().read_text().splitlines()
        assert "feature" in lines[0] and any("onboarding" in line for line in lines), lines
        table.get_by_role("link", name="onboarding").click()
        me.settle()
        assert "feature=onboarding" in page.url, page.url


def live_tail_shows_a_call_that_is_made_meanwhile(world, browser):
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        me.go("tail")
        expect(me.page.get_by_role("status").first).to_contain_text("Live")
        id = call(world, "clever-chat", feature="made-meanwhile")
        row = me.page.get_by_role("row", name="made-meanwhile")
        expect(row).to_be_visible()
        row.focus()
        me.page.keyboard.press("Enter")
        me.settle()
        assert id in me.page.url, me.page.url


def a_request_tells_its_whole_life(world, browser):
    id = call(world, "resilient", feature="life")
    world.wait_for(f"SELECT count() FROM weir.requests WHERE request_id = '{id}'", "1")
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        me.go("requests")
        me.page.get_by_label("Request id").fill(id)
        me.page.keyboard.press("Enter")
        me.settle()
        attempts = me.panel("Attempts").get_by_role("article")
        expect(attempts).to_have_count(3)
        for attempt, words in enumerate(("First attempt at broken/small", "Retry at broken/small", "Fallback at steady/small")):
            expect(attempts.nth(attempt)).to_contain_text(words)
        expect(tile(me.page, "Status")).to_have_text("200")
        expect(me.page.get_by_text("Hello", exact=False).first).to_be_attached()
        for theme in ("light", "dark"):
            me.page.emulate_media(color_scheme=theme)
            me.axe(f"request, {theme}")
            me.shot(f"request-{theme}")
        me.page.set_viewport_size(PHONE)
        me.fits("request, phone")
        me.shot("request-phone")


def a_key_works_from_when_it_is_made_until_it_is_revoked(world, browser):
    def shown(page):
        secret = page.get_by_role("dialog").locator("pre").inner_text()
        page.get_by_role("button", name="Close").click()
        return secret

    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        page = me.page
        me.go("keys")
        page.get_by_role("button", name="New key").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Team", exact=True).fill("browser-made")
        me.axe("new key")
        dialog.get_by_role("button", name="Create").click()
        first = shown(page)
        world.until(lambda: status(world, first) == 200, "the new key works")
        row = page.get_by_role("row", name="browser-made")
        row.get_by_role("button", name="Rotate").click()
        dialog.get_by_label("The old one still works").select_option(label="not at all")
        dialog.get_by_role("button", name="Rotate").click()
        second = shown(page)
        world.until(lambda: status(world, second) == 200 and status(world, first) == 401, "the rotated key took over")
        row.get_by_role("button", name="Revoke").click()
        dialog.get_by_role("button", name="Revoke it").click()
        expect(row).to_contain_text("revoked")
        world.until(lambda: status(world, second) == 401, "the revoked key is refused")


def status(world, key):
    try:
        call(world, key=key)
        return 200
    except urllib.error.HTTPError as error:
        return error.code


def a_budget_crosses_its_threshold_while_one_looks(world, browser):
    with seat(world, browser) as me:
        me.sign_in(world.tokens["finance"])
        page = me.page
        me.go("budgets")
        page.get_by_role("button", name="New budget").click()
        dialog = page.get_by_role("dialog")
        dialog.locator("[name=id]").fill("watched")
        dialog.locator("[name=usd]").fill("0.04")
        dialog.locator("[name=soft]").check()
        dialog.locator("[name=scope-team]").fill("growth")
        me.axe("new budget")
        dialog.get_by_role("button", name="Save").click()
        panel = me.panel("watched")
        expect(panel).to_be_visible()
        for _ in range(4):
            call(world)
        expect(panel.locator(".bad").first).to_be_visible()
        me.shot("budget-crossed")


def routing_is_frozen_and_goes_on(world, browser):
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        page = me.page
        me.go("routing")
        page.get_by_role("button", name="Freeze").click()
        confirm(page)
        expect(page.get_by_role("button", name="Resume")).to_be_visible()
        page.get_by_role("button", name="Resume").click()
        confirm(page)
        expect(page.get_by_role("button", name="Freeze")).to_be_visible()
        me.go("audit?question=who_changed_what")
        expect(me.panel("Who changed what")).to_contain_text("admin")


def confirm(page):
    page.get_by_role("dialog").locator("button[type=submit]").click()


def audit_questions_show_their_sql(world, browser):
    with seat(world, browser) as me:
        me.sign_in(world.tokens["auditor"])
        me.go("audit?question=who_called_what")
        panel = me.panel("Who called what")
        rows = panel.locator("tbody tr").count()
        assert rows > 0
        panel.get_by_role("button", name="SQL").click()
        statement = me.page.get_by_role("dialog").locator("pre").inner_text()
        assert len(world.sql(statement)) == rows, statement
        me.page.keyboard.press("Escape")
        for link in me.page.get_by_role("navigation", name="Questions").get_by_role("link").all():
            link.click()
            me.settle()
            expect(me.page.locator("main .problem")).to_have_count(0)


def pipeline_is_healthy(world, browser):
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        me.go("pipeline")
        working, all = tile(me.page, "Parts that work").inner_text().split(" of ")
        assert working == all and int(all) > 5
        expect(me.page.locator("main .problem")).to_have_count(0)


def each_role_sees_and_does_what_it_may(world, browser):
    life = world.one("SELECT request_id FROM weir.requests WHERE team = 'research' LIMIT 1")
    with seat(world, browser) as auditor:
        auditor.sign_in(world.tokens["auditor"])
        for route, button in (("keys", "New key"), ("budgets", "New budget"), ("routing", "Freeze")):
            auditor.go(route)
            expect(auditor.page.get_by_role("button", name=button)).to_have_count(0)
    with seat(world, browser) as finance:
        finance.sign_in(world.tokens["finance"])
        finance.expects(r"403 \(Forbidden\).*/api/queries/request_payload")
        finance.go(f"requests/{life}")
        expect(tile(finance.page, "Status")).to_have_text("200")
        expect(finance.page.get_by_text('"Hello"')).to_have_count(0)
    with seat(world, browser) as owner:
        owner.sign_in(world.tokens["owner"])
        names = [name for name, _ in owner.pages()]
        assert "Routing" not in names and "Pipeline" not in names, names
        owner.go("explorer?by=team")
        table = owner.page.get_by_role("region", name="Slices")
        expect(table).to_contain_text("growth")
        expect(table).not_to_contain_text("research")
        owner.go("keys")
        expect(owner.page.get_by_role("button", name="New key")).to_be_visible()
        expect(owner.page.locator("main")).not_to_contain_text("research")
        owner.go(f"requests/{life}")
        expect(owner.page.get_by_role("status")).to_contain_text("none that you may see")


def hostile_text_is_shown_as_text(world, browser):
    life = world.one("SELECT request_id FROM weir.requests WHERE feature LIKE '%hostile%' AND status = 200 LIMIT 1")
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        for route in ("", "keys", "explorer?by=team", "explorer?by=user_agent", "explorer?by=tag:run", "audit?question=calls", f"requests/{life}"):
            me.go(route)
            expect(me.page.locator("main")).to_contain_text("<img src=x onerror=")
            assert me.page.evaluate("window.hostile") is None, route
        me.shot("hostile-request")


def behind_a_prefix_of_a_reverse_proxy(world, browser):
    with proxy(world.console, "/tools/weir") as url, seat(world, browser, url=url) as me:
        me.sign_in(world.tokens["admin"])
        for _, route in me.pages():
            me.go(route)
            expect(me.page.locator("main .problem")).to_have_count(0)


class proxy:
    """A reverse proxy that takes a prefix off."""

    def __init__(self, to, prefix):
        class Forward(BaseHTTPRequestHandler):
            def forward(self):
                assert self.path.startswith(prefix + "/"), f"a request beside the prefix: {self.path}"
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
                path = self.path.removeprefix(prefix)
                request = urllib.request.Request(f"http://{to}{path}", body or None, headers, method=self.command)
                try:
                    answer = urllib.request.urlopen(request, timeout=30)
                except urllib.error.HTTPError as error:
                    answer = error
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in ("transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.end_headers()
                try:
                    while piece := answer.read1(65536):
                        self.wfile.write(piece)
                except OSError:
                    # The browser left, as it does from a stream without an end.
                    pass

            do_GET = do_POST = do_PUT = do_DELETE = forward

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Forward)
        self.url = f"http://127.0.0.1:{self.server.server_port}{prefix}/"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self.url

    def __exit__(self, *_):
        self.server.shutdown()


def the_keyboard_suffices(world, browser):
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        page = me.page
        press = page.keyboard.press
        press("?")
        expect(page.get_by_role("dialog")).to_contain_text("Row before")
        press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        press("g")
        press("a")
        me.heading("Audit")
        me.settle()
        press("/")
        expect(page.locator("[data-filter]").first).to_be_focused()
        press("Escape")
        press("j")
        press("j")
        press("k")
        expect(me.panel("Calls").locator("tbody tr").first).to_be_focused()
        press("Enter")
        me.settle()
        me.heading("Request")


def every_page_is_accessible_and_fits(world, browser):
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        pages = me.pages()
        for theme in ("light", "dark"):
            me.page.emulate_media(color_scheme=theme)
            for name, route in pages:
                me.go(route)
                me.axe(f"{name}, {theme}")
                me.fits(f"{name}, {theme}")
                me.shot(f"{name}-{theme}")
        me.page.set_viewport_size(PHONE)
        for name, route in pages:
            me.go(route)
            me.axe(f"{name}, phone")
            me.fits(f"{name}, phone")
            me.shot(f"{name}-phone")


run([
    figures_are_those_of_sql_and_of_the_providers,
    sign_in_by_form_and_by_link,
    explorer_slices_compares_and_is_found_again_by_its_address,
    live_tail_shows_a_call_that_is_made_meanwhile,
    a_request_tells_its_whole_life,
    a_key_works_from_when_it_is_made_until_it_is_revoked,
    a_budget_crosses_its_threshold_while_one_looks,
    routing_is_frozen_and_goes_on,
    audit_questions_show_their_sql,
    pipeline_is_healthy,
    each_role_sees_and_does_what_it_may,
    hostile_text_is_shown_as_text,
    behind_a_prefix_of_a_reverse_proxy,
    the_keyboard_suffices,
    every_page_is_accessible_and_fits,
])
