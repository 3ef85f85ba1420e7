"""How long the console's pages take until all their figures stand: printed, and judged by nobody."""

import sys
import time
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs

from seat import run, seat

TRIES = 3


def ninety_days():
    now = datetime.now(timezone.utc)
    return f"from={now - timedelta(days=90):%Y-%m-%dT00:00:00Z}&to={now + timedelta(days=1):%Y-%m-%dT00:00:00Z}"


def say(what, show, leave=lambda: None):
    """The first time, and the best of all."""
    times = []
    for _ in range(TRIES):
        leave()
        began = time.monotonic()
        show()
        times.append((time.monotonic() - began) * 1000)
    print(f"{times[0]:6.0f} ms  {min(times):6.0f} ms  {what}", file=sys.stderr)


def times(world, browser):
    days = ninety_days()
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        print("    first        best  page", file=sys.stderr)
        say("Overview, opened from nothing", me.open)
        id = world.one("SELECT request_id FROM weir.requests WHERE ts < now() AND attempts = 2 LIMIT 1")
        routes = dict(me.pages()) | {
            "One request": f"requests/{id}",
            "Overview, 90 days": f"?{days}",
            "Explorer, 90 days by team": f"explorer?{days}",
            "Explorer, 90 days by team and model": f"explorer?by=team,model&{days}",
            "Explorer, 90 days by user, compared": f"explorer?by=user&compare=true&{days}",
            "Explorer, 90 days, total time by provider": f"explorer?by=provider&measure=total_ms_p95&{days}",
            "Pipeline, 90 days": f"pipeline?{days}",
        }
        me.go("audit")
        links = me.page.get_by_role("navigation", name="Questions").get_by_role("link").all()
        for link in links:
            query = link.get_attribute("href").partition("?")[2]
            question = parse_qs(query)["question"][0]
            routes[f"Audit, 90 days: {question}"] = f"audit?question={question}&{days}"
        for name, route in routes.items():
            elsewhere = "keys" if route == "budgets" else "budgets"
            say(name, lambda: me.go(route), lambda: me.go(elsewhere))


run([times])
