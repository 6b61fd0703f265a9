"""A controller in the test's process, and the API server's shadow services."""

import pytest

from maesh_core.testing.api_server import ApiServer, FaultKind

NAME = "maesh-cart-6d61657368-shop"
TYPE = "mesh.traefik.io/traffic-type"


def find(server, name=NAME):
    return server.find("services", name, "maesh")


def list_ports(found):
    return [(port["port"], port["protocol"], port["targetPort"]) for port in found["spec"]["ports"]]


def list_writes(server):
    """List what was done to Services, without what the test did itself."""
    return [
        call.verb
        for call in server.calls
        if call.resource == "services" and call.verb in ("create", "update", "delete")
    ]


async def test_it_follows_its_service_from_the_beginning_to_the_end(fleet, api_server, service):
    api_server.apply(service("cart", 80))
    await fleet.start()
    found = await fleet.until(lambda: find(api_server))
    assert list_ports(found) == [(80, "TCP", 5000)]
    assert found["metadata"]["labels"] == {"app": "maesh", "type": "shadow"}
    assert found["spec"]["selector"] == {"component": "maesh-mesh"}
    api_server.apply(service("cart", 80, 8080, (53, "UDP")))
    await fleet.until(lambda: list_ports(find(api_server)) == [(80, "TCP", 5000), (8080, "TCP", 5001)])
    api_server.delete("services", "cart", "shop")
    await fleet.until(lambda: not find(api_server))


async def test_what_is_in_order_is_not_written_again_by_the_next_controller(fleet, api_server, service, shadows):
    api_server.apply([service("cart", 80), service("db", 5432, type_="tcp")])
    first = await fleet.start()
    await fleet.until(lambda: len(shadows()) == 2)
    await first.stop()
    api_server.calls.clear()
    second = await fleet.start()
    await fleet.until(lambda: second.leads)
    api_server.apply(service("more", 80))
    await fleet.until(lambda: "more" in shadows())
    assert list_writes(api_server) == ["create"]


@pytest.mark.parametrize(
    "edit",
    [
        {"spec": {"selector": {"component": "mine"}}},
        {"spec": {"ports": [{"port": 80, "targetPort": 9}]}},
        {"metadata": {"annotations": {"maesh.containo.us/shadow-of-service": None}}},
    ],
)
async def test_what_somebody_edits_is_put_right_and_what_they_add_stays(fleet, api_server, service, edit):
    api_server.apply(service("cart", 80))
    await fleet.start()
    before = await fleet.until(lambda: find(api_server))
    api_server.patch("services", NAME, {"metadata": {"labels": {"team": "x"}}}, "maesh")
    api_server.patch("services", NAME, edit, "maesh")
    ours = ("selector", "ports")
    await fleet.until(
        lambda: (
            all(find(api_server)["spec"][field] == before["spec"][field] for field in ours)
            and "maesh.containo.us/shadow-of-service" in find(api_server)["metadata"]["annotations"]
        )
    )
    assert find(api_server)["metadata"]["labels"]["team"] == "x"


async def test_what_somebody_deletes_is_made_again_with_the_same_entrypoint(fleet, api_server, service, shadows):
    api_server.apply([service("a", 1, type_="tcp"), service("b", 1, type_="tcp")])
    await fleet.start()
    before = await fleet.until(lambda: len(shadows()) == 2 and shadows())
    api_server.delete("services", "maesh-a-6d61657368-shop", "maesh")
    await fleet.until(lambda: shadows() == before)


async def test_somebody_who_writes_at_the_same_moment_loses_nothing(fleet, api_server, service):
    api_server.apply(service("cart", 80))
    await fleet.start()
    await fleet.until(lambda: find(api_server))
    fault = api_server.add_fault(FaultKind.CONFLICT, verb="update", resource="services", count=3)
    api_server.apply(service("cart", 81))
    await fleet.until(lambda: list_ports(find(api_server)) == [(81, "TCP", 5000)])
    assert fault.hits == 3


async def test_a_service_of_somebody_else_is_never_touched_and_the_users_says_why(fleet, api_server, service):
    foreign = service(NAME, 80, namespace="maesh")
    api_server.apply([foreign, service("cart", 80)])
    version = find(api_server)["metadata"]["resourceVersion"]
    replica = await fleet.start()

    async def read_errors():
        report = await replica.report("cart")
        return report["errors"] if report else []

    errors = await fleet.until(read_errors)
    assert "stands in the way" in errors[0]
    api_server.delete("services", "cart", "shop")

    async def is_gone():
        return await replica.report("cart") is None

    await fleet.until(is_gone)
    assert find(api_server)["metadata"]["resourceVersion"] == version


async def test_orphans_of_an_earlier_controller_are_collected(fleet, api_server, service, shadows):
    api_server.apply([service("cart", 80), service("gone", 80)])
    first = await fleet.start()
    await fleet.until(lambda: len(shadows()) == 2)
    await first.crash()
    fleet.replicas.remove(first)
    api_server.delete("services", "gone", "shop")
    await fleet.start()
    await fleet.until(lambda: shadows().keys() == {"cart"})


async def test_a_bad_traffic_type_leaves_things_as_they_were_over_a_restart_too(fleet, api_server, service, shadows):
    api_server.apply([service("a", 1, type_="tcp"), service("b", 1, type_="tcp")])
    first = await fleet.start()
    before = await fleet.until(lambda: len(shadows()) == 2 and shadows())
    api_server.patch("services", "a", {"metadata": {"annotations": {TYPE: "nonsense"}}}, "shop")
    api_server.apply(service("c", 1, type_="tcp"))
    await fleet.until(lambda: len(shadows()) == 3)
    await first.stop()
    second = await fleet.start()
    await fleet.until(lambda: second.leads)
    api_server.apply(service("d", 1, type_="tcp"))
    await fleet.until(lambda: len(shadows()) == 4)
    assert {name: shadows()[name] for name in before} == before


async def test_a_namespace_that_is_ignored_later_loses_its_shadow_services(fleet, api_server, service, shadows):
    api_server.apply(service("cart", 80))
    first = await fleet.start()
    await fleet.until(shadows)
    await first.stop()
    await fleet.start(ignore_namespaces=("shop",))
    await fleet.until(lambda: not shadows())


async def test_a_port_that_does_not_fit_is_an_error_on_its_service_alone(fleet, api_server, service, shadows):
    api_server.apply([service(name, 1, type_="tcp") for name in ("a", "b", "c")])
    replica = await fleet.start(limit_tcp_port=2)
    await fleet.until(lambda: len(shadows()) == 2)
    (left_out,) = {"a", "b", "c"} - shadows().keys()

    async def read_errors():
        return (await replica.report(left_out))["errors"]

    assert "all 2 from 10000 are in use" in (await fleet.until(read_errors))[0]
    for name in shadows():
        assert (await replica.report(name))["errors"] == []


async def test_a_refusal_is_shown_on_the_service_until_it_is_over(fleet, api_server, service):
    api_server.apply(service("cart", 80))
    api_server.add_fault(
        FaultKind.STATUS, verb="create", resource="services", count=None, status=403, reason="Forbidden", message="no"
    )
    replica = await fleet.start()

    async def read_errors():
        return (await replica.report("cart"))["errors"]

    assert "cannot be written" in (await fleet.until(read_errors))[0]
    api_server.clear_faults()
    await fleet.until(lambda: find(api_server))

    async def is_well():
        return not await read_errors()

    await fleet.until(is_well)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (("PreferClose", "PreferSameNode"), "PreferSameNode"),
        (("PreferClose",), "PreferClose"),
        ((), None),
        (None, None),
    ],
)
async def test_the_best_traffic_distribution_that_the_server_knows_is_taken(build_fleet, service, known, expected):
    with ApiServer(traffic_distributions=known) as server:
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
        server.apply([service("cart", 80), service("more", 80)])
        fleet = build_fleet(server)
        await fleet.start()
        found = await fleet.until(lambda: find(server))
        assert found["spec"].get("trafficDistribution") == expected
        await fleet.until(lambda: find(server, "maesh-more-6d61657368-shop"))
        await fleet.end()


async def test_the_first_address_family_is_that_of_the_users_service(build_fleet, service):
    with ApiServer(service_ranges=("127.96.0.0/12", "fd00:1::/112")) as server:
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
        server.apply(service("cart", 80, ipFamilies=["IPv6"], ipFamilyPolicy="SingleStack"))
        fleet = build_fleet(server)
        await fleet.start()
        found = await fleet.until(lambda: find(server))
        assert found["spec"]["ipFamilies"] == ["IPv6"]
        server.delete("services", "cart", "shop")
        server.apply(service("cart", 80, ipFamilies=["IPv4", "IPv6"], ipFamilyPolicy="PreferDualStack"))
        await fleet.until(lambda: (find(server) or found)["spec"]["ipFamilies"] == ["IPv4", "IPv6"])
        await fleet.end()
