"""Which addresses serve a port, and at what number."""

import itertools

import pytest

from maesh_core.controller.topology.endpoints import Address, Group
from maesh_core.controller.topology.servers import build_servers, get_target_port
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Container, ContainerPort, EndpointPort, ObjectMeta, Pod, PodSpec, ServicePort

A, B = ObjectKey("shop", "a"), ObjectKey("shop", "b")


def list_servers(
    port: ServicePort, *groups: Group, siblings: tuple[ServicePort, ...] = ()
) -> tuple[list[tuple[str, int]], list[str]]:
    notices: list[str] = []
    servers = build_servers(port, groups, (port, *siblings), notices)
    return [(server.address, server.port) for server in servers], notices


def make_group(*ips: str, ports: tuple[EndpointPort, ...] | None) -> Group:
    return Group(tuple(Address(ip, None, None) for ip in ips), ports)


@pytest.mark.parametrize(
    ("target", "expected"), [(None, 80), (0, 80), ("", 80), (8080, 8080), ("8080", 8080), ("web", "web"), ("٣", "٣")]
)
def test_a_target_port_is_a_number_a_name_or_the_port_itself(target: int | str | None, expected: int | str) -> None:
    assert get_target_port(ServicePort(port=80, target_port=target)) == expected


def test_a_lone_port_without_name_serves_a_lone_port_of_any_name() -> None:
    group = make_group("10.0.0.1", ports=(EndpointPort(port=8080),))
    assert list_servers(ServicePort(port=80, name="web"), group) == ([("10.0.0.1", 8080)], [])


@pytest.mark.parametrize(
    ("siblings", "ports"),
    [
        ((ServicePort(port=81, name="admin"),), (EndpointPort(port=8080),)),
        ((), (EndpointPort(port=8080), EndpointPort(port=8081))),
        ((), (EndpointPort(port=8080, name="other"),)),
        ((), (EndpointPort(port=8080, name="web", protocol="UDP"),)),
        ((), ()),
    ],
)
def test_ports_that_could_mean_another_are_not_guessed(
    siblings: tuple[ServicePort, ...], ports: tuple[EndpointPort, ...]
) -> None:
    found, notices = list_servers(
        ServicePort(port=80, name="web"), make_group("10.0.0.1", ports=ports), siblings=siblings
    )
    assert found == []
    assert notices == ["port 80: no TCP port of its endpoints is named 'web'"]


def test_a_port_of_the_other_protocol_does_not_stand_in_the_way_of_a_lone_one() -> None:
    group = make_group("10.0.0.1", ports=(EndpointPort(port=8080), EndpointPort(port=53, protocol="UDP")))
    sibling = ServicePort(port=53, protocol="UDP")
    assert list_servers(ServicePort(port=80, name="web"), group, siblings=(sibling,))[0] == [("10.0.0.1", 8080)]


def test_nothing_is_reported_where_there_is_nobody_to_serve() -> None:
    assert list_servers(ServicePort(port=80, name="web"), make_group(ports=())) == ([], [])
    assert list_servers(ServicePort(port=80, name="web")) == ([], [])


@pytest.mark.parametrize("number", [0, -1, 65536])
def test_a_number_that_is_no_port_is_left_out_and_reported(number: int) -> None:
    found, notices = list_servers(ServicePort(port=80), make_group("10.0.0.1", ports=(EndpointPort(port=number),)))
    assert found == []
    assert notices == [f"port 80: {number} is not a valid port and is ignored"]


def test_an_address_counts_once_with_the_lowest_of_its_pods() -> None:
    addresses = [Address("10.0.0.1", None, None), Address("10.0.0.1", B, None), Address("10.0.0.1", A, None)]
    for ordered in itertools.permutations(addresses):
        groups = [Group((address,), (EndpointPort(port=80),)) for address in ordered]
        (server,) = build_servers(ServicePort(port=80), groups, (ServicePort(port=80),), [])
        assert (server.address, server.port, server.pod) == ("10.0.0.1", 80, A)


def test_one_address_on_two_numbers_is_two_servers() -> None:
    groups = [make_group("10.0.0.1", ports=(EndpointPort(port=number),)) for number in (81, 80)]
    assert list_servers(ServicePort(port=80), *groups)[0] == [("10.0.0.1", 80), ("10.0.0.1", 81)]


def test_a_named_target_is_looked_up_in_every_container() -> None:
    containers = (Container(), Container(ports=(ContainerPort(container_port=7, name="web"),)))
    pod = Pod(metadata=ObjectMeta(name="a", namespace="shop"), spec=PodSpec(containers=containers))
    group = Group((Address("10.0.0.1", A, pod), Address("10.0.0.2", B, None)), None)
    found, notices = list_servers(ServicePort(port=80, target_port="web"), group)
    assert found == [("10.0.0.1", 7)]
    assert notices == ["port 80: b@shop has no TCP port 'web'"]
