"""Tables of streams: what a change leaves as it was, and which clients have which route."""

from types import SimpleNamespace

import msgspec
import pytest

from maesh_core.model.configuration import Part, Section, Server, Service, StreamRouter

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


# --- clients of a namespace

CONSUMER = "test/db:1/consumer/lab/r"
CONSUMERS = {"10.0.0.9": "lab", "10.0.0.8": "other"}
RULE, LAB_RULE = f"{KEY}/rule/r", f"{KEY}/consumer/lab/r"


def build_consumer_section(own, theirs, *, middlewares=(), namespace="lab", key=CONSUMER):
    found = build_section(*own, middlewares=middlewares)
    router = StreamRouter(
        entrypoint=ENTRYPOINT, service=KEY, middlewares=tuple(middlewares), consumers={namespace: key}
    )
    return Section(
        routers={KEY: router},
        services={**found.services, key: build_section(*theirs).services[KEY]},
    )


@pytest.mark.parametrize(("address", "port"), [("10.0.0.9", 2), ("10.0.0.8", 1), ("10.0.0.7", 1)])
def test_a_client_gets_the_route_of_its_namespace_and_all_others_that_of_the_entrypoint(streams, address, port):
    apply(streams, build_consumer_section([1], [2]))
    streams.apply_namespaces(CONSUMERS)
    route = streams.find_route(ENTRYPOINT, address)
    assert list_ports(route) == [port]
    assert streams.find_current_route(SimpleNamespace(entrypoint=ENTRYPOINT, client_address=address)) is route
    assert route.service == (CONSUMER if port == 2 else KEY)
    assert streams.find_route(ENTRYPOINT + 1, address) is None


def test_the_address_of_a_connection_is_not_read_where_no_namespace_has_a_route(streams):
    route = apply(streams, build_section(1))
    assert streams.find_current_route(SimpleNamespace(entrypoint=ENTRYPOINT)) is route


def test_the_route_of_a_namespace_counts_for_the_service_and_has_its_middlewares(streams):
    gate = Gate(admits=False)
    route = apply(streams, build_consumer_section([1], [2], middlewares=["gate"]), gate=gate)
    streams.apply_namespaces(CONSUMERS)
    consumer = streams.find_route(ENTRYPOINT, "10.0.0.9")
    assert consumer.counters is route.counters is streams.counters[KEY]
    assert (consumer.is_guarded, consumer.admits(connect(CONSUMER))) == (True, False)


def test_an_unchanged_router_keeps_the_routes_and_rotations_of_namespaces(streams):
    section = build_consumer_section([1], [2, 3])
    route = apply(streams, section)
    streams.apply_namespaces(CONSUMERS)
    consumer = streams.find_route(ENTRYPOINT, "10.0.0.9")
    assert find_first(consumer) == 2
    assert apply(streams, section, changed=frozenset({"test/other:1"})) is route
    assert streams.find_route(ENTRYPOINT, "10.0.0.9") is consumer
    apply(streams, build_consumer_section([1], [2, 3, 4]), changed=frozenset({CONSUMER}))
    renewed = streams.find_route(ENTRYPOINT, "10.0.0.9")
    assert renewed is not consumer
    assert list_ports(renewed)[0] == 3


def test_the_backends_of_a_rule_for_a_namespace_count_as_branches_of_the_service(streams):
    own = build_divided({"v1": 1}, v1=[1])
    router = StreamRouter(entrypoint=ENTRYPOINT, service=KEY, consumers={"lab": CONSUMER})
    parts = (Part(service="v1", weight=1), Part(service="v2", weight=1))
    services = {
        **own.services,
        "v2": Service(servers=(Server(address="10.0.0.1", port=2),)),
        CONSUMER: Service(parts=parts),
    }
    route = apply(streams, Section(routers={KEY: router}, services=services))
    streams.apply_namespaces(CONSUMERS)
    use_all(route)
    use_all(streams.find_route(ENTRYPOINT, "10.0.0.9"))
    assert read_parts(streams, "branch_connections") == {(KEY, "v1"): 2, (KEY, "v2"): 1}
    assert read_parts(streams, "server_connections") == {("10.0.0.1:1",): 2, ("10.0.0.1:2",): 1}


def build_ruled(*ports):
    """Build a router with a rule for all clients, and one for those of a namespace, which has no server."""
    parts = (Part(service="v1", weight=1),)
    router = StreamRouter(entrypoint=ENTRYPOINT, service=RULE, consumers={"lab": LAB_RULE})
    servers = tuple(Server(address="10.0.0.1", port=port) for port in ports)
    services = {"v1": Service(servers=servers), RULE: Service(parts=parts), LAB_RULE: Service()}
    return Section(routers={KEY: router}, services=services)


def test_each_rule_counts_its_connections_bytes_and_clients_without_a_server(streams):
    route = apply(streams, build_ruled(1, 2))
    streams.apply_namespaces(CONSUMERS)
    use_all(route)
    theirs = streams.find_route(ENTRYPOINT, "10.0.0.9")
    assert list(theirs.list_servers()) == []
    theirs.count_refused()
    assert read_parts(streams, "rule_connections") == {(KEY, RULE): 2, (KEY, LAB_RULE): 0}
    assert read_parts(streams, "rule_received_bytes") == {(KEY, RULE): 3, (KEY, LAB_RULE): 0}
    assert read_parts(streams, "rule_refused_connections") == {(KEY, RULE): 0, (KEY, LAB_RULE): 1}


def test_counts_of_rules_go_on_in_a_new_table_and_vanish_with_their_rule(streams):
    first = apply(streams, build_ruled(1))
    use_all(first)
    second = apply(streams, build_ruled(1, 2))
    use_all(second)
    use_all(first)  # a connection that began before the change
    assert read_parts(streams, "rule_connections") == {(KEY, RULE): 4}
    apply(streams, build_section(1)).count_refused()
    assert read_parts(streams, "rule_connections") == {}


@pytest.mark.parametrize("is_guarded", [False, True])
def test_a_connection_whose_client_gets_another_route_goes_on_unless_a_middleware_had_decided(streams, is_guarded):
    middlewares = {"gate": Gate()} if is_guarded else {}
    route = apply(streams, build_section(1, middlewares=middlewares), **middlewares)
    streams.apply_namespaces(CONSUMERS)
    connection = connect()
    assert streams.may_go_on(connection, route)
    apply(streams, build_consumer_section([1], [2], middlewares=middlewares), **middlewares)
    assert streams.may_go_on(connection, route) is not is_guarded


def test_a_namespace_with_strict_servers_must_be_encrypted_and_others_need_not(streams):
    section = build_consumer_section([1], [2])
    strict = msgspec.structs.replace(section.services[CONSUMER], encryption="strict")
    section = Section(routers=section.routers, services={**section.services, CONSUMER: strict})
    assert not streams.has_strict_services
    apply(streams, section)
    streams.apply_namespaces(CONSUMERS)
    assert streams.has_strict_services
    theirs = SimpleNamespace(client_address="10.0.0.9", entrypoint=ENTRYPOINT, service=CONSUMER, server=("10.0.0.1", 2))
    others = SimpleNamespace(client_address="10.0.0.8", entrypoint=ENTRYPOINT, service=KEY, server=("10.0.0.1", 1))
    assert (streams.must_encrypt(theirs), streams.must_encrypt(others)) == ("", None)


def test_counts_go_on_in_a_new_table_and_vanish_with_their_server_and_branch(streams):
    first = apply(streams, build_divided({"v1": 1, "v2": 1}, v1=[1], v2=[9]))
    use_all(first)
    second = apply(streams, build_divided({"v1": 3, "v2": 1}, v1=[1, 3], v2=[9]))
    use_all(second)
    use_all(first)  # connections that began before the change still count
    assert read_parts(streams, "server_connections") == {("10.0.0.1:1",): 3, ("10.0.0.1:3",): 1, ("10.0.0.1:9",): 3}
    assert read_parts(streams, "branch_connections") == {(KEY, "v1"): 4, (KEY, "v2"): 3}
    apply(streams, build_divided({"v1": 1}, v1=[3]))
    assert read_parts(streams, "server_connections") == {("10.0.0.1:3",): 1}
    assert read_parts(streams, "branch_connections") == {(KEY, "v1"): 4}
    apply(streams, build_section(3))
    assert read_parts(streams, "branch_connections") == {}


def test_a_server_that_failed_is_set_aside_in_the_metrics_until_it_succeeds(streams):
    first, _ = apply(streams, build_section(1, 2)).list_servers()
    first.note_failure()
    assert read_parts(streams, "server_aside") == {(first.describe(),): 1}
    first.note_success()
    assert read_parts(streams, "server_aside") == {}
