"""Services with servers that are known by name: which servers they have, and what they answer without any."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.configuration import NamedServer, Server, Service
from maesh_core.model.names import (
    ADDRESS_LIMIT,
    NameAddresses,
    decode_addresses,
    encode_addresses,
    fill_service,
)

API = NamedServer(name="api.example.com", port=443, host="api.example.com", hides_client=True)
TABLE = {"api.example.com": NameAddresses(("203.0.113.1", "2001:db8::1"))}


def test_a_service_without_names_is_unchanged() -> None:
    service = Service(servers=(Server(address="10.0.0.1", port=80),))
    assert fill_service(service, TABLE) is service


def test_each_address_is_a_server_that_must_show_a_certificate_of_the_name() -> None:
    filled = fill_service(Service(names=(API,), scheme="https"), TABLE)
    assert filled.servers == tuple(
        Server(
            address=address,
            port=443,
            tls_name="api.example.com",
            authority="api.example.com",
            name="api.example.com",
            hides_client=True,
        )
        for address in ("203.0.113.1", "2001:db8::1")
    )
    assert filled.answer is None


@pytest.mark.parametrize(("scheme", "tls_name"), [("https", "all.test"), ("tls", "all.test"), ("http", "")])
def test_a_given_name_is_that_of_the_certificate(scheme: str, tls_name: str) -> None:
    named = msgspec.structs.replace(API, tls_name="all.test")
    filled = fill_service(Service(names=(named,), scheme=scheme), TABLE)
    assert {(each.tls_name, each.name) for each in filled.servers} == {(tls_name, "api.example.com")}


@pytest.mark.parametrize(
    ("host", "scheme", "port", "authority"),
    [
        ("api.example.com", "https", 443, "api.example.com"),
        ("api.example.com", "http", 80, "api.example.com"),
        ("api.example.com", "http", 443, "api.example.com:443"),
        ("api.example.com", "h2c", 8080, "api.example.com:8080"),
        ("api.example.com:81", "http", 8080, "api.example.com:81"),
        ("", "http", 8080, ""),
    ],
)
def test_the_host_has_the_port_unless_it_is_that_of_the_scheme(
    host: str, scheme: str, port: int, authority: str
) -> None:
    named = NamedServer(name="api.example.com", port=port, host=host)
    assert {each.authority for each in fill_service(Service(names=(named,), scheme=scheme), TABLE).servers} == {
        authority
    }


def test_without_addresses_the_answer_says_why() -> None:
    other = NamedServer(name="b.example.com", port=80)
    answer = fill_service(
        Service(names=(API, other)), {"b.example.com": NameAddresses(problem="does not exist")}
    ).answer
    assert answer is not None
    assert (answer.status, answer.reason) == (503, "api.example.com is not resolved yet; b.example.com does not exist")


def test_the_number_of_addresses_is_limited() -> None:
    addresses = tuple(f"203.0.113.{number}" for number in range(ADDRESS_LIMIT + 5))
    filled = fill_service(Service(names=(API,)), {"api.example.com": NameAddresses(addresses)})
    assert len(filled.servers) == ADDRESS_LIMIT


@given(
    st.lists(st.integers(0, ADDRESS_LIMIT), min_size=1, max_size=5),
    st.lists(st.integers(1, 5), max_size=3),
)
def test_every_name_gets_the_traffic_of_one_server(counts: list[int], weights: list[int]) -> None:
    names = tuple(NamedServer(name=f"n{number}.example.com", port=80) for number in range(len(counts)))
    table = {
        named.name: NameAddresses(tuple(f"203.0.{number}.{each}" for each in range(count)))
        for number, (named, count) in enumerate(zip(names, counts, strict=True))
    }
    own = tuple(Server(address=f"10.0.0.{index}", port=80, weight=each) for index, each in enumerate(weights))
    filled = fill_service(Service(names=names, servers=own), table)
    shares = {
        sum(each.weight for each in filled.servers if each.address.startswith(f"203.0.{number}."))
        for number, count in enumerate(counts)
        if count
    }
    assert len(shares) <= 1
    for share in shares:
        assert [each.weight for each in filled.servers if not each.name] == [weight * share for weight in weights]


def test_a_table_survives_the_way_to_the_workers() -> None:
    table = {**TABLE, "b.example.com": NameAddresses(problem="does not exist")}
    assert decode_addresses(encode_addresses(table)) == table


@pytest.mark.parametrize("address", ["", "api.example.com", "203.0.113.01", "2001:DB8::1", "fe80::1%eth0"])
def test_what_is_no_address_in_canonical_form_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="canonical"):
        NameAddresses((address,))
    with pytest.raises(msgspec.DecodeError):
        decode_addresses(msgspec.json.encode({"a": {"addresses": [address]}}))
