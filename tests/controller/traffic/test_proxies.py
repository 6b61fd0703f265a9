"""Many proxies, some of which do not answer."""

import asyncio

import pytest

from maesh_core.controller.traffic import proxies as module
from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.proxies import (
    CONCURRENCY,
    NO_TIME,
    NOT_ASKED,
    NOT_PULLING,
    ProxySource,
    count_clients,
)
from maesh_core.controller.traffic.report import build_scope
from maesh_core.controller.traffic.sums import TrafficSums
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport

from .measured import SERVICES, WEB, count, since_start

SCOPE = build_scope(SERVICES)


class Registry:
    """Proxies by name; those in `silent` have not pulled for long."""

    def __init__(self, *names, silent=()):
        self.names, self.silent = names, silent

    def list_reports(self):
        return [
            NodeReport(name=name, ip="10.0.0.1", ready=name not in self.silent, revision="e.1", last_seen="")
            for name in self.names
        ]

    def find_admin(self, name):
        return name


class Fetcher:
    """Answers of proxies: one request each, unless `answers` has something else by name."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []
        self.running = self.most = 0
        self.is_closed = False

    async def fetch_traffic(self, address):
        self.asked.append(address)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            answer = self.answers.get(address)
            if isinstance(answer, Exception):
                raise answer
            if answer is not None:
                await answer.wait()
        finally:
            self.running -= 1
        return since_start(
            count(metrics.REQUESTS, {(WEB, "2xx"): 1.0}, "service", "code"),
            count(metrics.HTTP_CONNECTIONS, {("client",): 4.0, ("upstream",): 9.0}, "side"),
        )

    async def close(self):
        self.is_closed = True


async def measure(registry, fetcher, **limits):
    measured = await ProxySource(registry, fetcher, **limits).measure(SCOPE)
    requests = sum(measured.sums.total.find(metrics.REQUESTS, WEB).values())
    return requests, {node.name: node.error for node in measured.nodes}, measured


async def test_all_proxies_are_asked_and_added():
    fetcher = Fetcher()
    requests, errors, measured = await measure(Registry("a", "b", "c"), fetcher)
    assert (requests, errors) == (3, {"a": "", "b": "", "c": ""})
    assert [(node.connections, node.revision) for node in measured.nodes] == [(4, "e.1")] * 3


async def test_a_proxy_that_does_not_answer_is_reported_and_the_others_count():
    fetcher = Fetcher(b=NodeUnreachableError("the proxy cannot be reached"))
    requests, errors, _ = await measure(Registry("a", "b", "c"), fetcher)
    assert (requests, errors) == (2, {"a": "", "b": "the proxy cannot be reached", "c": ""})


async def test_a_proxy_that_no_longer_pulls_is_not_asked():
    fetcher = Fetcher()
    requests, errors, _ = await measure(Registry("a", "b", silent={"b"}), fetcher)
    assert (requests, errors, fetcher.asked) == (1, {"a": "", "b": NOT_PULLING}, ["a"])


async def test_only_a_few_are_asked_at_the_same_time():
    fetcher = Fetcher()
    requests, _, _ = await measure(Registry(*map(str, range(50))), fetcher)
    assert (requests, fetcher.most) == (50, CONCURRENCY)


async def test_proxies_above_the_limit_are_reported_and_not_asked(monkeypatch):
    monkeypatch.setattr(module, "PROXIES_LIMIT", 3)
    requests, errors, _ = await measure(Registry(*"abcde"), Fetcher())
    assert requests == 3
    assert errors == {"a": "", "b": "", "c": "", "d": NOT_ASKED, "e": NOT_ASKED}


async def test_after_the_deadline_those_that_have_answered_count():
    never = asyncio.Event()
    fetcher = Fetcher(b=never)
    requests, errors, _ = await measure(Registry("a", "b", "c"), fetcher, deadline_s=0.1)
    assert (requests, errors) == (2, {"a": "", "b": NO_TIME, "c": ""})
    assert fetcher.running == 0


async def test_a_mesh_without_proxies_has_no_traffic():
    assert (await measure(Registry(), Fetcher()))[:2] == (0, {})


async def test_an_unexpected_error_is_raised_and_leaves_no_task():
    fetcher = Fetcher(b=RuntimeError("bug"))
    with pytest.raises(ExceptionGroup):
        await measure(Registry("a", "b"), fetcher)
    assert fetcher.running == 0


async def test_closing_closes_the_connections():
    fetcher = Fetcher()
    await ProxySource(Registry(), fetcher).close()
    assert fetcher.is_closed


async def test_a_deadline_leaves_no_half_of_a_proxys_counts(monkeypatch):
    monkeypatch.setattr("maesh_core.controller.traffic.sums.STEP", 1)
    codes = {(WEB, str(code)): 1.0 for code in range(200, 600)}
    fetcher = Fetcher()

    async def fetch_traffic(_):
        asyncio.current_task().cancel()  # as the deadline does, at the first pause
        return since_start(count(metrics.REQUESTS, codes, "service", "code"))

    fetcher.fetch_traffic = fetch_traffic
    source, sums = ProxySource(Registry("a"), fetcher), TrafficSums(SCOPE)
    (report,), found = Registry("a").list_reports(), {}
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(source._ask(report, sums, found))
    assert sum(sums.total.find(metrics.REQUESTS, WEB).values()) == 400
    assert found["a"].error == ""


@pytest.mark.parametrize("value", [-1.0, float("nan"), 1e300])
def test_an_invalid_number_of_connections_counts_as_none(value):
    assert count_clients(since_start(count(metrics.HTTP_CONNECTIONS, {("client",): value}, "side"))) == 0
    assert count_clients(since_start()) == 0
