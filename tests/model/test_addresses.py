"""Addresses have one spelling, and what is none is told apart."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.addresses import parse_address


@given(st.ip_addresses())
def test_every_spelling_of_an_address_becomes_the_canonical_one(address: ipaddress.IPv4Address) -> None:
    assert parse_address(address.exploded.upper()) == parse_address(str(address)) != None  # noqa: E711
    assert ipaddress.ip_address(parse_address(address.exploded) or "") == address


@pytest.mark.parametrize(
    "text",
    ["", "localhost", "10.0.0", "010.0.0.1", "10.0.0.1 ", "10.0.0.1:80", "[::1]", "fe80::1%eth0", "::g", "1\0", "é"],
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert parse_address(text) is None
