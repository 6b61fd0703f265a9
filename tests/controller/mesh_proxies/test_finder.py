"""All proxies of a mesh with several controllers, some of which do not answer, and some of whose proxies lie."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.mesh_proxies import finder as module
from maesh_core.controller.mesh_proxies.finder import PEER_NOT_ASKED, ProxyFinder, order_proxies
from maesh_core.controller.mesh_proxies.mesh_pods import Peer
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.messages import NodeReport

from ..traffic.measured import work_at_once


def build_report(name: str, ip: str = "10.0.1.1", **more: Any) -> NodeReport:
    given = {"ready": True, "revision": "e.1", "last_seen": "2026-01-01T00:00:00.000Z", "admin_port": 8080, **more}
    return NodeReport(name=name, ip=ip, **given)


class Registry:
    def __init__(self, *reports: NodeReport) -> None:
        self.reports = reports

    def list_reports(self) -> tuple[NodeReport, ...]:
        return self.reports


class Pods:
    def __init__(self, *peers: str, addresses: tuple[str, ...] = ()) -> None:
        self.peers, self.addresses = peers, addresses

    def list_peers(self) -> list[Peer]:
        return [Peer(name, "10.0.0.1", 9000) for name in self.peers]

    def list_proxy_addresses(self) -> frozenset[str]:
        return frozenset(self.addresses)


class Fetcher:
    """Answers of controllers by name; the others cannot be reached."""

    def __init__(self, **answers: tuple[NodeReport, ...]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.is_closed = False

    async def fetch_reports(self, peer: Peer) -> tuple[NodeReport, ...]:
        self.asked.append(peer.name)
        await asyncio.sleep(0)
        if peer.name not in self.answers:
            raise NodeUnreachableError("the controller cannot be reached")
        return self.answers[peer.name]

    async def close(self) -> None:
        self.is_closed = True


async def test_without_a_cluster_the_proxies_are_those_of_this_controller() -> None:
    fetcher = Fetcher()
    known = await ProxyFinder(Registry(build_report("a")), fetcher).find()
    assert ([each.name for each in known.proxies], known.missing, fetcher.asked) == (["a"], (), [])


async def test_the_proxies_of_all_controllers_are_found() -> None:
    fetcher = Fetcher(two=(build_report("b"),), three=(build_report("c"),))
    known = await ProxyFinder(Registry(build_report("a")), fetcher, Pods("two", "three")).find()
    assert {each.name for each in known.proxies} == {"a", "b", "c"}
    assert known.missing == ()


async def test_a_controller_that_does_not_answer_is_reported_and_the_others_count() -> None:
    known = await ProxyFinder(
        Registry(build_report("a")), Fetcher(two=(build_report("b"),)), Pods("two", "gone")
    ).find()
    assert {each.name for each in known.proxies} == {"a", "b"}
    assert [(each.name, each.error) for each in known.missing] == [("gone", "the controller cannot be reached")]


async def test_controllers_above_the_limit_are_reported_and_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PEERS_LIMIT", 1)
    fetcher = Fetcher(one=(), two=())
    known = await ProxyFinder(Registry(), fetcher, Pods("one", "two")).find()
    assert fetcher.asked == ["one"]
    assert [(each.name, each.error) for each in known.missing] == [("two", PEER_NOT_ASKED)]


async def test_controllers_are_asked_once_a_second_however_many_want_to_know() -> None:
    now_s, fetcher = 0.0, Fetcher(two=())
    finder = ProxyFinder(Registry(), fetcher, Pods("two"), clock=lambda: now_s)
    one, other = await asyncio.gather(finder.find(), finder.find())
    now_s = 0.9
    assert one is other is await finder.find()
    now_s = 1.0
    await finder.find()
    assert fetcher.asked == ["two", "two"]


async def test_closing_ends_the_questions_and_closes_the_connections() -> None:
    fetcher = Fetcher(two=())
    finder = ProxyFinder(Registry(), fetcher, Pods("two"))
    finding = asyncio.create_task(finder.find())
    await asyncio.sleep(0)
    await finder.close()
    assert fetcher.is_closed
    with pytest.raises(asyncio.CancelledError):
        await finding


def order(*registries: list[NodeReport], addresses: tuple[str, ...] = ()) -> list[NodeReport]:
    return list(work_at_once(order_proxies(registries, frozenset(addresses))))


@pytest.mark.parametrize(
    ("worse", "better"),
    [
        ({"last_seen": "2026-01-01T00:00:00.000Z"}, {"last_seen": "2026-01-01T00:00:00.001Z"}),
        ({"ready": False, "last_seen": "2027"}, {"ready": True, "last_seen": "2026"}),
        ({"ready": False, "last_seen": "2027"}, {"ready": False, "refused": True, "last_seen": "2026"}),
        ({"ip": "10.9.0.1", "last_seen": "2027"}, {"ip": "::ffff:10.0.1.1", "last_seen": "2026"}),
    ],
)
def test_of_two_reports_with_one_name_the_better_one_counts(worse: Any, better: Any) -> None:
    one, other = build_report("a", **worse), build_report("a", **better)
    assert order([one], [other], addresses=("10.0.1.1",)) == order([other], [one], addresses=("10.0.1.1",)) == [other]


def test_proxies_of_the_cluster_are_first_and_further_names_of_one_address_last() -> None:
    invented = [build_report(f"a-{number}", "10.9.0.1") for number in range(5)]
    outside, silent = build_report("b", "10.9.0.2"), build_report("c", "10.9.0.3", ready=False)
    own = build_report("z", "10.0.1.1")
    found = order([*invented, outside, silent, own], addresses=("10.0.1.1",))
    assert [each.name for each in found] == ["z", "a-0", "b", "a-1", "a-2", "a-3", "a-4", "c"]


def test_no_more_proxies_than_the_limit_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LISTED_LIMIT", 3)
    assert len(order([build_report(str(number)) for number in range(9)])) == 3


def test_the_work_on_many_proxies_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP", 10)
    reports = [build_report(str(number)) for number in range(100)]
    assert sum(1 for _ in order_proxies([reports], frozenset())) >= 20


HOSTILE = st.builds(
    build_report,
    name=st.text(min_size=1, max_size=3),
    ip=st.sampled_from(["10.9.0.1", "10.9.0.2", "", "x"]),
    ready=st.booleans(),
    last_seen=st.text(max_size=5),
    admin_port=st.one_of(st.none(), st.integers()),
)


@given(st.lists(HOSTILE, max_size=20), st.lists(HOSTILE, max_size=20))
def test_no_invented_name_is_asked_before_a_proxy_of_the_cluster(one: Any, other: Any) -> None:
    addresses = tuple(f"10.0.1.{number}" for number in range(4))
    own = [build_report(f"node-{address}", address) for address in addresses]
    found = order(one, [*other, *own], addresses=addresses)
    assert found[:4] == own
    assert len({each.name for each in found}) == len(found)
    alive = [each.ip for each in found[4:] if each.ready]
    for ip in set(alive):  # all others had their first turn before anyone had a second one
        second = [index for index, each in enumerate(alive) if each == ip][1:2]
        assert all(set(alive) <= set(alive[:index]) for index in second)


async def test_all_reports_of_all_controllers_are_kept() -> None:
    own, other = build_report("a", "10.0.1.1"), build_report("a", "10.0.1.2")
    finder = ProxyFinder(Registry(own), Fetcher(two=(other,)), Pods("two"))
    found = await finder.find()
    assert len(found.proxies) == 1
    assert found.reports == (own, other)
    await finder.close()
