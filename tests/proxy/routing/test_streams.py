"""Routes of streams: whose turn it is, who may come in, and what a change leaves as it was."""

from types import SimpleNamespace

import msgspec
import pytest

from maesh_core.model.configuration import Answer, Part, Section, Server, Service, StreamRouter
from maesh_core.plugin_system.interfaces import Response
from maesh_testing import FakeNode

KEY = "test/db:1"
ENTRYPOINT = 10000


def build_section(*ports, weights=None, middlewares=(), key=KEY, entrypoint=ENTRYPOINT, load_balancer="round-robin"):
    servers = tuple(
        Server(address="10.0.0.1", port=port, weight=weight)
        for port, weight in zip(ports, weights or [1] * len(ports), strict=True)
    )
    return Section(
        routers={key: StreamRouter(entrypoint=entrypoint, service=key, middlewares=tuple(middlewares))},
        services={key: Service(servers=servers, load_balancer=load_balancer)},
    )


class Gate:
    """Answers what it is told to, or raises it."""

    def __init__(self, *, admits=True, keeps=True):
        self.admits, self.keeps = admits, keeps

    def on_connect(self, connection):
        return self._answer(self.admits)

    def is_still_allowed(self, connection):
        return self._answer(self.keeps)

    def _answer(self, answer):
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def node():
    return FakeNode()


@pytest.fixture
def streams(node):
    return node.build_streams(list)


def apply(streams, section, *, changed=None, **middlewares):
    streams.apply_table(streams.compile_table(section, middlewares=middlewares, changed=changed))
    return streams.routes.get(ENTRYPOINT)


def list_ports(route):
    return [server.socket_address[1] for server in route.list_servers()]


def find_first(route):
    return next(iter(route.list_servers())).socket_address[1]


def connect(service=KEY):
    return SimpleNamespace(client_address="10.0.0.9", entrypoint=ENTRYPOINT, service=service, exchange=None)


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


def test_what_does_not_change_stays_the_same_object(streams):
    first = apply(streams, build_section(1, 2))
    counters = first.counters
    servers = {server.socket_address: server for server in first.list_servers()}
    assert apply(streams, build_section(1, 2), changed=frozenset({"other"})) is first
    second = apply(streams, build_section(2, 3), changed=frozenset({KEY}))
    assert second is not first
    assert second.counters is counters
    assert next(s for s in second.list_servers() if s.socket_address[1] == 2) is servers["10.0.0.1", 2]


def test_a_rotation_goes_on_over_a_change_of_servers(streams):
    find_first(apply(streams, build_section(1, 2, 3)))
    route = apply(streams, build_section(1, 2, 3, 4), changed=frozenset({KEY}))
    assert find_first(route) == 2


def test_of_two_routers_with_one_entrypoint_the_lower_key_has_it(streams):
    one, other = build_section(1, key="a/a:1"), build_section(2, key="b/b:1")
    section = Section(routers={**other.routers, **one.routers}, services={**other.services, **one.services})
    assert apply(streams, section).service == "a/a:1"


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


def test_a_coroutine_as_verdict_denies_and_is_closed(streams):
    async def admit():
        return True

    class Slip:
        def on_connect(self, connection):
            return admit()

        is_still_allowed = on_connect

    first = apply(streams, build_section(1))
    route = apply(streams, build_section(1, middlewares=["m"]), m=Slip())
    assert not route.admits(connect())
    assert not streams.may_go_on(connect(), first)


@pytest.mark.parametrize("is_still_asked", [False, True])
def test_a_method_that_is_none_is_absent(streams, is_still_asked):
    gate = Gate(keeps=False)
    gate.on_connect = None
    if not is_still_asked:
        gate.is_still_allowed = None
    route = apply(streams, build_section(1, middlewares=["m"]), m=gate)
    assert route.admits(connect())
    assert route.is_guarded is is_still_asked


@pytest.mark.parametrize(
    ("answer", "is_kept"), [(True, True), (False, False), (None, False), (KeyError("who?"), False), ("yes", False)]
)
def test_after_a_change_a_connection_stays_only_if_every_middleware_says_so(streams, answer, is_kept):
    gate = Gate(keeps=answer)
    first = apply(streams, build_section(1))
    assert streams.may_go_on(connect(), first)
    apply(streams, build_section(1, middlewares=["m"]), m=gate)
    assert streams.may_go_on(connect(), first) is is_kept


@pytest.mark.parametrize("is_guarded", [False, True])
@pytest.mark.parametrize("is_taken_over", [False, True])
def test_where_the_entrypoint_leads_elsewhere_only_who_needed_no_leave_goes_on(streams, is_guarded, is_taken_over):
    gates = {"m": Gate()} if is_guarded else {}
    first = apply(streams, build_section(1, middlewares=gates), **gates)
    apply(streams, build_section(1, key="other/db:1") if is_taken_over else Section())
    assert streams.may_go_on(connect(), first) is not is_guarded


class CountedAddress:
    """A connection that counts how often its server is read."""

    entrypoint, service = ENTRYPOINT, KEY

    def __init__(self, *server):
        self._server, self.reads = server, 0

    @property
    def server(self):
        self.reads += 1
        return self._server


def build_encrypted(mode, count):
    servers = tuple(Server(address="10.0.0.1", port=port, node=f"node-{port}") for port in range(1, count + 1))
    router = StreamRouter(entrypoint=ENTRYPOINT, service=KEY)
    return Section(routers={KEY: router}, services={KEY: Service(servers=servers, encryption=mode)})


@pytest.mark.parametrize(("mode", "is_strict"), [("off", False), ("permissive", False), ("strict", True)])
def test_only_connections_to_servers_of_strict_services_must_be_encrypted(streams, mode, is_strict):
    apply(streams, build_encrypted(mode, 3))
    assert streams.has_strict_services is is_strict
    assert streams.must_encrypt(CountedAddress("10.0.0.1", 2)) == ("node-2" if is_strict else None)
    apply(streams, Section())
    assert not streams.has_strict_services
    assert streams.must_encrypt(CountedAddress("10.0.0.1", 2)) is None


def test_a_server_that_has_left_a_strict_service_is_on_no_known_node(streams):
    apply(streams, build_encrypted("strict", 3))
    gone = CountedAddress("10.0.0.1", 4)
    assert streams.must_encrypt(gone) == ""
    gone.service = "n/other:80"
    assert streams.must_encrypt(gone) is None, "the entrypoint has another service now"
    apply(streams, build_encrypted("permissive", 3))
    assert streams.must_encrypt(CountedAddress("10.0.0.1", 4)) is None


def test_servers_of_a_part_that_is_not_strict_need_no_encryption(streams):
    section = build_divided({"a": 1, "b": 1}, a=(1,), b=(2,))
    services = dict(section.services)
    services["b"] = msgspec.structs.replace(services["b"], encryption="strict")
    apply(streams, Section(routers=section.routers, services=services))
    assert streams.must_encrypt(CountedAddress("10.0.0.1", 1)) is None
    assert streams.must_encrypt(CountedAddress("10.0.0.1", 2)) == ""


def test_the_number_of_servers_does_not_matter_to_whether_a_connection_must_be_encrypted(streams):
    apply(streams, build_encrypted("strict", 500))
    connection = CountedAddress("10.0.0.1", 500)
    assert streams.must_encrypt(connection) == "node-500"
    assert connection.reads == 1


def build_divided(shares, **ports):
    services = {
        name: Service(servers=tuple(Server(address="10.0.0.1", port=port) for port in found))
        for name, found in ports.items()
    }
    parts = tuple(Part(service=name, weight=weight) for name, weight in shares.items())
    router = StreamRouter(entrypoint=ENTRYPOINT, service=KEY)
    return Section(routers={KEY: router}, services={**services, KEY: Service(parts=parts)})


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


def test_a_part_whose_servers_change_makes_a_new_route_and_the_rotation_goes_on(streams):
    first = apply(streams, build_divided({"v1": 1, "v2": 1}, v1=[1], v2=[9]))
    assert find_first(first) == 1
    second = apply(streams, build_divided({"v1": 1, "v2": 1}, v1=[1], v2=[8]), changed=frozenset({"v2"}))
    assert second is not first
    assert [find_first(second) for _ in range(2)] == [8, 1]
    assert apply(streams, build_divided({"v1": 1}, v1=[1]), changed=frozenset({"other"})) is second


def test_a_router_never_inherits_the_guards_of_another_router_of_its_entrypoint(streams):
    gate = Gate(admits=False)
    service = {KEY: Service(servers=(Server(address="10.0.0.1", port=1),))}
    one = StreamRouter(entrypoint=ENTRYPOINT, service=KEY)
    other = StreamRouter(entrypoint=ENTRYPOINT, service=KEY, middlewares=("m",))
    assert apply(streams, Section(routers={"a": one, "b": other}, services=service), m=gate).admits(connect())
    after = apply(streams, Section(routers={"b": other}, services=service), changed=frozenset({"a"}), m=gate)
    assert not after.admits(connect())


def test_the_destination_is_the_part_of_a_server_or_the_service(streams):
    route = apply(streams, build_divided({"v1": 1, "v2": 1}, v1=[1], v2=[2]))
    assert {route.find_destination(server) for server in route.list_servers()} == {"v1", "v2"}
    assert route.find_destination(None) == KEY
    route = apply(streams, build_section(1))
    assert [route.find_destination(server) for server in route.list_servers()] == [KEY]


def test_servers_of_services_with_and_without_encryption_are_different_and_stay_the_same_objects(streams):
    def build(mode):
        server = Server(address="10.0.0.1", port=1, node="there")
        return Section(
            routers={KEY: StreamRouter(entrypoint=ENTRYPOINT, service=KEY)},
            services={KEY: Service(servers=(server,), encryption=mode)},
        )

    found = {}
    for mode in ("off", "permissive", "strict"):
        (found[mode],) = apply(streams, build(mode)).list_servers()
        assert list(apply(streams, build(mode)).list_servers()) == [found[mode]]
    assert len(set(found.values())) == 3
    assert [(each.node, each.mode) for each in found.values()] == [
        ("", ""),
        ("there", "permissive"),
        ("there", "strict"),
    ]
