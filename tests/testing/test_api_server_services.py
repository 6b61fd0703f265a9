"""Services: what the server fills in, the addresses that it gives, and what it refuses."""

import pytest

from maesh_testing.api_server import ApiServer, StatusError

SERVICES = "/api/v1/namespaces/default/services"


def list_causes(found):
    return [(cause["reason"], cause["field"]) for cause in found["details"]["causes"]]


async def test_the_server_fills_in_what_is_not_said(raw, build_service):
    status, found = await raw("POST", SERVICES, build_service(selector={"app": "a"}))
    assert status == 201
    address = found["spec"]["clusterIP"]
    assert address.startswith("127.")
    assert found["spec"] == {
        "ports": [{"name": "web", "port": 80, "protocol": "TCP", "targetPort": 80}],
        "selector": {"app": "a"},
        "type": "ClusterIP",
        "sessionAffinity": "None",
        "internalTrafficPolicy": "Cluster",
        "clusterIP": address,
        "clusterIPs": [address],
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
    }
    assert found["status"] == {"loadBalancer": {}}
    assert "generation" not in found["metadata"]


async def test_every_service_has_an_address_of_its_own_and_frees_it(raw, api_server, build_service):
    addresses = {found["spec"]["clusterIP"] for found in api_server.apply([build_service(f"a-{n}") for n in range(20)])}
    assert len(addresses) == 20
    taken = min(addresses)
    status, found = await raw("POST", SERVICES, build_service("b", clusterIP=taken))
    assert (status, list_causes(found)) == (422, [("FieldValueInvalid", "spec.clusterIPs")])
    assert "already allocated" in found["message"]
    name = next(each for each in api_server.list("services") if each["spec"]["clusterIP"] == taken)["metadata"]["name"]
    await raw("DELETE", f"{SERVICES}/{name}")
    assert (await raw("POST", SERVICES, build_service("b", clusterIP=taken)))[0] == 201


async def test_a_service_may_have_no_address(raw, build_service):
    _, found = await raw("POST", SERVICES, build_service(clusterIP="None", ports=[]))
    assert (found["spec"]["clusterIP"], found["spec"]["clusterIPs"]) == ("None", ["None"])
    _, found = await raw("POST", SERVICES, build_service("b", type="ExternalName", externalName="acme.com"))
    assert "clusterIP" not in found["spec"]


async def test_node_ports_are_given_out(raw, build_service):
    _, found = await raw("POST", SERVICES, build_service(type="NodePort"))
    assert found["spec"]["ports"][0]["nodePort"] >= 30000
    _, again = await raw("PUT", f"{SERVICES}/app", build_service(type="NodePort"))
    assert again == found


@pytest.mark.parametrize(
    ("name", "spec", "causes"),
    [
        ("a" * 64, {}, [("FieldValueInvalid", "metadata.name")]),
        ("1a", {}, [("FieldValueInvalid", "metadata.name")]),
        ("a.b", {}, [("FieldValueInvalid", "metadata.name")]),
        ("a", {"ports": []}, [("FieldValueRequired", "spec.ports")]),
        (
            "a",
            {"ports": [{}]},
            [("FieldValueInvalid", "spec.ports[0].port"), ("FieldValueInvalid", "spec.ports[0].targetPort")],
        ),
        (
            "a",
            {"ports": [{"port": 65536}]},
            [("FieldValueInvalid", "spec.ports[0].port"), ("FieldValueInvalid", "spec.ports[0].targetPort")],
        ),
        (
            "a",
            {"ports": [{"port": 1}, {"port": 2}]},
            [("FieldValueRequired", "spec.ports[0].name"), ("FieldValueRequired", "spec.ports[1].name")],
        ),
        ("a", {"ports": [{"name": "A", "port": 1}]}, [("FieldValueInvalid", "spec.ports[0].name")]),
        (
            "a",
            {"ports": [{"name": "x", "port": 1}, {"name": "x", "port": 2}]},
            [("FieldValueDuplicate", "spec.ports[1].name")],
        ),
        (
            "a",
            {"ports": [{"name": "x", "port": 1}, {"name": "y", "port": 1}]},
            [("FieldValueDuplicate", "spec.ports[1]")],
        ),
        ("a", {"ports": [{"port": 1, "protocol": "ICMP"}]}, [("FieldValueNotSupported", "spec.ports[0].protocol")]),
        ("a", {"ports": [{"port": 1, "targetPort": "a_b"}]}, [("FieldValueInvalid", "spec.ports[0].targetPort")]),
        ("a", {"ports": [{"port": 1, "targetPort": 70000}]}, [("FieldValueInvalid", "spec.ports[0].targetPort")]),
        ("a", {"type": "Other"}, [("FieldValueNotSupported", "spec.type")]),
        ("a", {"type": "ExternalName"}, [("FieldValueRequired", "spec.externalName")]),
        ("a", {"clusterIP": "10.0.0.1"}, [("FieldValueInvalid", "spec.clusterIPs")]),
        ("a", {"clusterIP": "none"}, [("FieldValueInvalid", "spec.clusterIPs[0]")]),
        ("a", {"ipFamilies": ["IPv6"]}, [("FieldValueInvalid", "spec.ipFamilies[0]")]),
        ("a", {"ipFamilyPolicy": "RequireDualStack"}, [("FieldValueInvalid", "spec.ipFamilyPolicy")]),
        ("a", {"trafficDistribution": "Random"}, [("FieldValueNotSupported", "spec.trafficDistribution")]),
    ],
)
async def test_what_no_service_can_be_is_refused_with_its_causes(raw, build_service, name, spec, causes):
    status, found = await raw("POST", SERVICES, build_service(name, **spec))
    assert (status, found["reason"], found["details"]["kind"]) == (422, "Invalid", "Service")
    assert list_causes(found) == causes
    assert found["message"].startswith(f'Service "{name}" is invalid: ')


async def test_the_same_port_may_be_of_two_protocols(raw, build_service):
    ports = [{"name": "x", "port": 1, "protocol": "UDP"}, {"name": "y", "port": 1}]
    assert (await raw("POST", SERVICES, build_service(ports=ports)))[0] == 201


async def test_an_update_keeps_address_and_families_and_may_not_change_them(raw, build_service):
    _, first = await raw("POST", SERVICES, build_service())
    status, found = await raw("PUT", f"{SERVICES}/app", build_service(ports=[{"port": 81}]))
    assert (status, found["spec"]["clusterIP"]) == (200, first["spec"]["clusterIP"])
    status, found = await raw("PUT", f"{SERVICES}/app", build_service(clusterIP="127.96.9.9"))
    assert (status, list_causes(found)) == (422, [("FieldValueInvalid", "spec.clusterIPs[0]")])
    assert "may not change once set" in found["message"]


async def test_the_primary_family_of_a_dual_stack_service_stays(build_service):
    with ApiServer(service_ranges=("127.96.0.0/12", "fd00:96::/112")) as server:
        (found,) = server.apply(build_service(ipFamilyPolicy="PreferDualStack"))
        assert found["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
        assert [":" in address for address in found["spec"]["clusterIPs"]] == [False, True]
        (other,) = server.apply(build_service("b", ipFamilies=["IPv6"]))
        assert other["spec"]["clusterIP"].startswith("fd00:96::")
        with pytest.raises(StatusError, match="may not change once set") as caught:
            server.apply(build_service("b", ipFamilies=["IPv4"]))
        assert caught.value.code == 422


@pytest.mark.parametrize(
    ("known", "wanted", "kept"),
    [
        (("PreferClose", "PreferSameNode"), "PreferSameNode", "PreferSameNode"),
        (("PreferClose",), "PreferClose", "PreferClose"),
        (None, "PreferSameNode", None),
    ],
)
def test_old_servers_drop_a_way_to_distribute_traffic(build_service, known, wanted, kept):
    with ApiServer(traffic_distributions=known) as server:
        (found,) = server.apply(build_service(trafficDistribution=wanted))
        assert found["spec"].get("trafficDistribution") == kept


def test_less_old_servers_refuse_a_way_to_distribute_traffic(build_service):
    with (
        ApiServer(traffic_distributions=("PreferClose",)) as server,
        pytest.raises(StatusError, match='supported values: "PreferClose"'),
    ):
        server.apply(build_service(trafficDistribution="PreferSameNode"))


async def test_a_deleted_service_is_the_answer_of_its_deletion(raw, build_service):
    await raw("POST", SERVICES, build_service())
    status, found = await raw("DELETE", f"{SERVICES}/app")
    assert (status, found["kind"], found["metadata"]["name"]) == (200, "Service", "app")


async def test_a_slice_keeps_its_kind_of_address(raw):
    path = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    body = {"metadata": {"name": "a"}, "endpoints": [{"addresses": []}], "ports": [{"port": 80}]}
    status, found = await raw("POST", path, body)
    assert status == 422
    assert [cause["field"] for cause in found["details"]["causes"]] == ["addressType", "endpoints[0].addresses"]
    body |= {"addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"]}]}
    status, found = await raw("POST", path, body)
    assert (status, found["ports"]) == (201, [{"port": 80, "name": "", "protocol": "TCP"}])
    status, found = await raw("PUT", f"{path}/a", body | {"addressType": "IPv6"})
    assert (status, found["details"]["causes"][0]["field"]) == (422, "addressType")
