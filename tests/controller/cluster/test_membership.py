import asyncio

import pytest

from maesh_core.controller.cluster.membership import STALE_S, Cluster
from maesh_core.errors import KubernetesError
from maesh_core.model.events import Replaced
from maesh_testing.api_server import FaultKind

NAMES = "abc"


@pytest.fixture
async def pair(fleet, api_server, service, shadows):
    """Two controllers, of which the first leads; services of every kind are served."""
    api_server.apply([service(name, 80, type_="tcp") for name in NAMES])
    api_server.apply([service("u", 53, type_="udp"), service("w", 80)])
    one = await fleet.start(limit_tcp_port=20)
    await fleet.until(lambda: one.leads)
    two = await fleet.start(limit_tcp_port=20)
    await fleet.until(lambda: len(shadows()) == 5)
    return one, two


def list_writes(replica):
    return [call for call in replica.client.calls if call[0] not in ("GET", "WATCH")]


def watch_mapping(server):
    """Return all mappings of tcp and udp that were ever seen, by service and port."""
    seen = {}

    def look(kind, plural, found):
        if plural == "services" and found["metadata"]["namespace"] == "maesh" and kind != "DELETED":
            for port in found["spec"]["ports"]:
                key = found["metadata"]["name"], port["port"]
                seen.setdefault(key, []).append(port["targetPort"])

    server.on_change(look)
    return seen


async def serve_alike(fleet, *replicas, count):
    async def find():
        found = [await replica.list_entrypoints() for replica in replicas]
        return found[0] if len(found[0]) == count and all(each == found[0] for each in found) else None

    return await fleet.until(find)


async def test_only_the_leader_writes_and_all_serve_the_same(fleet, api_server, service, pair):
    one, two = pair
    assert (one.leads, two.leads) == (True, False)
    entrypoints = await serve_alike(fleet, *pair, count=4)
    assert sorted(entrypoints.values()) == [10000, 10001, 10002, 15000]
    api_server.apply(service("d", 80, 81, type_="tcp"))
    assert await serve_alike(fleet, *pair, count=6) == {
        **entrypoints,
        ("tcp", "shop/d:80"): 10003,
        ("tcp", "shop/d:81"): 10004,
    }
    for name in NAMES:
        assert (await one.report(name)) == (await two.report(name))
    assert list_writes(two) == []


async def test_a_follower_reports_that_an_entrypoint_is_not_written_yet(fleet, api_server, service, pair):
    one, two = pair
    api_server.add_fault(FaultKind.STATUS, verb="create", resource="services", count=None)
    api_server.apply(service("d", 80, type_="tcp"))
    for replica in pair:
        report = await fleet.until(lambda replica=replica: replica.report("d"))
        assert report["notices"] == ["port 80 waits for its entrypoint to be written"]
        assert ("tcp", "shop/d:80") not in await replica.list_entrypoints()
    assert await fleet.until(lambda: has_errors(one))
    assert not await has_errors(two)
    api_server.clear_faults()
    await serve_alike(fleet, *pair, count=5)


async def has_errors(replica):
    return (await replica.report("d"))["errors"]


async def test_when_the_leader_stops_another_writes_at_once_and_no_mapping_changes(
    fleet, api_server, service, shadows, pair
):
    one, two = pair
    seen = watch_mapping(api_server)
    before = await serve_alike(fleet, *pair, count=4)
    await one.stop()
    api_server.delete("services", "a", "shop")
    api_server.apply(service("d", 80, type_="tcp"))
    await fleet.until(lambda: shadows().keys() == set("bcduw"))
    after = await serve_alike(fleet, two, count=4)
    assert two.leads
    assert after.items() >= {key: port for key, port in before.items() if key[1] != "shop/a:80"}.items()
    assert all(len(set(targets)) == 1 for targets in seen.values())


@pytest.mark.parametrize("is_sent", [False, True])
async def test_a_leader_that_hangs_is_replaced_and_writes_nothing_when_it_goes_on(
    fleet, api_server, service, shadows, pair, is_sent
):
    one, two = pair
    before = await serve_alike(fleet, *pair, count=4)
    seen = watch_mapping(api_server)
    if is_sent:  # it hangs before it hears of what it has written
        one.client.kill = lambda method, path: one.client.running.clear() if method == "POST" else ""
    else:
        one.client.running.clear()
    api_server.apply(service("d", 80, type_="tcp"))
    await fleet.until(lambda: two.leads)
    api_server.apply([service("b", 80, 81, type_="tcp"), service("w", 80, 81)])
    api_server.delete("services", "a", "shop")
    await fleet.until(lambda: shadows().keys() == set("bcduw") and len(shadows()["b"]) == len(shadows()["w"]) == 2)
    calls, there = len(one.client.calls), api_server.list("services", "maesh")
    one.client.running.set()
    after = await serve_alike(fleet, *pair, count=5)
    await fleet.until(lambda: len(one.client.calls) > calls + 5)
    assert not one.leads
    assert [call for call in one.client.calls[calls:] if call[0] not in ("GET", "WATCH")] == []
    assert api_server.list("services", "maesh") == there
    assert after.items() >= {key: port for key, port in before.items() if key[1] != "shop/a:80"}.items()
    assert all(len(set(targets)) == 1 for targets in seen.values())


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_write_that_arrives_when_another_leads_is_refused(
    fleet, api_server, service, shadows, pair, build_client, method
):
    one, two = pair
    await serve_alike(fleet, *pair, count=4)
    one.client.holding = lambda verb, path: verb == method and "/services" in path
    if method == "POST":
        api_server.apply(service("d", 80, type_="tcp"))
    elif method == "PUT":
        api_server.apply(service("a", 80, 81, type_="tcp"))
    else:
        api_server.delete("services", "a", "shop")
    await fleet.until(lambda: one.client.held)
    await one.crash()
    await fleet.until(lambda: two.leads)
    api_server.apply(service("a", 80, 82, type_="tcp"))
    api_server.apply(service("d", 81, type_="tcp"))
    await fleet.until(lambda: shadows().get("a", {}).keys() == {80, 82} and shadows().get("d", {}).keys() == {81})
    before = api_server.list("services", "maesh")
    for held in one.client.held:
        with pytest.raises(KubernetesError, match="409"):
            await build_client(api_server).send(*held)
    assert api_server.list("services", "maesh") == before


async def test_a_new_leader_assigns_no_port_before_its_watch_has_delivered_all_that_was_written(
    fleet, api_server, service, shadows, pair
):
    one, two = pair
    await serve_alike(fleet, *pair, count=4)
    # z has a port that is never written; d, which is sorted before it, one that the other's watch does not tell
    faults = [api_server.add_fault(FaultKind.STATUS, verb="create", name=f"*-{name}-*", count=None) for name in "dz"]
    api_server.apply(service("z", 80, type_="tcp"))
    await fleet.until(lambda: faults[1].hits)
    api_server.apply(service("d", 80, type_="tcp"))
    await fleet.until(lambda: faults[0].hits)
    await fleet.until(lambda: two.report("d"))
    two.client.watching.clear()
    faults[0].count = 0
    await fleet.until(lambda: "d" in shadows())
    assert shadows()["d"] == {80: 10004}
    await one.crash()
    api_server.clear_faults()
    await fleet.until(lambda: two.leads)
    listed = two.client.calls.count(("GET", "/api/v1/namespaces/maesh/services"))
    await fleet.until(lambda: two.client.calls.count(("GET", "/api/v1/namespaces/maesh/services")) > listed + 3)
    assert "z" not in shadows()
    assert not [call for call in list_writes(two) if "/services" in call[1]]
    two.client.watching.set()
    await serve_alike(fleet, two, count=6)
    assert shadows()["d"] == {80: 10004}
    assert shadows()["z"] == {80: 10003}


async def test_what_was_marked_while_the_lead_lapsed_is_written_when_it_is_had_again(
    fleet, api_server, service, shadows
):
    one = await fleet.start()
    await fleet.until(lambda: one.leads)
    api_server.add_fault(FaultKind.STATUS, verb="update", resource="leases", count=None)
    while one.election.remaining_s > 5:
        await asyncio.sleep(0.001)
        fleet.skip(0.1)
    api_server.clear_faults()
    looks = api_server.add_fault(FaultKind.DELAY, verb="get", resource="leases", delay_s=0.1)
    while not looks.hits:
        await asyncio.sleep(0.001)
        fleet.skip(0.1)
    assert one.leads
    fleet.clock.skip(one.election.remaining_s + 1)  # within the request that finds the lease to be its own
    assert not one.leads
    api_server.apply(service("a", 80))
    await fleet.until(lambda: one.leads, idle_s=0)
    await fleet.until(lambda: "a" in shadows())


async def test_without_the_api_server_no_controller_leads_and_the_configuration_stays(
    fleet, api_server, service, shadows, pair
):
    before = await serve_alike(fleet, *pair, count=4)
    there = shadows()
    api_server.stop_listening()
    while any(replica.leads for replica in pair):
        await asyncio.sleep(0.002)
        fleet.skip(0.5)
    for replica in pair:
        assert await replica.list_entrypoints() == before
    api_server.resume()
    await fleet.until(lambda: any(replica.leads for replica in pair))
    api_server.apply(service("d", 80, type_="tcp"))
    after = await serve_alike(fleet, *pair, count=5)
    assert after.items() > before.items()
    assert {name: ports for name, ports in shadows().items() if name != "d"} == there


async def test_a_list_that_fails_when_the_lead_begins_is_made_again(fleet, api_server, service, shadows):
    api_server.apply(service("a", 80))
    faults = [
        api_server.add_fault(kind, verb="list", resource="services", namespace="maesh", count=2)
        for kind in (FaultKind.STATUS, FaultKind.GARBAGE)
    ]
    await fleet.start()
    await fleet.until(lambda: "a" in shadows())
    assert [fault.hits for fault in faults] == [2, 2]


async def test_many_shadow_services_are_looked_at_page_by_page(fleet, api_server, service, shadows, monkeypatch):
    monkeypatch.setattr("maesh_core.controller.cluster.membership.PAGE_SIZE", 2)
    api_server.apply([service(name, 80) for name in "abcde"])
    one = await fleet.start()
    await fleet.until(lambda: len(shadows()) == 5)
    await one.crash()
    two = await fleet.start()
    await fleet.until(lambda: two.leads)
    api_server.apply(service("f", 80))
    await fleet.until(lambda: "f" in shadows())
    assert two.client.calls.count(("GET", "/api/v1/namespaces/maesh/services")) >= 3


class LateSource:
    """A plugin's source, which has nothing to tell, and tells it late."""

    name = "late"

    def __init__(self):
        self.is_time = asyncio.Event()

    async def watch_events(self, kinds):
        await self.is_time.wait()
        yield [Replaced(kind.type, ()) for kind in kinds]
        await asyncio.Event().wait()


async def test_what_another_source_tells_of_services_is_nothing_about_the_mapping(
    fleet, api_server, service, shadows, pair
):
    for replica in pair:
        await replica.crash()
    before = shadows()
    api_server.delete("services", "a", "shop")
    late = LateSource()
    three = fleet.begin(sources=[late], limit_tcp_port=20)
    await fleet.until(lambda: ("WATCH", "/api/v1/services") in three.client.calls)
    await fleet.until(lambda: api_server.count_watches("services"))
    late.is_time.set()
    await three.wait_ready()
    api_server.apply(service("d", 80, type_="tcp"))
    await fleet.until(lambda: shadows().keys() == set("bcduw"))
    assert all(shadows()[name] == before[name] for name in "bcuw")


async def test_a_lost_contact_with_the_cluster_is_logged_once_and_once_more_when_it_is_back(caplog):
    now_s = 0.0
    steps = []

    async def pause(_):
        nonlocal now_s
        if not steps:
            raise asyncio.CancelledError
        now_s = steps.pop(0)

    cluster = Cluster(None, mesh_namespace="maesh", cluster_domain="c", identity="i", clock=lambda: now_s, pause=pause)
    steps[:] = [STALE_S - 1, STALE_S, STALE_S + 5]
    with pytest.raises(asyncio.CancelledError):
        await cluster._report_contact()
    assert caplog.messages == ["no contact with the cluster for 60 s: pulls are refused until there is"]
    caplog.clear()
    steps[:] = [1.0, 2.0, 3.0]
    with pytest.raises(asyncio.CancelledError):
        await cluster._report_contact()
    assert caplog.messages[-1] == "in contact with the cluster again: pulls are answered"
