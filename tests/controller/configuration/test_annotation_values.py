"""The annotations that the core itself judges."""

import pytest

from maesh_core.controller.configuration.annotation_values import check_supported, parse_scheme
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


@pytest.mark.parametrize(("scheme", "text"), [("h2c", "HTTP/2")])
def test_schemes_that_proxies_cannot_speak_yet_say_so(scheme: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{text} is not supported yet"):
        check_supported(scheme)
    check_supported("http")


def test_servers_are_chosen_round_robin_unless_it_is_said() -> None:
    assert parse_load_balancer({}, LOAD_BALANCERS) == "round-robin"
    assert parse_load_balancer({"load-balancer": "least-request"}, LOAD_BALANCERS) == "least-request"


@pytest.mark.parametrize("text", ["", "Round-Robin", "random", "least-request "])
def test_another_way_to_choose_servers_is_an_error_that_names_the_known_ones(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_load_balancer({"load-balancer": text}, LOAD_BALANCERS)
    assert str(caught.value) == f"annotation load-balancer: {text!r} is not one of round-robin, least-request"
