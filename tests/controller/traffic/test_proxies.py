"""Many proxies, some of which do not answer."""

import asyncio

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.controller.mesh_proxies.finder import NOT_PULLING, KnownProxies
from maesh_core.controller.mesh_proxies.shared_names import SHARED
from maesh_core.controller.traffic import proxies as module
from maesh_core.controller.traffic import wanted_metrics as metrics
from maesh_core.controller.traffic.proxies import (
    CONCURRENCY,
    LIMIT_BYTES,
    MEMORY_BYTES,
    NO_TIME,
    NOT_ASKED,
    ProxySource,
    choose_answer_limit,
    choose_concurrency,
    count_clients,
)
from maesh_core.controller.traffic.report import build_scope
from maesh_core.controller.traffic.sums import TrafficSums
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport
from maesh_core.model.traffic import MissingController

from .measured import SERVICES, WEB, count, since_start, work_at_once

SCOPE = work_at_once(build_scope(SERVICES))
TRAFFIC = since_start(
    count(metrics.REQUESTS, {(WEB, "2xx"): 1.0, ("shop/none:1", "2xx"): 7.0}, "service", "code"),
    count(metrics.HTTP_CONNECTIONS, {("client",): 4.0, ("upstream",): 9.0}, "side"),
)


class Finder:
    """Proxies by name; those in `silent` have not pulled for long, those in `refused` only in vain."""

    def __init__(self, *names, silent=(), refused=(), missing=()):
        self.names, self.silent, self.refused = names, silent, refused
        self.missing = tuple(MissingController(name=name, error="gone") for name in missing)

    async def find(self):
        proxies = tuple(
            NodeReport(
                name=name,
                ip="10.0.0.1",
                ready=name not in (*self.silent, *self.refused),
                revision="e.1",
                last_seen="",
                admin_port=8080,
                refused=name in self.refused,
            )
            for name in self.names
        )
        return KnownProxies(proxies, self.missing)


class Fetcher:
    """Answers of proxies: one request each, unless `answers` has something else by name."""

    def __init__(self, **answers):
        self.answers = answers
        self.asked = []
        self.limits = set()
        self.running = self.most = 0
        self.is_closed = False

    async def fetch_traffic(self, proxy, *, limit_bytes):
        self.asked.append(proxy.name)
        self.limits.add(limit_bytes)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            answer = self.answers.get(proxy.name, TRAFFIC)
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, asyncio.Event):
                await answer.wait()
        finally:
            self.running -= 1
        return answer if isinstance(answer, bytes) else msgspec.json.encode(answer)

    async def close(self):
        self.is_closed = True


async def measure(finder, fetcher, **limits):
    measured = await ProxySource(finder, fetcher, **limits).measure(SCOPE)
    requests = sum(measured.sums.total.find(metrics.REQUESTS, WEB).values())
    return requests, {node.name: node.error for node in measured.nodes}, measured


async def test_all_proxies_are_asked_and_added():
    fetcher = Fetcher()
    requests, errors, measured = await measure(Finder("a", "b", "c"), fetcher)
    assert (requests, errors) == (3, {"a": "", "b": "", "c": ""})
    assert [node.left_out for node in measured.nodes] == [1, 1, 1]
    assert [(node.connections, node.revision) for node in measured.nodes] == [(4, "e.1")] * 3


async def test_a_proxy_that_does_not_answer_is_reported_and_the_others_count():
    fetcher = Fetcher(b=NodeUnreachableError("the proxy cannot be reached"))
    requests, errors, _ = await measure(Finder("a", "b", "c"), fetcher)
    assert (requests, errors) == (2, {"a": "", "b": "the proxy cannot be reached", "c": ""})


async def test_a_proxy_that_no_longer_pulls_is_not_asked():
    fetcher = Fetcher()
    requests, errors, _ = await measure(Finder("a", "b", silent={"b"}), fetcher)
    assert (requests, errors, fetcher.asked) == (1, {"a": "", "b": NOT_PULLING}, ["a"])


async def test_a_proxy_whose_pulls_are_refused_is_asked_and_marked():
    requests, errors, measured = await measure(Finder("a", "b", refused={"b"}), Fetcher())
    assert (requests, errors) == (2, {"a": "", "b": ""})
    assert [node.is_refused for node in measured.nodes] == [False, True]


async def test_controllers_that_did_not_name_their_proxies_are_reported():
    _, _, measured = await measure(Finder("a", missing=("c-2",)), Fetcher())
    assert [each.name for each in measured.missing] == ["c-2"]


async def test_proxies_are_asked_in_the_order_of_the_finder_and_reported_by_name():
    fetcher = Fetcher()
    _, errors, _ = await measure(Finder("b", "c", "a"), fetcher)
    assert (fetcher.asked, list(errors)) == (["b", "c", "a"], ["a", "b", "c"])


async def test_proxies_with_large_answers_or_none_are_asked_last_the_next_time(monkeypatch):
    monkeypatch.setattr(module, "SIZE_STEP_BYTES", 10_000)
    large = since_start(count(metrics.RETRIES, {(f"shop/x{number}:80",): 1.0 for number in range(1000)}))
    fetcher = Fetcher(a=NodeUnreachableError("gone"), b=large)
    source = ProxySource(Finder(*"abcd"), fetcher)
    for expected in ("abcd", "cdba", "cdba"):
        fetcher.asked.clear()
        await source.measure(SCOPE)
        assert "".join(fetcher.asked) == expected


async def test_what_is_not_traffic_is_not_used():
    requests, errors, _ = await measure(Finder("a", "b"), Fetcher(b=b"[]"))
    assert (requests, errors["b"]) == (1, "the proxy's answer is not its traffic")


async def test_only_one_answer_is_decoded_at_a_time(monkeypatch):
    decoding = []

    def parse(body):
        decoding.append(body)
        for _ in range(3):
            assert len(decoding) == 1
            yield
        decoding.clear()
        return TRAFFIC

    monkeypatch.setattr(module, "parse_traffic", parse)
    assert (await measure(Finder(*"abcdef"), Fetcher()))[0] == 6


def test_all_answers_together_fit_into_the_memory_for_them():
    sizes = [(0, 0), (1, 0), (1, 1), (100, 1_000), (2_000, 6_000), (10_000, 30_000), (10**9, 0)]
    limits = [choose_answer_limit(*size) for size in sizes]
    assert limits == sorted(limits)
    assert limits[-1] == LIMIT_BYTES
    for limit in limits:
        assert 1 <= choose_concurrency(limit) <= CONCURRENCY
        assert choose_concurrency(limit) * limit <= MEMORY_BYTES


async def test_the_limit_of_an_answer_depends_on_the_numbers_of_services_and_servers():
    fetcher = Fetcher()
    await measure(Finder("a"), fetcher)
    assert fetcher.limits == {choose_answer_limit(len(SCOPE.services), len(SCOPE.servers))}


async def test_only_a_few_are_asked_at_the_same_time():
    fetcher = Fetcher()
    requests, _, _ = await measure(Finder(*map(str, range(50))), fetcher)
    assert (requests, fetcher.most) == (
        50,
        choose_concurrency(choose_answer_limit(len(SCOPE.services), len(SCOPE.servers))),
    )


async def test_proxies_above_the_limit_are_reported_and_not_asked(monkeypatch):
    monkeypatch.setattr(module, "PROXIES_LIMIT", 3)
    requests, errors, _ = await measure(Finder(*"abcde"), Fetcher())
    assert requests == 3
    assert errors == {"a": "", "b": "", "c": "", "d": NOT_ASKED, "e": NOT_ASKED}


async def test_after_the_deadline_those_that_have_answered_count():
    never = asyncio.Event()
    fetcher = Fetcher(b=never)
    requests, errors, _ = await measure(Finder("a", "b", "c"), fetcher, deadline_s=0.1)
    assert (requests, errors) == (2, {"a": "", "b": NO_TIME, "c": ""})
    assert fetcher.running == 0


async def test_a_mesh_without_proxies_has_no_traffic():
    assert (await measure(Finder(), Fetcher()))[:2] == (0, {})


async def test_an_unexpected_error_is_raised_and_leaves_no_task():
    fetcher = Fetcher(b=RuntimeError("bug"))
    with pytest.raises(ExceptionGroup):
        await measure(Finder("a", "b"), fetcher)
    assert fetcher.running == 0


async def test_closing_closes_the_connections():
    fetcher = Fetcher()
    await ProxySource(Finder(), fetcher).close()
    assert fetcher.is_closed


async def test_a_deadline_leaves_no_half_of_a_proxys_counts(monkeypatch):
    monkeypatch.setattr("maesh_core.controller.traffic.sums.STEP", 1)
    codes = {(WEB, str(code)): 1.0 for code in range(200, 600)}
    traffic = since_start(count(metrics.REQUESTS, codes, "service", "code"))
    proxy = (await Finder("a").find()).proxies[0]
    round_ = module._Round(Fetcher(), TrafficSums(SCOPE), limit_bytes=1)
    adding = asyncio.create_task(round_._add(proxy, traffic))
    for _ in range(3):
        await asyncio.sleep(0)
    assert 0 < round_.sums.total.known < 400
    adding.cancel()
    with pytest.raises(asyncio.CancelledError):
        await adding
    assert sum(round_.sums.total.find(metrics.REQUESTS, WEB).values()) == 400
    assert round_.list_nodes()[0].error == ""


@pytest.mark.parametrize("value", [-1.0, float("nan"), 1e300])
def test_an_invalid_number_of_connections_counts_as_none(value):
    assert count_clients(since_start(count(metrics.HTTP_CONNECTIONS, {("client",): value}, "side"))) == 0
    assert count_clients(since_start()) == 0


def build_hostile_body(kind, number):
    """Build an answer that is no traffic, cut, too deep, or full of invented names."""
    edges = {(f"10.9.{each // 250}.{each % 250}", WEB): 1.0 for each in range(number)}
    reasons = {(WEB, str(100 + each), f"{chr(each)} x"): 1.0 for each in range(number)}
    servers = {(f"10.9.0.1:{each}", "response"): 1e15 for each in range(number)}
    body = msgspec.json.encode(
        since_start(
            count(metrics.EDGES, edges, "client", "service"),
            count(metrics.ANSWERS, reasons, "service", "code", "reason"),
            count(metrics.ATTEMPTS, servers, "server", "outcome"),
            count(metrics.REQUESTS, {(f"shop/x{each}:80", "2xx"): 1e15 for each in range(number)}, "service", "code"),
            count(metrics.HTTP_CONNECTIONS, {("client",): 1e300}, "side"),
        )
    )
    return {"whole": body, "cut": body[: len(body) // 2], "deep": b"[" * number, "no": b"x" * number}[kind]


HOSTILE = st.one_of(
    st.binary(max_size=50),
    st.builds(build_hostile_body, st.sampled_from(["whole", "cut", "deep", "no"]), st.integers(0, 300)),
    st.just(NodeUnreachableError("the proxy cannot be reached")),
)


@settings(max_examples=40)
@given(st.lists(HOSTILE, max_size=4), st.integers(0, 4))
def test_hostile_answers_neither_change_nor_hide_the_counts_of_honest_proxies(hostile, place):
    async def run():
        answers = {f"x{number}": answer for number, answer in enumerate(hostile)}
        names = [*[*answers][:place], "a", *[*answers][place:], "b"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("maesh_core.controller.traffic.sums.FREE_SHARE", 50)
            requests, errors, measured = await measure(Finder(*names), Fetcher(**answers))
        total = measured.sums.total
        assert (requests, errors["a"], errors["b"]) == (2, "", "")
        assert total.list_firsts(metrics.REQUESTS) == [WEB]
        assert total.list_firsts(metrics.ATTEMPTS) == []
        assert total.free <= 50 * len(hostile)
        assert [node.left_out for node in measured.nodes if node.name in ("a", "b")] == [1, 1]
        assert all(node.connections <= 4 for node in measured.nodes)

    asyncio.run(run())


async def test_a_proxy_that_shares_its_name_counts_and_has_an_error_that_says_so():
    class Shared(Finder):
        async def find(self):
            known = await super().find()
            proxies = tuple(msgspec.structs.replace(each, shared_ports=(8080, 8081)) for each in known.proxies)
            return KnownProxies(proxies, known.missing)

    measured = await ProxySource(Shared("a"), Fetcher()).measure(SCOPE)
    (node,) = measured.nodes
    assert (node.error, node.connections) == (SHARED, 4)
    assert measured.sums.total.count(metrics.REQUESTS, WEB, "2xx") == 1
