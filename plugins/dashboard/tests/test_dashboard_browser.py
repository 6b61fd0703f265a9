"""The dashboard in a browser, with a simulated controller: every page, its states, and a large mesh."""

import threading

import pytest

from maesh_core.model.traffic import MissingController, NodeTraffic
from maesh_core.plugin import MeshCondition

from . import browsing
from .simulated_controller import MARKUP, Server, Simulation

pytestmark = [
    pytest.mark.integration,
    pytest.mark.peer,
    pytest.mark.skipif(bool(browsing.find_missing()), reason=browsing.find_missing()),
]

PAGES = {
    "": "orders",
    "graph": "ingress",
    "service/shop/orders:80": "the upstream did not respond in time",
    "service/shop/catalog:80": "split canary",
    "service/shop/payments:80": "callers-of-payments",
    "tap": "Watch requests as they end",
    "audit": "Who would be denied?",
    "why": "Why is a request allowed or refused?",
    "nodes": "behind",
    "other": "There is no such page",
}


@pytest.fixture
def serve():
    servers = []

    def start(simulation=None):
        server = Server(simulation or Simulation())
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def browser():
    with browsing.open_browser() as browser:
        yield browser


def go(page, path, text):
    page.evaluate("path => { location.hash = `#/${path}`; }", path)
    page.get_by_text(text).filter(visible=True).first.wait_for()


def count(page, selector):
    return page.locator(selector).count()


@pytest.mark.parametrize(("width", "color_scheme"), [(1280, "light"), (390, "dark")])
def test_every_page_is_shown_without_an_error_and_fits(serve, browser, width, color_scheme):
    page = browsing.open_page(browser, serve().url, width=width, color_scheme=color_scheme)
    for path, text in PAGES.items():
        go(page, path, text)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
    assert page.troubles == []


def test_text_of_the_mesh_is_never_markup(serve, browser):
    page = browsing.open_page(browser, serve().url)
    go(page, "service/shop/mailer:80", MARKUP)
    go(page, "tap", "Watch requests as they end")
    page.get_by_label("Service", exact=True).fill("shop/web")
    page.get_by_role("button", name="Start").click()
    page.get_by_text(f"/{MARKUP}").first.wait_for()
    assert "owned" not in page.title()
    assert count(page, "main img") == 0
    assert page.troubles == []


def test_problems_come_first_and_are_one_click_from_what_to_do(serve, browser):
    page = browsing.open_page(browser, serve().url)
    page.locator("a.row").first.wait_for()
    names = page.locator("a.row .c-name strong").all_inner_texts()
    assert names[:4] == ["orders", "payments", "prices", "reports"]
    page.get_by_role("link", name="reports").click()
    page.get_by_text("is not a number from 0").first.wait_for()
    page.get_by_text("Correct the annotation").wait_for()
    assert page.title() == "reports – Maesh"


def test_branches_rules_servers_and_callers_have_percentiles_and_servers_their_statuses(serve, browser):
    page = browsing.open_page(browser, serve().url)
    page.evaluate("() => { location.hash = '#/service/shop/catalog:80'; }")
    for label, column in (("Branches", 6), ("Rules", 3), ("Servers", 5), ("Callers", 5)):
        table = page.get_by_role("group", name=label)
        table.wait_for()
        assert table.locator("thead th").all_inner_texts()[column : column + 3] == ["p50", "p95", "p99"]
        cells = table.locator("tbody tr").first.locator("th, td").all_inner_texts()
        assert all(cell.endswith("ms") for cell in cells[column : column + 3]), cells
    assert "2xx" in page.get_by_role("group", name="Servers").locator("tbody tr").first.inner_text()
    assert page.troubles == []


@pytest.mark.parametrize(("type_", "title"), [("tcp", "Connections/s"), ("udp", "Sessions/s")])
def test_branches_rules_servers_and_callers_of_streams_have_rates_shares_bytes_and_failures(
    serve, browser, type_, title
):
    simulation = Simulation()
    simulation.types = {"catalog": type_}
    page = browsing.open_page(browser, serve(simulation).url)
    page.evaluate("() => { location.hash = '#/service/shop/catalog:80'; }")
    for label, column in (("Branches", 4), ("Rules", 1), ("Servers", 3)):
        table = page.get_by_role("group", name=label)
        table.wait_for()
        assert table.locator("thead th").all_inner_texts()[column : column + 3] == [title, "Received", "Sent"]
    shares = [
        float(row.locator("td").all_inner_texts()[1].removesuffix(" %"))
        for row in page.get_by_role("group", name="Branches").locator("tbody tr").all()
    ]
    assert min(shares) > 0
    assert sum(shares) == pytest.approx(100, abs=0.2)
    cells = page.get_by_role("group", name="Servers").locator("tbody tr").first.locator("td").all_inner_texts()
    assert cells[-1] == "no connection 3"
    rule = page.get_by_role("group", name="Rules").locator("tbody tr").first.locator("td").all_inner_texts()
    assert rule[-1] == "no connection 3"
    callers = page.get_by_role("group", name="Callers")
    assert callers.locator("thead th").all_inner_texts()[3:5] == [title, "Denied"]
    for label in ("Rules", "Servers", "Callers"):
        assert "p95" not in page.get_by_role("group", name=label).inner_text()
    assert page.troubles == []


def test_proxies_of_other_controllers_and_controllers_that_do_not_answer_are_shown(serve, browser):
    simulation = Simulation()
    simulation.elsewhere = (
        NodeTraffic(name="node-8", revision="e.3", connections=71),
        NodeTraffic(name="node-9", revision="e.3", is_refused=True),
    )
    simulation.missing = (MissingController(name="maesh-controller-b", error="the controller cannot be reached"),)
    page = browsing.open_page(browser, serve(simulation).url)
    page.get_by_text("Controller maesh-controller-b does not answer, so proxies may be missing").wait_for()
    go(page, "nodes", "pulls from another controller")
    assert "71" in page.get_by_role("row", name="node-8").inner_text()
    assert "cannot pull, keeps its configuration" in page.get_by_role("row", name="node-9").inner_text()
    page.get_by_text("5 pulled within the last hour").wait_for()
    assert page.troubles == []


def test_the_list_is_filtered_and_sorted_and_used_by_keyboard(serve, browser):
    page = browsing.open_page(browser, serve().url)
    page.locator("a.row").first.wait_for()
    page.get_by_label("Filter services").fill("catalog")
    page.get_by_text("catalog-v2").wait_for()
    assert count(page, "a.row") == 3
    page.get_by_label("Filter services").fill("")
    page.get_by_role("button", name="Sort by Requests/s").click()
    browsing.wait_until(page, "document.querySelector('a.row strong').innerText === 'web'")
    page.locator("a.row").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("End")
    browsing.wait_until(page, "Number(document.activeElement.closest('li')?.ariaPosInSet) === 15")
    page.keyboard.press("Home")
    browsing.wait_until(page, "document.activeElement.innerText.startsWith('\\u2713') && true")
    page.keyboard.press("Enter")
    browsing.wait_until(page, "location.hash === '#/service/shop/web:80'")
    assert page.troubles == []


def test_the_graph_shows_splits_locks_and_failures_and_has_a_list(serve, browser):
    page = browsing.open_page(browser, serve().url)
    go(page, "graph", "ingress")
    assert count(page, ".node") == 15
    browsing.wait_until(page, "document.querySelectorAll('.node .lock').length === 3")
    assert [count(page, f".edge .lock.{access}") for access in ("granted", "limited", "denied")] == [2, 1, 1]
    assert count(page, ".edge.failing:has(.lock.denied)") == 1
    labels = page.locator(".edge text").all_text_contents()
    assert any("(90 %)" in each for each in labels)
    assert any("fail" in each for each in labels)
    page.get_by_role("button", name="With failures").click()
    browsing.wait_until(page, "document.querySelectorAll('.node').length === 8")
    page.get_by_role("button", name="As a list").click()
    page.get_by_text("orders → payments").wait_for()
    page.get_by_text("mailer → accounts").wait_for()
    assert page.troubles == []


def test_shields_show_what_is_encrypted_between_nodes(serve, browser):
    server = serve()
    page = browsing.open_page(browser, server.url)
    go(page, "graph", "ingress")
    assert count(page, ".edge .shield") == 0
    server.simulation.paths = {
        "payments": {"encrypted": 600},
        "search": {"clear": 30},
        "orders": {"encrypted": 300, "clear": 100},
    }
    page.locator(".edge .shield.encrypted").first.wait_for()
    assert count(page, ".edge .shield.partly") >= 1
    assert count(page, ".edge .shield.clear") >= 1
    page.get_by_role("button", name="As a list").click()
    page.get_by_text("partly in clear between nodes").first.wait_for()
    go(page, "service/shop/orders:80", "unreachable (100)")
    assert "75" in page.locator("dl.figures").inner_text()
    assert page.troubles == []


def test_the_tap_stops_with_the_page_and_says_where_there_is_none(serve, browser):
    server = serve()
    page = browsing.open_page(browser, server.url)
    go(page, "tap?service=shop/web", "Listening")
    page.locator(".record").nth(5).wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_text("Stopped").wait_for()
    server.simulation.has_tap = False
    page.get_by_role("button", name="Start").click()
    page.get_by_text("This controller has no live tap.").wait_for()
    assert [each for each in page.troubles if "404" not in each] == []


@pytest.mark.parametrize(
    ("named", "text"),
    [
        ({"node": "node-2"}, "The requests of proxy node-2 are missing: no answer"),
        ({"controller": "c-2"}, "Requests may be missing, controller c-2: no answer"),
    ],
)
def test_the_tap_names_what_is_missing(serve, browser, named, text):
    server = serve()
    server.simulation.tap_error = {"error": "no answer", **named}
    page = browsing.open_page(browser, server.url)
    go(page, "tap?service=shop/web", "Listening")
    page.get_by_text(text).wait_for()
    page.locator(".record").nth(5).wait_for()
    assert page.troubles == []


def test_a_verdict_names_each_rule(serve, browser):
    page = browsing.open_page(browser, serve().url)
    go(page, "why", "Why is a request allowed or refused?")
    page.get_by_label("Client").fill("web-0.shop")
    page.get_by_label("Service", exact=True).fill("payments.shop")
    page.get_by_role("button", name="Explain").click()
    page.get_by_text("Refused with 403").wait_for()
    page.get_by_text("denied: no TrafficTarget allows account web@shop").wait_for()
    page.get_by_label("Client").fill("orders-0.shop")
    page.keyboard.press("Enter")
    page.get_by_text("✓ Allowed").wait_for()
    page.get_by_label("Service", exact=True).fill("nothing.shop")
    page.keyboard.press("Enter")
    page.get_by_text("the mesh knows no service nothing").wait_for()


def test_the_page_says_what_is_missing(serve, browser):
    server = serve()
    server.simulation.is_empty = True
    page = browsing.open_page(browser, server.url)
    page.get_by_text("No services yet").wait_for()
    server.simulation.is_empty, server.simulation.has_traffic = False, False
    page.get_by_text("does not measure traffic").wait_for()
    server.simulation.has_traffic = True
    page.get_by_text("does not measure traffic").wait_for(state="detached")
    server.simulation.status = 500
    page.get_by_text("Connection lost").wait_for()
    assert count(page, "a.row") == 15
    server.simulation.status = 200
    page.get_by_role("button", name="Try now").click()
    page.get_by_text("Connection lost").wait_for(state="detached")


@pytest.mark.scale
@pytest.mark.timeout(600)
def test_a_mesh_of_2000_services_is_drawn_with_few_elements_and_refreshes_without_jumping(serve, browser):
    page = browsing.open_page(browser, serve(Simulation(2000, 500)).url)
    page.locator("a.row").first.wait_for()
    assert count(page, "a.row") < 60
    page.locator(".virtual").evaluate("element => { element.scrollTop = 8_000; }")
    page.locator("li[aria-posinset='220']").wait_for()
    before = page.locator("a.row .c-name").all_inner_texts()
    figures = page.locator("a.row .c-rate").all_inner_texts()
    refreshed = "old => [...document.querySelectorAll('a.row .c-rate')].some((each, i) => each.innerText !== old[i])"
    browsing.wait_until(page, refreshed, arg=figures)
    assert page.locator("a.row .c-name").all_inner_texts() == before
    assert page.locator(".virtual").evaluate("element => element.scrollTop") == 8_000
    go(page, "graph", "ingress")
    places = "[...document.querySelectorAll('.node')].map(each => each.getAttribute('transform')).join()"
    view = "document.querySelector('.drawing svg > g').getAttribute('transform')"
    drawn = page.evaluate(f"[{view}, {places}]")
    width = "[...document.querySelectorAll('.edge path')].map(each => each.getAttribute('stroke-width')).join()"
    browsing.wait_until(page, f"old => {width} !== old", arg=page.evaluate(width))
    assert page.evaluate(f"[{view}, {places}]") == drawn
    assert page.troubles == []


def test_would_be_denials_come_with_the_rule_that_would_allow_them(serve, browser):
    page = browsing.open_page(browser, serve().url)
    go(page, "audit", "web@shop")
    page.get_by_text("would be denied 25 times").wait_for()
    page.get_by_text(f"GET /{MARKUP}").wait_for()
    page.get_by_text("node-1: its latest denials are missing: it does not answer").wait_for()
    page.get_by_text("1 times: the client has no service account that the mesh knows").wait_for()
    page.get_by_text("web-to-payments-1a2b3c").click()
    page.get_by_text("kind: TrafficTarget").wait_for()
    page.get_by_text("it also opens shop/ledger:80").wait_for()
    assert page.get_by_text("mailer@shop →").count() == 0, "it was denied, and that is not asked for"
    page.get_by_label("with requests that were denied").check()
    page.get_by_text("mailer@shop →").wait_for()
    page.get_by_text("TrafficTarget mailer-may-read@shop does not").wait_for()
    page.get_by_label("Filter denials").fill("accounts")
    browsing.wait_until(page, "!document.body.innerText.includes('mailer@shop')")
    assert "denied=true" in page.url
    assert "owned" not in page.title()
    assert page.troubles == []


def test_what_plugins_say_about_the_mesh_is_above_every_page(serve, browser):
    simulation = Simulation()
    problem = f"access to {MARKUP} is in audit mode"
    simulation.conditions = (
        MeshCondition(id="access-enforced", title="it denies", hint="Enforce it.", problems=(problem,)),
        MeshCondition(id="limit-stores", title="they answer", hint="Look.", found=("2 proxies",)),
    )
    page = browsing.open_page(browser, serve(simulation).url)
    for place, text in (("", "orders"), ("nodes", "node-1")):
        go(page, place, text)
        page.get_by_text(f"Access to {MARKUP} is in audit mode. Enforce it. Audit").wait_for()
    assert page.get_by_text("Look.").count() == 0
    page.locator(".banner a", has_text="Audit").click()
    page.get_by_text("Who would be denied?").wait_for()
    assert "owned" not in page.title()
    assert page.troubles == []


def test_without_access_control_the_page_says_how_to_enable_it(serve, browser):
    simulation = Simulation()
    simulation.has_acl = False
    page = browsing.open_page(browser, serve(simulation).url)
    go(page, "audit", "Access control is disabled")
