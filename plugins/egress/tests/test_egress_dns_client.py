"""Lookups at a real DNS server on loopback: both families, aliases, errors, and names that do not exist."""

import asyncio
import socket

import dns.rcode
from maesh_egress.dns_client import ADDRESSES_LIMIT, DnsClient
from maesh_egress.lookup import IPV4, IPV6, MISSING, NO_ADDRESS, Answer, Failure, Lookup
from maesh_egress.resolver_address import parse_resolver

from .dns_server import DnsServer

NAME = "api.example.com"


def look_up(server: DnsServer, name: str = NAME, *, families: str = "both", timeout_s: float = 30.0) -> Lookup:
    client = DnsClient([parse_resolver(server.address)], families=families, timeout_s=timeout_s)
    return asyncio.run(client.look_up(name))


def test_both_families_are_looked_up_with_their_ttl(dns_server: DnsServer) -> None:
    dns_server.set(NAME, "203.0.113.2", "203.0.113.1", "2001:db8::0:7", ttl=30)
    assert look_up(dns_server) == {
        IPV4: Answer(("203.0.113.1", "203.0.113.2"), 30.0),
        IPV6: Answer(("2001:db8::7",), 30.0),
    }


def test_only_the_wanted_family_is_looked_up(dns_server: DnsServer) -> None:
    dns_server.set(NAME, "203.0.113.1", "2001:db8::7")
    assert list(look_up(dns_server, families="ipv6")) == [IPV6]
    assert {kind for _, kind, _ in dns_server.questions} == {"AAAA"}


def test_the_lowest_ttl_of_a_chain_of_aliases_counts(dns_server: DnsServer) -> None:
    dns_server.aliases[f"{NAME}."] = (12, "edge.example.net.")
    dns_server.set("edge.example.net", "203.0.113.1", ttl=300)
    assert look_up(dns_server)[IPV4] == Answer(("203.0.113.1",), 12.0)


def test_a_name_without_addresses_of_a_family_is_known_not_to_have_them_for_the_negative_ttl(
    dns_server: DnsServer,
) -> None:
    dns_server.set(NAME, "203.0.113.1")
    assert look_up(dns_server)[IPV6] == Answer((), 7.0, NO_ADDRESS)


def test_a_name_that_does_not_exist_is_an_answer(dns_server: DnsServer) -> None:
    assert look_up(dns_server) == dict.fromkeys((IPV4, IPV6), Answer((), 7.0, MISSING))


def test_no_search_domain_is_added_to_a_name(dns_server: DnsServer) -> None:
    look_up(dns_server, "api")
    assert {name for name, _, _ in dns_server.questions} == {"api."}


def test_a_truncated_answer_is_asked_for_again_over_tcp(dns_server: DnsServer) -> None:
    dns_server.truncates = True
    dns_server.set(NAME, "203.0.113.1")
    assert look_up(dns_server, families="ipv4") == {IPV4: Answer(("203.0.113.1",), 60.0)}
    assert [transport for _, _, transport in dns_server.questions] == ["udp", "tcp"]


def test_of_a_huge_answer_a_limited_number_of_addresses_is_kept(dns_server: DnsServer) -> None:
    dns_server.truncates = True
    dns_server.set(NAME, *(f"203.0.{high}.{low}" for high in range(12) for low in range(250)))
    result = look_up(dns_server, families="ipv4")[IPV4]
    assert isinstance(result, Answer)
    assert len(result.addresses) == ADDRESSES_LIMIT


def test_an_error_of_the_server_is_a_failure_and_no_answer(dns_server: DnsServer) -> None:
    dns_server.rcode = dns.rcode.SERVFAIL
    assert all(isinstance(result, Failure) for result in look_up(dns_server, timeout_s=0.3).values())


def test_a_server_that_does_not_answer_is_a_failure(dns_server: DnsServer) -> None:
    dns_server.is_away = True
    assert look_up(dns_server, timeout_s=0.3) == dict.fromkeys((IPV4, IPV6), Failure("does not answer"))


def test_bytes_that_are_no_answer_are_a_failure() -> None:
    class Babbling(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
            assert isinstance(self.transport, asyncio.DatagramTransport)
            self.transport.sendto(data[:2] + b"\xff" * 40, client)

    async def run() -> Lookup:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Babbling, ("127.0.0.1", 0), family=socket.AF_INET)
        port = transport.get_extra_info("sockname")[1]
        try:
            client = DnsClient([parse_resolver(f"127.0.0.1:{port}")], families="ipv4", timeout_s=0.3)
            return await client.look_up(NAME)
        finally:
            transport.close()

    (result,) = asyncio.run(run()).values()
    assert isinstance(result, Failure)
