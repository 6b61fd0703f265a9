"""Addresses have one spelling, and what is none is told apart."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.addresses import bracket_address, join_port, parse_address


@given(st.ip_addresses())
def test_every_spelling_of_an_address_becomes_the_canonical_one(address: ipaddress.IPv4Address) -> None:
    assert parse_address(address.exploded.upper()) == parse_address(str(address)) != None  # noqa: E711
    mapped = getattr(address, "ipv4_mapped", None)
    assert ipaddress.ip_address(parse_address(address.exploded) or "") == (mapped or address)


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_written_as_an_ipv6_one_is_the_ipv4_address(address: ipaddress.IPv4Address) -> None:
    number = f"{int(address):08x}"
    for text in (f"::ffff:{address}", f"::FFFF:{number[:4]}:{number[4:]}", f"0:0:0:0:0:ffff:{address}"):
        assert parse_address(text) == str(address)


def test_only_the_mapped_form_is_an_ipv4_address() -> None:
    assert parse_address("::10.0.0.1") == "::10.0.0.1"
    assert parse_address("64:ff9b::10.0.0.1") == "64:ff9b::a00:1"
    assert parse_address("::ffff:0:10.0.0.1") == "::ffff:0:a00:1"


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "10.0.0", "010.0.0.1", "10.0.0.1 ", "10.0.0.1:80", "[::1]", "fe80::1%eth0", "::g", "1\0", "é"],
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None


def test_an_ipv6_address_is_in_brackets() -> None:
    assert [bracket_address("10.0.0.1"), bracket_address("fd00::1"), bracket_address("a.b")] == [
        "10.0.0.1",
        "[fd00::1]",
        "a.b",
    ]
    assert [join_port("10.0.0.1", 80), join_port("fd00::1", 80)] == ["10.0.0.1:80", "[fd00::1]:80"]
