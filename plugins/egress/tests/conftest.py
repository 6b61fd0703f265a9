"""A DNS server for each test that asks for one."""

from collections.abc import Iterator

import pytest

from .dns_server import DnsServer, serve_dns


@pytest.fixture
def dns_server() -> Iterator[DnsServer]:
    with serve_dns() as server:
        yield server
