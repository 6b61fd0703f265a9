"""Which host a cluster's name of a service stands for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.hosts import build_tls_name, find_meant_host
from maesh_core.model.keys import ObjectKey


@pytest.mark.parametrize(
    "host", [b"cart.shop", b"cart.shop.svc", b"cart.shop.svc.cluster.local", b"cart.shop.svc.example.org"]
)
def test_a_clusters_name_stands_for_the_name_in_the_mesh(host: bytes) -> None:
    assert find_meant_host(host) == b"cart.shop.maesh"


@pytest.mark.parametrize(
    "host", [b"", b"cart", b"cart.", b".shop", b"cart.shop.svcs", b"cart.shop.example.org", b"10.0.0.1", b"[::1]"]
)
def test_other_names_and_addresses_stand_for_nothing(host: bytes) -> None:
    assert find_meant_host(host) is None


@given(st.binary(max_size=40))
def test_what_is_found_is_the_beginning_of_the_host_in_the_mesh(host: bytes) -> None:
    meant = find_meant_host(host)
    if meant is not None:
        assert host.startswith(meant.removesuffix(b".maesh"))
        assert meant.count(b".") == 2


def test_certificates_of_pods_name_their_service() -> None:
    assert build_tls_name(ObjectKey("Shop", "cart")) == "cart.shop.svc"
