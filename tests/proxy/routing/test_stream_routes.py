"""One route of streams: whose turn it is, who may come in, and what counts for which server and branch."""

import pytest

from maesh_core.model.configuration import Answer, Part, Section, Server, Service, StreamRouter
from maesh_core.plugin_system.interfaces import Response

from .stream_sections import (
    ENTRYPOINT,
    KEY,
    Gate,
    apply,
    build_divided,
    build_section,
    connect,
    find_first,
    list_ports,
    read_parts,
    use_all,
)


def test_each_connection_is_given_every_server_once_the_next_one_first(streams):
    route = apply(streams, build_section(1, 2, 3))
    assert [find_first(route) for _ in range(4)] == [1, 2, 3, 1]
    assert list_ports(route) == [2, 3, 1]


def test_a_server_without_weight_gets_no_connection(streams):
    route = apply(streams, build_section(1, 2, weights=[1, 0]))
    assert list_ports(route) == [1]
    assert list_ports(apply(streams, build_section(1, 2, weights=[0, 0]))) == []


def test_a_server_that_failed_comes_last_until_its_pause_is_over(streams, node):
    route = apply(streams, build_section(1, 2))
    bad = next(server for server in route.list_servers() if server.socket_address[1] == 1)
    bad.note_failure()
    assert [list_ports(route) for _ in range(3)] == [[2, 1]] * 3
    node.pass_time(2)
    assert [find_first(route) for _ in range(4)].count(1) == 1  # the one that tries it
    bad.note_success()
    assert {find_first(route) for _ in range(4)} == {1, 2}


def test_where_all_have_failed_all_are_tried(streams):
    route = apply(streams, build_section(1, 2, 3))
    for server in list(route.list_servers()):
        server.note_failure()
    assert [sorted(list_ports(route)) for _ in range(5)] == [[1, 2, 3]] * 5


@pytest.mark.parametrize(
    ("answers", "is_admitted"),
    [
        ([True], True),
        ([None], True),
        ([False], False),
        ([True, False], False),
        ([KeyError("who?")], False),
        ([Response(status=403, reason="no")], False),
        ([0], False),
        (["no"], False),
        ([], True),
    ],
)
def test_a_connection_begins_only_if_no_middleware_says_no_or_fails(streams, answers, is_admitted, caplog):
    gates = {f"m{index}": Gate(admits=answer) for index, answer in enumerate(answers)}
    route = apply(streams, build_section(1, middlewares=gates), **gates)
    assert route.admits(connect()) is is_admitted
    route.admits(connect())
    assert len(caplog.records) == sum(not isinstance(answer, bool | None) for answer in answers)


@pytest.mark.parametrize("is_still_asked", [False, True])
def test_a_method_that_is_none_is_absent(streams, is_still_asked):
    gate = Gate(keeps=False)
    gate.on_connect = None
    if not is_still_asked:
        gate.is_still_allowed = None
    route = apply(streams, build_section(1, middlewares=["m"]), m=gate)
    assert route.admits(connect())
    assert route.is_guarded is is_still_asked


def test_connections_are_divided_exactly_and_another_server_is_of_the_same_part(streams):
    route = apply(streams, build_divided({"v1": 3, "v2": 1}, v1=[1, 2], v2=[9]))
    firsts = [find_first(route) for _ in range(8)]
    assert firsts.count(9) == 2
    route = apply(streams, build_divided({"v1": 1, "v2": 1}, v1=[1, 2], v2=[9]))
    assert sorted(list_ports(route)[:2]) in ([1, 2], [1, 9])


def test_the_share_of_a_part_without_servers_gets_none_and_the_others_keep_theirs(streams):
    services = {
        KEY: Service(parts=(Part(service="a", weight=1), Part(service="gone", weight=1), Part(service="b", weight=2))),
        "a": Service(servers=(Server(address="10.0.0.1", port=1, weight=1),)),
        "b": Service(servers=(Server(address="10.0.0.1", port=2, weight=1),)),
        "gone": Service(answer=Answer(status=500)),
    }
    routers = {KEY: StreamRouter(entrypoint=ENTRYPOINT, service=KEY)}
    route = apply(streams, Section(routers=routers, services=services))
    firsts = sorted(next(iter(list_ports(route)), 0) for _ in range(8))
    assert firsts == [0, 0, 1, 1, 2, 2, 2, 2]


def test_the_destination_is_the_part_of_a_server_or_the_service(streams):
    route = apply(streams, build_divided({"v1": 1, "v2": 1}, v1=[1], v2=[2]))
    assert {route.find_destination(server) for server in route.list_servers()} == {"v1", "v2"}
    assert route.find_destination(None) == KEY
    route = apply(streams, build_section(1))
    assert [route.find_destination(server) for server in route.list_servers()] == [KEY]


def test_connections_count_for_their_server_and_for_its_branch(streams):
    route = apply(streams, build_divided({"v1": 1, "v2": 1}, v1=[1, 2], v2=[9]))
    use_all(route)
    route.count_failure(next(each for each in route.list_servers() if each.socket_address[1] == 9))
    assert read_parts(streams, "server_connections") == {(f"10.0.0.1:{port}",): 1 for port in (1, 2, 9)}
    assert read_parts(streams, "branch_connections") == {(KEY, "v1"): 2, (KEY, "v2"): 1}
    assert read_parts(streams, "branch_received_bytes") == {(KEY, "v1"): 3, (KEY, "v2"): 9}
    assert read_parts(streams, "branch_sent_bytes") == {(KEY, "v1"): 200, (KEY, "v2"): 100}
    assert read_parts(streams, "server_failed_connects")["10.0.0.1:9",] == 1
    assert read_parts(streams, "branch_failed_connects") == {(KEY, "v1"): 0, (KEY, "v2"): 1}


def test_a_server_of_two_branches_counts_for_the_one_that_is_its_destination(streams):
    route = apply(streams, build_divided({"v1": 1, "v2": 1}, v1=[1], v2=[1]))
    (server,) = {*route.list_servers()}
    route.count_opened(server)
    assert read_parts(streams, "branch_connections") == {(KEY, route.find_destination(server)): 1}


def test_a_service_that_is_not_split_has_no_branch_and_its_servers_count(streams):
    use_all(apply(streams, build_section(1, 2)))
    assert read_parts(streams, "server_received_bytes") == {("10.0.0.1:1",): 1, ("10.0.0.1:2",): 2}
    assert read_parts(streams, "branch_connections") == {}


def test_counts_of_a_server_that_the_route_does_not_have_are_left_out(streams):
    (stranger,) = apply(streams, build_section(7)).list_servers()
    route = apply(streams, build_section(1))
    route.count_opened(stranger)
    route.count_failure(stranger)
    route.count_bytes(stranger, received=1, sent=1)
    assert read_parts(streams, "server_connections") == {}
