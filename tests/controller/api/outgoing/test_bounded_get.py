"""Addresses of requests. tests/controller/api/test_node_client.py has the answers, through the client of proxies."""

import pytest

from maesh_core.controller.api.nodes import AdminAddress
from maesh_core.controller.api.outgoing.bounded_get import BoundedGetter, build_url
from maesh_core.errors import NodeUnreachableError


@pytest.mark.parametrize(
    ("ip", "url"),
    [
        ("10.0.0.1", "http://10.0.0.1:8080/traffic"),
        ("fd00::1", "http://[fd00::1]:8080/traffic"),
        ("::ffff:10.0.0.1", "http://10.0.0.1:8080/traffic"),
    ],
)
def test_an_address_becomes_a_url(ip, url):
    assert build_url(AdminAddress(ip, 8080), "/traffic") == url


@pytest.mark.parametrize("port", [None, 0, -1, 65536, 10**9])
def test_a_port_that_cannot_be_is_not_asked(port):
    with pytest.raises(NodeUnreachableError):
        build_url(AdminAddress("10.0.0.1", port), "/traffic")


async def test_errors_name_who_did_not_answer(free_address):
    getter = BoundedGetter("the controller", timeout_s=2.0, connections=1)
    with pytest.raises(NodeUnreachableError, match="the controller cannot be reached"):
        await getter.get(free_address, "/", limit_bytes=1)
    await getter.close()
    assert repr(getter) == "<BoundedGetter idle>"


@pytest.fixture
def free_address():
    """Return an address on which nothing listens: port 1 of a loopback address of this test."""
    return AdminAddress("127.1.2.3", 1)
