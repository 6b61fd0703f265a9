"""The annotations that the core itself judges."""

import pytest

from maesh_core.controller.configuration.annotation_values import explain_unknown_app_protocol, parse_scheme
from maesh_core.controller.configuration.http import LOAD_BALANCERS
from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import parse_load_balancer


def test_the_scheme_is_http_unless_it_is_said() -> None:
    assert parse_scheme({}) == "http"
    assert [parse_scheme({"scheme": text}) for text in ("http", "https", "h2c")] == ["http", "https", "h2c"]


@pytest.mark.parametrize("text", ["", "HTTP", "http ", "h2", "ws\n"])
def test_another_scheme_is_an_error_on_one_line(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not one of http, https, h2c") as caught:
        parse_scheme({"scheme": text})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("grpc", "h2c"), ("GRPC", "h2c"), ("http2", "h2c"), ("h2", "h2c"), ("HTTPS", "https"), ("gopher", None)],
)
def test_a_scheme_that_names_a_protocol_or_is_misspelt_gets_a_suggestion(text: str, meant: str | None) -> None:
    hint = "" if meant is None else f"; did you mean {meant}?"
    with pytest.raises(ConfigurationError) as caught:
        parse_scheme({"scheme": text})
    assert str(caught.value) == f"annotation scheme: {text!r} is not one of http, https, h2c{hint}"


@pytest.mark.parametrize(
    ("app_protocol", "scheme"),
    [
        ("http", "http"),
        ("https", "https"),
        ("kubernetes.io/h2c", "h2c"),
        ("kubernetes.io/ws", "http"),
        ("kubernetes.io/wss", "https"),
        ("grpc", "h2c"),
        ("h2c", "h2c"),
        ("http2", "h2c"),
    ],
)
def test_the_app_protocol_of_a_port_selects_the_scheme(app_protocol: str, scheme: str) -> None:
    assert parse_scheme({}, app_protocol) == scheme
    assert explain_unknown_app_protocol({}, app_protocol) == ""


@pytest.mark.parametrize("app_protocol", ["tcp", "HTTPS", "GRPC", "h2", "kubernetes.io/http", "example.com/https"])
def test_another_app_protocol_counts_as_absent_and_is_reported(app_protocol: str) -> None:
    assert parse_scheme({}, app_protocol) == "http"
    text = f"appProtocol {app_protocol!r} is not supported, so the scheme is http"
    assert explain_unknown_app_protocol({}, app_protocol).startswith(text)


def test_a_misspelt_app_protocol_gets_a_suggestion() -> None:
    assert explain_unknown_app_protocol({}, "HTTPS").endswith("; did you mean https?")
    assert explain_unknown_app_protocol({}, "tcp").endswith("the scheme is http")


def test_the_annotation_takes_precedence_over_the_app_protocol() -> None:
    assert parse_scheme({"scheme": "http"}, "https") == "http"
    assert parse_scheme({"scheme": "https"}, "grpc") == "https"
    assert explain_unknown_app_protocol({"scheme": "http"}, "tcp") == ""
    with pytest.raises(ConfigurationError):
        parse_scheme({"scheme": ""}, "https")


def test_servers_are_chosen_round_robin_unless_it_is_said() -> None:
    assert parse_load_balancer({}, LOAD_BALANCERS) == "round-robin"
    assert parse_load_balancer({"load-balancer": "least-request"}, LOAD_BALANCERS) == "least-request"


@pytest.mark.parametrize("text", ["", "Round-Robin", "random", "least-request "])
def test_another_way_to_choose_servers_is_an_error_that_names_the_known_ones(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_load_balancer({"load-balancer": text}, LOAD_BALANCERS)
    assert str(caught.value) == f"annotation load-balancer: {text!r} is not one of round-robin, least-request"
