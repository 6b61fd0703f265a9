"""Which pods may be the client at an address."""

import pytest

from maesh_core.model.clients import find_pod_name, select_clients
from maesh_core.model.resources import ObjectMeta, Pod, PodSpec


def build_pod(name, *, namespace="n", host_network=False):
    return Pod(metadata=ObjectMeta(name=name, namespace=namespace), spec=PodSpec(host_network=host_network))


P, Q, HOST = build_pod("p"), build_pod("p", namespace="m"), build_pod("h", host_network=True)


@pytest.mark.parametrize(
    ("pods", "clients", "name"),
    [
        ((), (), ""),
        ((P,), (P,), "n/p"),
        ((P, Q), (P, Q), ""),
        ((HOST,), (), ""),
        ((P, HOST), (), ""),
    ],
)
def test_an_address_names_the_only_pod_that_has_it_for_itself(pods, clients, name):
    assert select_clients(pods) == clients
    assert find_pod_name(pods) == name
