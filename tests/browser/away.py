"""The console while something that it needs is away, and afterwards; and with nothing, or next to nothing, to show."""

from playwright.sync_api import expect

from seat import call, run, seat


def nothing_then_one_request(world, browser):
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        for name, route in me.pages():
            me.go(route)
            me.axe(f"{name}, empty")
            me.fits(f"{name}, empty")
            me.shot(f"empty-{name}")
        me.go("audit?question=calls")
        expect(me.panel("Calls")).to_contain_text("No call in this range.")
        id = call(world)
        world.wait_for("SELECT count() FROM weir.requests", "1")
        me.page.reload()
        me.settle()
        expect(me.panel("Calls").locator("tbody tr")).to_have_count(1)
        me.go(f"requests/{id}")
        me.axe("request")
        me.shot("one-request")


def the_store_goes_and_comes_back(world, browser):
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        said = me.page.get_by_role("status").first
        expect(said).to_have_text("Live")
        me.expects(r"50[34] ")
        world.tell("kill the store")
        expect(said).to_contain_text("the store does not answer")
        me.shot("store-away")
        world.tell("start the store")
        expect(said).to_have_text("Live")


def the_gateway_goes_and_comes_back(world, browser):
    with seat(world, browser) as me:
        me.sign_in(world.tokens["admin"])
        me.go("budgets")
        said = me.page.get_by_role("status").first
        expect(said).to_have_text("Live")
        me.expects(r"503 ")
        world.tell("kill the gateway")
        expect(said).to_contain_text("the gateway does not answer")
        me.shot("gateway-away")
        world.tell("start the gateway")
        expect(said).to_have_text("Live")


run([nothing_then_one_request, the_store_goes_and_comes_back, the_gateway_goes_and_comes_back])
