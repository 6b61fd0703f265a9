"""Requests with tokens in, what identifies their clients out."""

import pytest
from maesh_jwt import JwtSettings
from maesh_jwt.controller import ClaimKind, ControllerHalf
from maesh_jwt.proxy import NO_CLAIM, ProxyHalf

from maesh_core.plugin import ConfigurationError
from maesh_testing import FakeExchange, FakeNode

from .token_keys import build_key_set, sign


def start_source(**settings):
    (source,) = ProxyHalf(JwtSettings(keys=build_key_set("ES256"), **settings)).maesh_request_sources(FakeNode())
    return source


def read(argument, headers, **settings):
    return start_source(**settings).build_reader(argument)(FakeExchange(headers=headers))


@pytest.mark.parametrize(
    ("value", "text"),
    [("anna", b'"anna"'), (7, b"7"), (True, b"true"), ([1, "a"], b'[1,"a"]'), ({"b": 1, "a": 2}, b'{"a":2,"b":1}')],
)
def test_a_claim_is_read_as_json(value, text):
    assert read("sub", {b"Authorization": b"Bearer " + sign({"sub": value})}) == text


def test_requests_without_the_claim_are_one_client():
    signed = sign({"sub": None})
    found = [read("sub", {}), read("sub", {b"Authorization": b"Basic eDp5"}), read("sub", {b"Authorization": signed})]
    assert found == [NO_CLAIM] * 3


@pytest.mark.parametrize("value", ["\ud800", {"a": ["\udfff"]}, {"\ud800": 1}])
def test_a_claim_that_is_not_unicode_is_none(value):
    assert read("sub", {b"Authorization": b"Bearer " + sign({"sub": value})}) == NO_CLAIM


def test_the_token_can_be_in_another_header():
    assert read("sub", {b"X-Token": sign({"sub": "a"})}, header="X-Token") == b'"a"'


def test_a_header_that_cannot_be_one_is_an_error():
    with pytest.raises(ConfigurationError, match="setting header of plugin jwt"):
        start_source(header="a b")


def test_the_controller_checks_the_names_of_claims_and_needs_no_keys():
    (kind,) = ControllerHalf(JwtSettings()).maesh_source_kinds()
    assert isinstance(kind, ClaimKind)
    names = ("sub", "https://a.example/tenant", "", "a b", "a,b", "x" * 257)
    assert [kind.find_argument_problem(name) is None for name in names] == [True, True, False, False, False, False]
