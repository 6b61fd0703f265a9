"""Shadow services that whole controllers write to an API server."""

from contextlib import asynccontextmanager

import pytest

from maesh_testing.api_server import ApiServer, FaultKind

from .shadow_objects import NAME, NOTE, get, targets

TYPE = "mesh.traefik.io/traffic-type"


def list_writes(replica):
    return [
        (method, path)
        for method, path in replica.client.calls
        if method not in ("GET", "WATCH") and "/services" in path
    ]


async def test_each_service_gets_a_shadow_service_that_targets_its_entrypoints(fleet, api_server, service):
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


async def test_a_service_with_ports_of_every_kind_has_one_shadow_service_which_the_next_leader_keeps(
    fleet, api_server, service
):
    mixed = service("a", 80, 81, 9000, (53, "UDP"))
    own = {"81.entrypoint": "own", "9000.traffic-type": "tcp", "53.traffic-type": "udp"}
    mixed["metadata"]["annotations"] = {f"maesh.containo.us/{name}": value for name, value in own.items()}
    api_server.apply([mixed, service("b", 80, type_="tcp")])
    one = await fleet.start()
    wanted = {80: 5000, 81: 16000, 9000: 10000, 53: 15000}
    await fleet.until(lambda: get(api_server) and targets(get(api_server)) == wanted)
    await fleet.until(lambda: get(api_server, "b"))

    async def reports_wanted():  # an entrypoint is served once the watch has delivered the shadow service
        report = await one.report("a")
        return {port["port"]: port.get("entrypoint") for port in report["ports"]} == wanted

    await fleet.until(reports_wanted)
    assert [port["protocol"] for port in get(api_server)["spec"]["ports"]] == ["TCP", "TCP", "TCP", "UDP"]
    await one.crash()
    two = await fleet.start()
    await fleet.until(lambda: two.leads)
    api_server.apply(service("c", 80, type_="tcp"))
    await fleet.until(lambda: get(api_server, "c"))
    assert targets(get(api_server)) == wanted
    del mixed["metadata"]["annotations"]["maesh.containo.us/81.entrypoint"]
    api_server.apply(mixed)
    await fleet.until(lambda: targets(get(api_server)) == {**wanted, 81: 5001})


async def test_a_shadow_service_follows_its_service_until_that_is_deleted(fleet, api_server, service):
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


async def test_a_shadow_service_does_not_have_the_app_protocol_of_its_service(fleet, api_server, service):
    plain, declared = service("a", 80), service("a", 80)
    declared["spec"]["ports"][0]["appProtocol"] = "https"
    api_server.apply(plain)
    one = await fleet.start()
    await fleet.until(lambda: get(api_server))
    api_server.apply(declared)
    api_server.apply(service("b", 80))
    await fleet.until(lambda: get(api_server, "b"))
    assert "appProtocol" not in get(api_server)["spec"]["ports"][0]
    assert len(list_writes(one)) == 2


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
async def test_edits_of_shadow_services_are_reverted_and_entrypoints_are_kept(fleet, api_server, service, edit):
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


async def test_a_deleted_shadow_service_is_recreated_with_its_entrypoints(fleet, api_server, service):
    api_server.apply([service("a", 80, type_="tcp"), service("b", 80, type_="tcp")])
    one = await fleet.start()
    await fleet.until(lambda: list_all(one, 2))
    api_server.delete("services", "maesh-b-6d61657368-shop", "maesh")
    await fleet.until(lambda: get(api_server, "b"))
    assert targets(get(api_server, "b")) == {80: 10001}
    assert await one.list_entrypoints() == {("tcp", "shop/a:80"): 10000, ("tcp", "shop/b:80"): 10001}


async def test_a_conflict_is_retried_and_foreign_labels_and_annotations_are_kept(fleet, api_server, service, caplog):
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


async def test_a_foreign_service_with_a_shadow_name_is_reported_and_never_written(fleet, api_server, service):
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


async def test_the_second_service_with_the_same_shadow_name_gets_an_error(fleet, api_server, service):
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


async def test_shadow_services_whose_services_were_deleted_during_a_crash_are_deleted(
    fleet, api_server, service, shadows
):
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


async def test_entrypoints_of_an_earlier_version_are_adopted(fleet, api_server, service):
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
async def test_the_traffic_distribution_falls_back_to_one_that_the_server_knows(
    build_fleet, service, known, expected, writes
):
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


async def test_a_shadow_service_with_another_first_family_is_recreated_with_its_entrypoint(build_fleet, service):
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
async def test_an_invalid_traffic_type_leaves_the_shadow_service_unchanged_even_after_a_restart(
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


async def test_an_entrypoint_is_free_only_after_the_shadow_service_is_written_without_it(
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


async def test_shadow_services_of_a_newly_ignored_namespace_are_deleted(fleet, api_server, service, shadows):
    api_server.apply([service("a", 80, type_="tcp"), service("b", 80, type_="tcp", namespace="zoo")])
    one = await fleet.start(limit_tcp_port=1)
    await fleet.until(shadows)
    await one.stop()
    await fleet.start(limit_tcp_port=1, ignore_namespaces=("shop",))
    await fleet.until(lambda: shadows("zoo") == {"b": {80: 10000}})
    assert shadows() == {}


async def test_an_entrypoint_that_is_not_available_is_an_error_of_its_service_alone(
    fleet, api_server, service, shadows
):
    api_server.apply([service("a", 80, type_="tcp"), service("b", 80, 81, type_="tcp")])
    one = await fleet.start(limit_tcp_port=2)
    await fleet.until(lambda: len(shadows()) == 2)
    assert shadows() == {"a": {80: 10000}, "b": {80: 10001}}

    async def errors():
        return (await one.report("b"))["errors"]

    assert await fleet.until(errors) == ["port 81 has no entrypoint: all 2 from 10000 are in use"]
    assert (await one.report("a"))["errors"] == []


async def test_a_forbidden_write_is_reported_and_retried(fleet, api_server, service):
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
