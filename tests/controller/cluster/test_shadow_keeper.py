import asyncio
from contextlib import asynccontextmanager

import msgspec
import pytest

from maesh_core.controller.cluster.shadow_keeper import CONFLICT_LIMIT, ShadowKeeper
from maesh_core.controller.cluster.shadow_services import DesiredShadowService, ShadowPort, build_object
from maesh_core.errors import KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service
from maesh_testing.api_server import ApiServer, FaultKind

A = ObjectKey("shop", "a")
NAME = "maesh-a-6d61657368-shop"
TYPE = "mesh.traefik.io/traffic-type"
NOTE = "example.org/note"


def get(server, name="a", namespace="shop"):
    return server.find("services", f"maesh-{name}-6d61657368-{namespace}", "maesh")


def targets(found):
    return {port["port"]: port["targetPort"] for port in found["spec"]["ports"]}


def list_writes(replica):
    return [
        (method, path)
        for method, path in replica.client.calls
        if method not in ("GET", "WATCH") and "/services" in path
    ]


# With a controller, against the API server


async def test_each_service_has_a_shadow_service_with_its_ports_whose_targets_are_entrypoints(
    fleet, api_server, service
):
    api_server.apply([service("a", 80, 443), service("t", 90, (53, "UDP"), type_="tcp"), service("u", 53, type_="udp")])
    await fleet.start()
    await fleet.until(lambda: all(get(api_server, name) for name in "atu"))
    found = get(api_server)
    assert found["metadata"]["labels"] == {"app": "maesh", "type": "shadow"}
    assert found["metadata"]["annotations"] == {
        "maesh.containo.us/shadow-of-service": "a",
        "maesh.containo.us/shadow-of-namespace": "shop",
    }
    assert found["spec"]["selector"] == {"component": "maesh-mesh"}
    assert (found["spec"]["type"], found["spec"]["ipFamilies"]) == ("ClusterIP", ["IPv4"])
    assert found["spec"]["trafficDistribution"] == "PreferSameNode"
    assert found["spec"]["ports"] == [
        {"name": "tcp-80", "port": 80, "protocol": "TCP", "targetPort": 5000},
        {"name": "tcp-443", "port": 443, "protocol": "TCP", "targetPort": 5001},
    ]
    assert targets(get(api_server, "t")) == {90: 10000}
    assert targets(get(api_server, "u")) == {53: 15000}


async def test_it_follows_its_service_until_that_is_deleted(fleet, api_server, service):
    api_server.apply(service("a", 80, 81, type_="tcp"))
    await fleet.start()
    before = await fleet.until(lambda: get(api_server))
    api_server.apply(service("a", 81, 82, type_="tcp"))
    await fleet.until(lambda: 82 in targets(get(api_server)))
    after = get(api_server)
    assert targets(after)[81] == 10001
    assert after["spec"]["clusterIP"] == before["spec"]["clusterIP"]
    api_server.delete("services", "a", "shop")
    await fleet.until(lambda: not get(api_server))


async def test_nothing_is_written_while_nothing_changes(fleet, api_server, service):
    api_server.apply([service(name, 80, type_="tcp") for name in "ab"])
    one = await fleet.start()
    await fleet.until(lambda: get(api_server) and get(api_server, "b"))
    api_server.apply(service("c", 80))
    await fleet.until(lambda: get(api_server, "c"))
    assert len(list_writes(one)) == 3
    await one.crash()
    two = await fleet.start()
    await fleet.until(lambda: two.leads)
    api_server.apply(service("d", 80))
    await fleet.until(lambda: get(api_server, "d"))
    assert len(list_writes(two)) == 1


@pytest.mark.parametrize(
    "edit",
    [
        {"spec": {"ports": [{"name": "tcp-80", "port": 80, "targetPort": 10003}]}},
        {"spec": {"ports": [{"name": "tcp-80", "port": 80, "targetPort": 10001}]}},  # another's
        {"spec": {"ports": [{"name": "other", "port": 7, "targetPort": 10000}]}},
        {"spec": {"selector": {"app": "evil"}}},
        {"spec": {"type": "NodePort"}},
        {"metadata": {"annotations": {"maesh.containo.us/shadow-of-service": None}}},
    ],
)
async def test_what_somebody_edits_is_corrected_and_nobodys_entrypoint_moves(fleet, api_server, service, edit):
    api_server.apply([service("a", 80, type_="tcp"), service("b", 80, type_="tcp")])
    one = await fleet.start()
    before = await fleet.until(lambda: get(api_server, "b") and get(api_server))
    served = await fleet.until(lambda: list_all(one, 2))
    api_server.patch(
        "services", NAME, {**edit, "metadata": {"annotations": {NOTE: "x"}, **edit.get("metadata", {})}}, "maesh"
    )
    shown = ("ports", "selector", "type")
    await fleet.until(
        lambda: (
            all(get(api_server)["spec"][field] == before["spec"][field] for field in shown)
            and len(get(api_server)["metadata"]["annotations"]) >= 2
        )
    )
    assert await one.list_entrypoints() == served
    assert targets(get(api_server, "b")) == {80: 10001}


async def list_all(replica, count):
    found = await replica.list_entrypoints()
    return found if len(found) == count else None


async def test_one_that_somebody_deletes_is_made_again_as_it_was(fleet, api_server, service):
    api_server.apply([service("a", 80, type_="tcp"), service("b", 80, type_="tcp")])
    one = await fleet.start()
    await fleet.until(lambda: list_all(one, 2))
    api_server.delete("services", "maesh-b-6d61657368-shop", "maesh")
    await fleet.until(lambda: get(api_server, "b"))
    assert targets(get(api_server, "b")) == {80: 10001}
    assert await one.list_entrypoints() == {("tcp", "shop/a:80"): 10000, ("tcp", "shop/b:80"): 10001}


async def test_a_conflict_is_no_error_and_what_others_added_is_kept(fleet, api_server, service, caplog):
    api_server.apply(service("a", 80))
    one = await fleet.start()
    await fleet.until(lambda: get(api_server))
    api_server.patch("services", NAME, {"metadata": {"annotations": {NOTE: "x"}, "labels": {"team": "y"}}}, "maesh")
    fault = api_server.add_fault(FaultKind.CONFLICT, verb="update", resource="services", count=2)
    api_server.apply(service("a", 80, 81))
    await fleet.until(lambda: len(get(api_server)["spec"]["ports"]) == 2)
    assert fault.hits == 2
    metadata = get(api_server)["metadata"]
    assert metadata["annotations"][NOTE] == "x"
    assert len(metadata["annotations"]) == 4  # the one that conflicted, too
    assert metadata["labels"]["team"] == "y"
    assert (await one.report("a"))["errors"] == []
    assert "cannot be written" not in caplog.text


async def test_a_foreign_service_of_that_name_is_never_touched_and_reported_on_the_users(fleet, api_server, service):
    foreign = {**service(NAME, 7, namespace="maesh"), "apiVersion": "v1"}
    version = api_server.apply(foreign)[0]["metadata"]["resourceVersion"]
    api_server.apply([service("a", 80, type_="tcp"), service("b", 80)])
    one = await fleet.start()

    async def errors():
        report = await one.report("a")  # None for a moment after it came back
        return report["errors"] if report else []

    assert "has the name of its shadow service" in (await fleet.until(errors))[0]
    await fleet.until(lambda: get(api_server, "b"))
    assert (await one.report("b"))["errors"] == []
    api_server.apply(service("a", 81, type_="tcp"))
    await fleet.until(lambda: port_is(one, "a", 81))
    api_server.delete("services", "a", "shop")
    await fleet.until(lambda: is_unknown(one, "a"))
    api_server.apply(service("a", 80, type_="tcp"))
    await fleet.until(errors)
    assert get(api_server)["metadata"]["resourceVersion"] == version
    api_server.delete("services", NAME, "maesh")
    await fleet.until(lambda: get(api_server))

    async def is_well():
        return not await errors()

    await fleet.until(is_well)


async def port_is(replica, name, number):
    report = await replica.report(name)
    return report and report["ports"][0]["port"] == number


async def is_unknown(replica, name):
    return await replica.report(name) is None


async def test_of_two_services_whose_shadow_services_have_one_name_the_second_is_reported(fleet, api_server, service):
    first, second = ("a", "b-6d61657368-c"), ("a-6d61657368-b", "c")
    api_server.apply(service(first[0], 80, namespace=first[1]))
    one = await fleet.start()
    await fleet.until(lambda: get(api_server, *first))
    api_server.apply(service(second[0], 80, namespace=second[1]))

    async def errors():
        report = await one.report(*second)
        return report and report["errors"]

    assert "has the name of its shadow service" in (await fleet.until(errors))[0]
    assert (await one.report(*first))["errors"] == []


async def test_what_a_crash_left_of_services_that_are_gone_is_collected(fleet, api_server, service, shadows):
    api_server.apply([service(name, 80, type_="tcp") for name in "abc"])
    one = await fleet.start(limit_tcp_port=3)
    await fleet.until(lambda: len(shadows()) == 3)
    await one.crash()
    api_server.delete("services", "a", "shop")
    api_server.delete("services", "b", "shop")
    api_server.apply([service(name, 80, type_="tcp") for name in "xy"])
    await fleet.start(limit_tcp_port=3)
    await fleet.until(lambda: shadows().keys() == {"c", "x", "y"})
    assert shadows()["c"] == {80: 10002}
    assert sorted(shadows()[name][80] for name in "xy") == [10000, 10001]


async def test_the_mapping_of_an_earlier_version_is_taken_over(fleet, api_server, service):
    api_server.apply([service("a", 80, type_="tcp"), service("b", 80, type_="tcp")])
    legacy = service(NAME, 80, namespace="maesh")
    legacy["metadata"] |= {"labels": {"app": "maesh", "type": "shadow"}, "annotations": {}}
    legacy["spec"] |= {
        "selector": {"component": "maesh-mesh"},
        "ports": [{"name": "tcp-80", "port": 80, "targetPort": 10003}],
    }
    address = api_server.apply(legacy)[0]["spec"]["clusterIP"]
    await fleet.start()
    await fleet.until(lambda: len(get(api_server)["metadata"]["annotations"]) == 2)
    await fleet.until(lambda: get(api_server, "b"))
    assert targets(get(api_server)) == {80: 10003}
    assert get(api_server)["spec"]["clusterIP"] == address
    assert targets(get(api_server, "b")) == {80: 10000}


@asynccontextmanager
async def start_on(build_fleet, **options):
    with ApiServer(**options) as server:
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
        fleet = build_fleet(server)
        try:
            yield server, fleet
        finally:
            await fleet.end()


@pytest.mark.parametrize(
    ("known", "expected", "writes"),
    [
        (("PreferClose", "PreferSameNode"), "PreferSameNode", 1),
        (("PreferClose",), "PreferClose", 2),
        ((), None, 3),
        (None, None, 1),  # dropped without a word
    ],
)
async def test_the_nearest_distribution_that_the_server_knows_is_taken(build_fleet, service, known, expected, writes):
    async with start_on(build_fleet, traffic_distributions=known) as (server, fleet):
        server.apply(service("a", 80))
        one = await fleet.start()
        found = await fleet.until(lambda: get(server))
        assert found["spec"].get("trafficDistribution") == expected
        server.apply(service("b", 80))
        await fleet.until(lambda: get(server, "b"))
        server.apply(service("a", 80, 81))
        await fleet.until(lambda: len(get(server)["spec"]["ports"]) == 2)
        assert len(list_writes(one)) == writes + 2


DUAL = {"service_ranges": ("127.96.0.0/12", "fd00::/112")}


async def test_a_shadow_service_has_the_families_of_its_service(build_fleet, service):
    async with start_on(build_fleet, **DUAL) as (server, fleet):
        server.apply(service("a", 80, ipFamilies=["IPv6"], ipFamilyPolicy="SingleStack"))
        await fleet.start()
        await fleet.until(lambda: get(server))
        assert get(server)["spec"]["ipFamilies"] == ["IPv6"]
        both = ["IPv6", "IPv4"]
        server.apply(service("a", 80, ipFamilies=both, ipFamilyPolicy="PreferDualStack"))
        await fleet.until(lambda: get(server)["spec"]["ipFamilies"] == both)
        assert get(server)["spec"]["ipFamilyPolicy"] == "PreferDualStack"


async def test_one_whose_first_family_is_another_is_recreated_with_its_entrypoint(build_fleet, service):
    async with start_on(build_fleet, **DUAL) as (server, fleet):
        server.apply([service("x", 80, type_="tcp"), service("a", 80, type_="tcp")])
        one = await fleet.start()
        before = await fleet.until(lambda: get(server, "x") and get(server))
        await fleet.until(lambda: list_all(one, 2))
        await one.crash()
        server.delete("services", "a", "shop")
        server.apply(service("a", 80, type_="tcp", ipFamilies=["IPv6"], ipFamilyPolicy="SingleStack"))
        await fleet.start()
        await fleet.until(lambda: get(server) and get(server)["spec"]["ipFamilies"] == ["IPv6"])
        assert get(server)["metadata"]["uid"] != before["metadata"]["uid"]
        assert targets(get(server)) == targets(before)


@pytest.mark.parametrize("bad", ["TCP!", "carrier-pigeon"])
async def test_a_bad_traffic_type_leaves_things_as_they_were_over_a_restart_too(
    fleet, api_server, service, shadows, bad
):
    api_server.apply([service("a", 80, type_="tcp"), service("w", 80)])
    one = await fleet.start(limit_tcp_port=1)
    before = await fleet.until(lambda: get(api_server, "w") and get(api_server))
    await fleet.until(lambda: list_all(one, 1))
    for name in "aw":
        api_server.patch("services", name, {"metadata": {"annotations": {TYPE: bad}}}, "shop")
    api_server.apply(service("b", 80, type_="tcp"))

    async def errors():
        report = await current.report("b")
        return report and await current.report("a") and report["errors"] and (await current.report("a"))["errors"]

    current = one
    assert bad in (await fleet.until(errors))[0]
    await one.crash()
    current = await fleet.start(limit_tcp_port=1)
    await fleet.until(lambda: current.leads)
    api_server.apply(service("last", 80))
    await fleet.until(lambda: "last" in shadows())
    assert await fleet.until(errors)
    assert get(api_server) == before
    assert shadows() == {"a": {80: 10000}, "w": {80: 5000}, "last": {80: 5000}}
    api_server.patch("services", "a", {"metadata": {"annotations": {TYPE: "tcp"}}}, "shop")
    assert await fleet.until(lambda: list_all(current, 1)) == {("tcp", "shop/a:80"): 10000}
    assert get(api_server) == before


async def test_a_port_is_free_only_when_the_shadow_service_of_another_type_is_written(
    fleet, api_server, service, shadows
):
    api_server.apply([service("a", 80, type_="tcp"), service("b", 80, type_="tcp")])
    one = await fleet.start(limit_tcp_port=1)
    await fleet.until(lambda: list_all(one, 1))
    fault = api_server.add_fault(FaultKind.STATUS, verb="update", resource="services", count=None)
    api_server.apply(service("a", 80))
    await fleet.until(lambda: fault.hits > 2)
    assert shadows() == {"a": {80: 10000}}
    assert await one.list_entrypoints() == {}
    api_server.clear_faults()
    await fleet.until(lambda: shadows() == {"a": {80: 5000}, "b": {80: 10000}})


async def test_a_namespace_that_is_ignored_from_now_on_has_no_shadow_services_any_more(
    fleet, api_server, service, shadows
):
    api_server.apply([service("a", 80, type_="tcp"), service("b", 80, type_="tcp", namespace="zoo")])
    one = await fleet.start(limit_tcp_port=1)
    await fleet.until(shadows)
    await one.stop()
    await fleet.start(limit_tcp_port=1, ignore_namespaces=("shop",))
    await fleet.until(lambda: shadows("zoo") == {"b": {80: 10000}})
    assert shadows() == {}


async def test_what_does_not_fit_is_an_error_of_that_service_alone(fleet, api_server, service, shadows):
    api_server.apply([service("a", 80, type_="tcp"), service("b", 80, 81, type_="tcp")])
    one = await fleet.start(limit_tcp_port=2)
    await fleet.until(lambda: len(shadows()) == 2)
    assert shadows() == {"a": {80: 10000}, "b": {80: 10001}}

    async def errors():
        return (await one.report("b"))["errors"]

    assert await fleet.until(errors) == ["port 81 has no entrypoint: all 2 from 10000 are in use"]
    assert (await one.report("a"))["errors"] == []


async def test_what_is_not_allowed_is_shown_and_tried_again(fleet, api_server, service):
    read = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}
    lease = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]}
    api_server.set_rules(api_server.token, [read, lease])
    api_server.apply(service("a", 80))
    one = await fleet.start()

    async def errors():
        return (await one.report("a"))["errors"]

    assert "cannot be written: POST" in (await fleet.until(errors))[0]
    assert "403" in (await errors())[0]
    api_server.set_rules(api_server.token, None)
    await fleet.until(lambda: get(api_server))

    async def is_well():
        return not await errors()

    await fleet.until(is_well)


# Alone, with an engine that says what a test lets it say


class FakeEngine:
    """What an engine would say; `tell` is the watch."""

    def __init__(self, server):
        self.server = server
        self.desired = {}
        self.services = {}
        self.errors = {}

    def find_desired_shadow(self, key):
        return self.desired.get(key)

    def find_service(self, key):
        return self.services.get(key)

    def set_outside_errors(self, key, errors):
        self.errors[key] = errors

    def set_desired(self, *ports, key=A):
        self.desired[key] = DesiredShadowService(
            service=key, ports=tuple(ShadowPort(number, "x", "TCP", to) for number, to in ports)
        )

    def tell(self):
        found = self.server.list("services", "maesh")
        self.services = {each.key: each for each in (msgspec.convert(each, Service) for each in found)}


class Leadership:
    remaining_s = 10.0


class Client:
    """Keeps what is sent, and sends it on."""

    def __init__(self, client):
        self.client = client
        self.sent = []
        self.before = []

    async def send(self, method, path, body=None, *, timeout_s):
        self.sent.append((method, timeout_s))
        if self.before:
            self.before.pop(0)()
        return await self.client.send(method, path, body, timeout_s=timeout_s)


class Kept:
    def __init__(self, server, client):
        self.engine, self.leadership, self.client = FakeEngine(server), Leadership(), Client(client)
        self.pauses = asyncio.Queue()
        self.paused = []
        self.keeper = ShadowKeeper(self.client, self.engine, self.leadership, mesh_namespace="maesh", pause=self.pause)

    async def pause(self, seconds):
        self.paused.append(seconds)
        await self.pauses.get()

    async def rest(self, condition=None):
        """Wait until nothing is under way, or a condition holds."""
        async with asyncio.timeout(20):
            while True:
                if (condition or self.is_quiet)():
                    return
                await asyncio.sleep(0.001)

    def is_quiet(self):
        return not self.keeper._busy and not self.keeper._marked


@pytest.fixture
async def kept(api_server, build_client):
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
    kept = Kept(api_server, build_client(api_server))
    running = asyncio.create_task(kept.keeper.run())
    yield kept
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_one_that_is_there_already_is_not_touched_before_it_is_reported(kept, api_server):
    kept.engine.set_desired((80, 10001))
    api_server.apply(
        build_object(DesiredShadowService(service=A, ports=(ShadowPort(80, "x", "TCP", 10000),)), "maesh", None)
    )
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert targets(get(api_server)) == {80: 10000}
    assert kept.engine.errors == {}
    kept.engine.tell()
    kept.keeper.mark([A])
    await kept.rest()
    assert targets(get(api_server)) == {80: 10001}
    assert [method for method, _ in kept.client.sent] == ["POST", "GET", "PUT"]


async def test_one_that_never_is_reported_is_an_error_in_the_end(kept, api_server):
    kept.engine.set_desired((80, 10001))
    api_server.apply(
        build_object(DesiredShadowService(service=A, ports=(ShadowPort(80, "x", "TCP", 10000),)), "maesh", None)
    )
    kept.keeper.mark([A])
    for tries in range(1, CONFLICT_LIMIT + 2):
        await kept.rest(lambda tries=tries: len(kept.paused) == tries)
        assert bool(kept.engine.errors) == (tries > CONFLICT_LIMIT)
        kept.pauses.put_nowait(None)
    assert "already exists" in kept.engine.errors[A][0]


async def test_a_foreign_service_with_its_name_is_checked_again_and_again(kept, api_server, service):
    api_server.apply({**service(NAME, 7, namespace="maesh"), "apiVersion": "v1"})
    kept.engine.tell()
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    for tries in range(1, 5):
        await kept.rest(lambda tries=tries: len(kept.paused) == tries)
        assert "has the name of its shadow service" in kept.engine.errors[A][0]
        kept.pauses.put_nowait(None)
    api_server.delete("services", NAME, "maesh")
    kept.engine.tell()
    kept.pauses.put_nowait(None)
    await kept.rest(lambda: kept.engine.errors[A] == ())
    assert targets(get(api_server)) == {80: 10000}
    assert kept.keeper.is_idle


@pytest.mark.parametrize("moment", [0, 1])
async def test_what_changed_since_it_was_reported_is_not_written_over(kept, api_server, moment):
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    kept.engine.tell()
    kept.engine.set_desired((80, 10001))

    def change():
        api_server.patch(
            "services", NAME, {"spec": {"ports": [{"name": "x", "port": 80, "targetPort": 10002}]}}, "maesh"
        )

    kept.client.before = [lambda: None] * moment + [change]
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert targets(get(api_server)) == {80: 10002}


async def test_the_desired_state_at_the_time_of_the_write_counts(kept, api_server):
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    kept.engine.tell()
    kept.engine.set_desired((80, 10001))
    kept.client.before = [lambda: kept.engine.set_desired((80, 10002))]
    kept.keeper.mark([A])
    await kept.rest()
    assert targets(get(api_server)) == {80: 10002}


async def test_one_that_somebody_else_deleted_is_no_error(kept, api_server):
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    kept.engine.tell()
    api_server.delete("services", NAME, "maesh")
    kept.engine.desired.clear()
    kept.keeper.mark([A])
    await kept.rest()
    assert kept.keeper.is_idle
    assert kept.engine.errors == {A: ()}


async def test_one_that_is_another_by_now_is_not_deleted(kept, api_server):
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    kept.engine.tell()
    api_server.patch("services", NAME, {"metadata": {"annotations": {NOTE: "x"}}}, "maesh")
    kept.engine.desired.clear()
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert get(api_server)["metadata"]["annotations"][NOTE] == "x"
    kept.engine.tell()
    kept.pauses.put_nowait(None)
    await kept.rest(lambda: get(api_server) is None)


@pytest.mark.parametrize(("remaining_s", "timeout_s"), [(10.0, 5.0), (3.5, 2.5)])
async def test_no_write_outlasts_the_lease(kept, remaining_s, timeout_s):
    kept.leadership.remaining_s = remaining_s
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    assert kept.client.sent == [("POST", timeout_s)]


async def test_what_cannot_be_written_before_the_lease_ends_waits_until_it_is_renewed(kept, api_server):
    kept.leadership.remaining_s = 0.5
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert kept.client.sent == []
    kept.leadership.remaining_s = 10.0
    for _ in kept.paused:
        kept.pauses.put_nowait(None)
    await kept.rest()
    assert get(api_server)


async def test_a_lease_that_comes_to_its_end_between_two_requests_ends_the_second(kept, api_server):
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    kept.engine.tell()
    kept.engine.set_desired((80, 10001))
    kept.client.before = [lambda: setattr(kept.leadership, "remaining_s", 0.9)]
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert [method for method, _ in kept.client.sent] == ["POST", "GET"]
    kept.leadership.remaining_s = 10.0
    for _ in kept.paused:
        kept.pauses.put_nowait(None)
    await kept.rest()
    assert targets(get(api_server)) == {80: 10001}


async def test_who_does_not_lead_drops_what_is_marked(kept, api_server):
    kept.leadership.remaining_s = 0.0
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    assert kept.client.sent == []
    kept.leadership.remaining_s = 10.0
    kept.keeper.mark([ObjectKey("shop", "other")])
    await kept.rest()
    assert get(api_server) is None


async def test_what_fails_is_tried_again_once_however_often_it_is_marked(kept, api_server):
    fault = api_server.add_fault(FaultKind.STATUS, verb="create", resource="services", count=None)
    kept.engine.set_desired((80, 10000))
    for _ in range(5):
        kept.keeper.mark([A])
        await kept.rest()
    assert fault.hits == 5
    assert len(kept.paused) == 1
    assert kept.engine.errors[A]
    api_server.clear_faults()
    kept.pauses.put_nowait(None)
    await kept.rest(lambda: get(api_server))
    await kept.rest()
    assert kept.engine.errors == {A: ()}


async def test_a_controller_that_no_longer_leads_withdraws_what_it_reported(kept, api_server):
    api_server.add_fault(FaultKind.STATUS, verb="create", resource="services", count=None)
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert kept.engine.errors[A]
    kept.leadership.remaining_s = 0.0
    kept.keeper.forget()
    await kept.rest(lambda: kept.keeper.is_idle)
    assert kept.engine.errors == {A: ()}


async def test_a_request_that_fails_when_the_lead_is_lost_tells_nothing(kept, api_server):
    api_server.add_fault(FaultKind.CLOSE_BEFORE, verb="create", resource="services")
    kept.engine.set_desired((80, 10000))
    kept.client.before = [lambda: setattr(kept.leadership, "remaining_s", 0.0)]
    kept.keeper.mark([A])
    await kept.rest()
    assert kept.engine.errors == {}
    assert kept.keeper.is_idle


@pytest.mark.parametrize("verb", ["create", "get"])
async def test_an_answer_that_is_none_is_an_error(kept, api_server, verb):
    if verb == "get":
        kept.engine.set_desired((80, 10000))
        await kept.keeper.reconcile(A)
        kept.engine.tell()
    kept.engine.set_desired((80, 10001))
    api_server.add_fault(FaultKind.GARBAGE, verb=verb, resource="services")
    with pytest.raises(KubernetesError, match="is not a Service"):
        await kept.keeper.reconcile(A)
