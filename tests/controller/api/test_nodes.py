import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.api.nodes import (
    FORGOTTEN_S,
    NAME_LIMIT,
    PORTS_LIMIT,
    READY_S,
    REVISION_LIMIT,
    SHARED_S,
    AdminAddress,
    NodeRegistry,
    is_valid_name,
)
from maesh_core.model.messages import TransportReport


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def nodes(clock):
    return NodeRegistry(clock=clock, wall_clock=lambda: 1_700_000_000.0, limit=3)


def pull(nodes, name, revision="e.1", ip="10.0.0.1", admin_port=None):
    with nodes.hold_pull(name, ip, revision, admin_port=admin_port):
        pass


def test_a_proxy_that_pulled_is_reported(nodes):
    pull(nodes, "a")
    [report] = nodes.list_reports()
    assert (report.name, report.ip, report.ready, report.revision) == ("a", "10.0.0.1", True, "e.1")
    assert report.last_seen == "2023-11-14T22:13:20.000Z"


def test_the_admin_port_is_kept_with_the_address_of_the_same_pull(nodes):
    pull(nodes, "a", admin_port=8080)
    assert nodes.find_admin("a") == AdminAddress("10.0.0.1", 8080)
    pull(nodes, "a", ip="10.0.0.2")
    assert nodes.find_admin("a") == AdminAddress("10.0.0.2", None)


def test_a_proxy_that_is_not_remembered_has_no_admin_address(nodes, clock):
    assert nodes.find_admin("a") is None
    pull(nodes, "a", admin_port=8080)
    clock.now += FORGOTTEN_S + 1
    assert nodes.find_admin("a") is None


def test_reports_are_sorted_by_name(nodes):
    pull(nodes, "b")
    pull(nodes, "a")
    assert [report.name for report in nodes.list_reports()] == ["a", "b"]


def test_a_proxy_without_a_revision_is_not_ready(nodes):
    pull(nodes, "a", revision=None)
    [report] = nodes.list_reports()
    assert not report.ready
    assert report.revision is None


def test_a_proxy_is_ready_for_a_while_after_its_pull(nodes, clock):
    pull(nodes, "a")
    clock.now += READY_S
    assert nodes.list_reports()[0].ready
    clock.now += 0.1
    [report] = nodes.list_reports()
    assert not report.ready
    assert report.last_seen == "2023-11-14T22:11:49.900Z"


def test_a_proxy_whose_pull_is_held_is_ready(nodes, clock):
    with nodes.hold_pull("a", "10.0.0.1", "e.1"):
        clock.now += READY_S + 1
        assert nodes.list_reports()[0].ready


def test_the_end_of_a_pull_counts_as_seen(nodes, clock):
    with nodes.hold_pull("a", "10.0.0.1", "e.1"):
        clock.now += READY_S
    clock.now += READY_S
    assert nodes.list_reports()[0].ready


def test_a_pull_that_is_cut_short_is_not_held_for_ever(nodes, clock):
    with pytest.raises(ConnectionError), nodes.hold_pull("a", "10.0.0.1", "e.1"):
        raise ConnectionError
    clock.now += READY_S + 1
    assert not nodes.list_reports()[0].ready


def test_a_proxy_that_stays_away_is_forgotten(nodes, clock):
    pull(nodes, "a")
    clock.now += FORGOTTEN_S / 2
    pull(nodes, "b")
    clock.now += FORGOTTEN_S / 2 + 1
    assert [report.name for report in nodes.list_reports()] == ["b"]


def test_above_the_limit_the_one_longest_unseen_is_dropped(nodes):
    for name in "abcad":
        pull(nodes, name)
    assert [report.name for report in nodes.list_reports()] == ["a", "c", "d"]


def test_a_dropped_proxy_whose_pull_ends_does_not_come_back(nodes):
    with nodes.hold_pull("a", "10.0.0.1", "e.1"):
        for name in "bcd":
            pull(nodes, name)
    assert [report.name for report in nodes.list_reports()] == ["b", "c", "d"]


@pytest.mark.parametrize("revision", ["x" * (REVISION_LIMIT + 1), "a\nb", "", "\ud800"])
def test_nonsense_in_place_of_a_revision_is_taken_as_none(nodes, revision):
    pull(nodes, "a", revision=revision)
    assert nodes.list_reports()[0].revision is None


@pytest.mark.parametrize(
    ("name", "is_valid"),
    [
        ("a", True),
        ("ä b", True),
        ("x" * NAME_LIMIT, True),
        ("x" * (NAME_LIMIT + 1), False),
        ("", False),
        ("a\n", False),
    ],
)
def test_names_are_printable_and_bounded(name, is_valid):
    assert is_valid_name(name) is is_valid


def refuse(nodes, name, revision="e.1"):
    nodes.note_refused_pull(name, "10.0.0.1", revision, admin_port=8080)


def test_a_proxy_whose_pulls_are_refused_is_marked_once_its_last_answer_is_old(nodes, clock):
    pull(nodes, "a", admin_port=8080)
    for _ in range(10):
        clock.now += 10
        refuse(nodes, "a")
    [report] = nodes.list_reports()
    assert (report.ready, report.refused, report.revision, report.admin_port) == (False, True, "e.1", 8080)
    assert nodes.find_admin("a") == AdminAddress("10.0.0.1", 8080)
    pull(nodes, "a")
    [report] = nodes.list_reports()
    assert (report.ready, report.refused) == (True, False)


def test_a_proxy_that_was_answered_a_moment_ago_is_not_marked(nodes, clock):
    pull(nodes, "a")
    clock.now += READY_S
    refuse(nodes, "a")
    [report] = nodes.list_reports()
    assert (report.ready, report.refused) == (True, False)


def test_a_proxy_that_no_longer_tries_is_not_marked(nodes, clock):
    refuse(nodes, "a")
    assert nodes.list_reports()[0].refused
    clock.now += READY_S + 0.1
    [report] = nodes.list_reports()
    assert (report.ready, report.refused) == (False, False)


def test_a_pull_from_elsewhere_does_not_displace_a_proxy_that_holds_one(nodes):
    with nodes.hold_pull("a", "10.0.0.1", "e.1", admin_port=8080):
        pull(nodes, "a", ip="10.9.0.1", admin_port=666)
        assert [(each.name, each.ip) for each in nodes.list_reports()] == [("a", "10.0.0.1"), ("a", "10.9.0.1")]
        assert nodes.find_admin("a") == AdminAddress("10.0.0.1", 8080)
    pull(nodes, "a", ip="10.0.0.2")
    assert [each.ip for each in nodes.list_reports()] == ["10.0.0.2"]


def test_invented_names_of_one_address_displace_only_each_other(clock):
    nodes = NodeRegistry(clock=clock, limit=10, address_limit=3)
    pull(nodes, "real", ip="10.0.0.1")
    for number in range(50):
        clock.now += 1
        pull(nodes, f"x{number}", ip="10.9.0.1")
    assert [each.name for each in nodes.list_reports()] == ["real", "x47", "x48", "x49"]


PULLS = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["10.0.0.1", "10.0.0.2"]), st.booleans(), st.integers(0, 2000)),
    max_size=20,
)


@given(PULLS)
def test_any_pulls_leave_a_registry_within_its_limits(pulls):
    clock = Clock()
    nodes = NodeRegistry(clock=clock, limit=4, address_limit=2)
    with contextlib.ExitStack() as held:
        for name, ip, is_held, seconds in pulls:
            clock.now += seconds
            if is_held:
                held.enter_context(nodes.hold_pull(name, ip, "e.1"))
            else:
                nodes.note_refused_pull(name, ip, "e.1")
            reports = nodes.list_reports()
            assert (name, ip) in {(each.name, each.ip) for each in reports}
            assert len(reports) <= 4
            assert all(sum(each.ip == ip for each in reports) <= 2 for ip in ("10.0.0.1", "10.0.0.2"))
            assert nodes.find_admin(name) is not None
    clock.now += FORGOTTEN_S + 1
    assert nodes.list_reports() == []
    assert [nodes.find_admin(name) for name in "abc"] == [None] * 3
    assert repr(nodes) == "<NodeRegistry nodes=0>"


class Reader:
    """Accepts facts without `bad`, and counts the questions."""

    def __init__(self):
        self.asked = []

    def accept_facts(self, facts):
        self.asked.append(dict(facts))
        if "bad" in facts:
            raise ValueError("bad")
        return {name: text for name, text in facts.items() if name != "unknown"}

    def describe_facts(self, facts):
        return TransportReport(facts=facts, summary=f"{len(facts)} facts")


def test_facts_are_those_that_the_transport_accepts(clock):
    reader = Reader()
    nodes = NodeRegistry(clock=clock, reader=reader)
    for facts in ({"ends": "5", "unknown": "x"}, {"ends": "5", "unknown": "x"}):
        with nodes.hold_pull("a", "10.0.0.1", "e.1", facts=facts):
            pass
    [report] = nodes.list_reports()
    assert report.transport == TransportReport(facts={"ends": "5"}, summary="1 facts")
    assert len(reader.asked) == 1, "the same facts are checked once"


def test_wrong_facts_are_refused_and_do_not_affect_the_pull(clock):
    nodes = NodeRegistry(clock=clock, reader=Reader())
    with nodes.hold_pull("a", "10.0.0.1", "e.1", facts={"ends": "5"}):
        pass
    with nodes.hold_pull("a", "10.0.0.1", "e.2", facts={"bad": "5"}):
        pass
    [report] = nodes.list_reports()
    assert (report.ready, report.revision, report.transport) == (True, "e.2", TransportReport(summary="0 facts"))
    assert nodes.refused_facts == 1


def test_without_a_transport_facts_are_ignored(nodes):
    with nodes.hold_pull("a", "10.0.0.1", "e.1", facts={"ends": "5"}):
        pass
    assert nodes.list_reports()[0].transport is msgspec.UNSET


def test_a_pull_that_is_refused_reports_facts_too(clock):
    nodes = NodeRegistry(clock=clock, reader=Reader())
    nodes.note_refused_pull("a", "10.0.0.1", None, facts={"ends": "5"})
    report: Any = nodes.list_reports()[0].transport
    assert report.facts == {"ends": "5"}


class FailingReader(Reader):
    """Cannot describe the facts `odd`."""

    def describe_facts(self, facts):
        if "odd" in facts:
            raise KeyError("odd")
        return super().describe_facts(facts)


def test_facts_that_cannot_be_described_do_not_affect_the_reports(clock):
    nodes = NodeRegistry(clock=clock, reader=FailingReader())
    for name, fact in (("a", "odd"), ("b", "ends")):
        with nodes.hold_pull(name, "10.0.0.1", "e.1", facts={fact: "5"}):
            pass
    reports = nodes.list_reports()
    assert [report.ready for report in reports] == [True, True]
    assert [report.transport for report in reports] == [
        msgspec.UNSET,
        TransportReport(facts={"ends": "5"}, summary="1 facts"),
    ]
    assert nodes.refused_facts == 1


def hold_in_turns(nodes, clock, *ports, pause_s=30.0):
    for port in ports:
        clock.now += pause_s
        pull(nodes, "a", admin_port=port)


def read_shared(nodes):
    (report,) = nodes.list_reports()
    return report.shared_ports


@pytest.mark.parametrize("ports", [(8080, 8081, 8080), (8080, 8081, 8082, 8080, 8081)])
def test_proxies_that_pull_in_turns_with_one_name_and_address_are_noticed(nodes, clock, ports):
    hold_in_turns(nodes, clock, *ports)
    assert read_shared(nodes) == tuple(sorted(set(ports)))


def test_a_proxy_that_was_restarted_with_another_admin_port_shares_its_name_with_none(nodes, clock):
    hold_in_turns(nodes, clock, 8080, 8080, 8081, 8081, 8082)
    assert read_shared(nodes) is msgspec.UNSET


def test_a_former_port_that_returns_later_is_that_of_one_proxy(nodes, clock):
    hold_in_turns(nodes, clock, 8080, 8081)
    hold_in_turns(nodes, clock, 8080, pause_s=SHARED_S + 1)
    assert read_shared(nodes) is msgspec.UNSET


def test_a_name_is_shared_no_longer_when_one_of_the_proxies_has_stayed_away(nodes, clock):
    hold_in_turns(nodes, clock, 8080, 8081, 8080)
    hold_in_turns(nodes, clock, *[8080] * 5, pause_s=SHARED_S / 4)
    assert read_shared(nodes) is msgspec.UNSET


def test_proxies_of_different_names_or_addresses_share_nothing(nodes):
    for _ in range(3):
        for name, ip, port in (("a", "10.0.0.1", 8080), ("b", "10.0.0.1", 8081), ("c", "10.0.0.2", 8080)):
            pull(nodes, name, ip=ip, admin_port=port)
    assert {each.shared_ports for each in nodes.list_reports()} == {msgspec.UNSET}


def test_the_number_of_remembered_ports_is_limited(nodes):
    for port in range(1, 1000):
        pull(nodes, "a", admin_port=port)
    pull(nodes, "a", admin_port=999 - PORTS_LIMIT)
    assert read_shared(nodes) is msgspec.UNSET
    pull(nodes, "a", admin_port=999)
    assert len(read_shared(nodes)) == PORTS_LIMIT
