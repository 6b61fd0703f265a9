"""`/api/acl/suggestions`: the report with the rules that would allow it."""

import asyncio
import json

from maesh_acl.denials.report import ClientAccount, Denial, DenialReport
from maesh_acl.suggesting.page import ANSWER_S, DENIALS_LIMIT, SuggestionPage

from maesh_core.controller.topology.rendering import render_topology
from maesh_core.plugin import PageRequest

from .conftest import Cluster, build_pod, build_service

OBJECTS = [build_service("api"), build_pod("api-1", "10.0.0.1", "api", app="api")]


def build_denial(*, mode="audit", path="/orders", count=3):
    return Denial(
        mode=mode,
        service="shop/api:80",
        destinations=("api@shop",),
        client=ClientAccount(namespace="shop", service_account="web"),
        address="10.0.0.9",
        traffic_type="http",
        method="GET",
        path=path,
        is_path_cut=False,
        route="",
        reason="client",
        count=count,
        first="2026-01-01T10:00:00Z",
        last="2026-01-01T11:00:00Z",
    )


class Controller:
    """A controller with a mesh and a report, which counts how often the report is gathered."""

    def __init__(self, *denials):
        self.denials, self.gathered, self.now_s = denials, 0, 0.0
        self.topology = json.dumps(render_topology([Cluster(*OBJECTS).build_node("api")])).encode()

    def render_topology(self):
        return self.topology

    async def build_report(self):
        self.gathered += 1
        return DenialReport(since="2026-01-01T09:00:00Z", complete=True, denials=self.denials)

    def clock(self):
        return self.now_s


async def ask(page, **query):
    response = await page.respond(PageRequest(query=query))
    assert (response.status, response.content_type) == (200, "application/json")
    return json.loads(response.body)


def build_page(controller):
    return SuggestionPage(controller, controller, clock=controller.clock)


async def test_each_denial_comes_with_the_rule_that_would_allow_it():
    answer = await ask(build_page(Controller(build_denial())))
    (suggestion,) = answer["suggestions"]
    assert suggestion["clients"] == [{"namespace": "shop", "serviceAccount": "web"}]
    assert suggestion["services"] == ["shop/api:80"]
    assert "pathRegex: /orders$" in suggestion["yaml"]
    assert [each["path"] for each in answer["report"]["denials"]] == ["/orders"]
    assert (answer["leftOut"], answer["more"]) == ([], 0)


async def test_what_was_denied_has_a_rule_only_if_it_is_asked_for():
    page = build_page(Controller(build_denial(mode="enforce")))
    assert (await ask(page))["suggestions"] == []
    assert len((await ask(page, denied="true"))["suggestions"]) == 1


async def test_paths_have_variables_unless_exact_ones_are_asked_for():
    page = build_page(Controller(*(build_denial(path=f"/users/{number}") for number in range(9))))
    assert "[0-9]+" in (await ask(page))["suggestions"][0]["yaml"]
    assert "[0-9]+" not in (await ask(page, exact="true"))["suggestions"][0]["yaml"]


async def test_an_answer_is_used_for_some_seconds_however_many_ask():
    controller = Controller(build_denial())
    page = build_page(controller)
    await asyncio.gather(*(ask(page) for _ in range(5)))
    assert controller.gathered == 1
    controller.now_s = ANSWER_S + 1
    await ask(page)
    assert controller.gathered == 2


async def test_the_most_frequent_denials_are_shown_and_all_are_considered():
    denials = [build_denial(path=f"/a{number}", count=number + 1) for number in range(DENIALS_LIMIT + 5)]
    answer = await ask(build_page(Controller(*denials)))
    assert len(answer["report"]["denials"]) == DENIALS_LIMIT
    assert answer["report"]["denials"][0]["path"] == f"/a{DENIALS_LIMIT + 4}"
    assert answer["more"] == 5
    assert len(answer["suggestions"][0]["requests"]) == DENIALS_LIMIT + 5


async def test_a_topology_that_cannot_be_read_is_an_error_for_now():
    controller = Controller(build_denial())
    controller.topology = b'{"services": 3, "pods": {}}'
    response = await build_page(controller).respond(PageRequest())
    assert (response.status, b"topology" in response.body) == (503, True)
