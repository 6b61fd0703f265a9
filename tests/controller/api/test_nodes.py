import pytest

from maesh_core.controller.api.nodes import (
    FORGOTTEN_S,
    NAME_LIMIT,
    READY_S,
    REVISION_LIMIT,
    AdminAddress,
    NodeRegistry,
    is_valid_name,
)


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
