"""Metrics of the servers and branches of stream protocols: names, labels, and what is left out."""

from maesh_core.model.metrics import MetricFamily
from maesh_core.proxy.routing.stream_counts import (
    CountedNames,
    StreamCounts,
    collect_aside,
    collect_branches,
    collect_rules,
    collect_servers,
)

NAMES = CountedNames("udp", "sessions", "failed_sessions")


def build_counts(opened: int = 0, failures: int = 0, received: int = 0, sent: int = 0) -> StreamCounts:
    counts = StreamCounts()
    counts.opened, counts.failures = opened, failures
    counts.received_bytes, counts.sent_bytes = received, sent
    return counts


def read(families: list[MetricFamily]) -> dict[str, dict[tuple[str, ...], object]]:
    return {family.name: dict(family.samples) for family in families}


def test_servers_have_a_metric_for_each_counter_and_those_without_traffic_are_left_out() -> None:
    families = collect_servers(NAMES, [("10.0.0.2:53", build_counts(3, 1, 30, 300)), ("10.0.0.1:53", build_counts())])
    assert read([*families]) == {
        "maesh_udp_server_sessions": {("10.0.0.2:53",): 3.0},
        "maesh_udp_server_failed_sessions": {("10.0.0.2:53",): 1.0},
        "maesh_udp_server_received_bytes": {("10.0.0.2:53",): 30.0},
        "maesh_udp_server_sent_bytes": {("10.0.0.2:53",): 300.0},
    }
    assert {(family.type, family.labels) for family in families} == {("counter", ("server",))}
    assert families[0].help == "UDP sessions that began, by server."


def test_servers_with_one_label_are_added_up_and_stay_as_they_are() -> None:
    clear, encrypted = build_counts(1, 0, 10, 20), build_counts(0, 2, 1, 2)
    for _ in range(2):
        found = read([*collect_servers(NAMES, [("10.0.0.1:53", clear), ("10.0.0.1:53", encrypted)])])
        assert [values["10.0.0.1:53",] for values in found.values()] == [1, 2, 11, 22]


def test_branches_are_named_by_their_service_port_and_destination() -> None:
    branches = {
        "shop/db:53": {"shop/db:53/split/a/db-v1": build_counts(2, 0, 5, 6), "shop/db:53": build_counts()},
        "shop/cache:53": {"shop/cache:53": build_counts(0, 1)},
    }
    families = collect_branches(NAMES, branches)
    assert {family.labels for family in families} == {("service", "destination")}
    found = read([*families])
    assert found["maesh_udp_branch_sessions"] == {
        ("shop/cache:53", "shop/cache:53"): 0.0,
        ("shop/db:53", "shop/db:53/split/a/db-v1"): 2.0,
    }
    assert found["maesh_udp_branch_sent_bytes"]["shop/db:53", "shop/db:53/split/a/db-v1"] == 6.0


def test_rules_also_count_clients_without_a_server() -> None:
    lost = build_counts(0, 3)
    lost.refused = 2
    families = collect_rules(NAMES, {"shop/db:53": {"shop/db:53/rule/r": lost, "shop/db:53/rule/s": build_counts()}})
    assert {family.labels for family in families} == {("service", "rule")}
    assert {name: [*values.values()] for name, values in read([*families]).items()} == {
        "maesh_udp_rule_sessions": [0.0],
        "maesh_udp_rule_failed_sessions": [3.0],
        "maesh_udp_rule_received_bytes": [0.0],
        "maesh_udp_rule_sent_bytes": [0.0],
        "maesh_udp_rule_refused_sessions": [2.0],
    }


def test_a_server_that_is_set_aside_counts_once_for_each_worker() -> None:
    family = collect_aside(NAMES, ["10.0.0.2:53", "10.0.0.1:53", "10.0.0.2:53"])
    assert (family.name, family.type) == ("maesh_udp_server_aside", "gauge")
    assert family.samples == [(("10.0.0.1:53",), 1.0), (("10.0.0.2:53",), 1.0)]
