"""The parameters of a tap, and the names of its sources."""

import re

import pytest

from maesh_core.controller.tap.selection import (
    LIMIT_FORM,
    SOURCE_FORM,
    Selection,
    is_named,
    name_source,
    parse_selection,
)
from maesh_core.controller.traffic.callers import Caller
from maesh_core.model.tap import STATUS_FORM

WEB = Caller("Deployment/web@shop", "web@shop", ("shop/web-6d4b-x1",))


def test_proxies_filter_by_all_but_names() -> None:
    asked = {"service": "shop/web:80", "method": "GET", "path": "/a*", "status": "5xx"}
    assert parse_selection({**asked, "source": "web-0", "limit": "10"}) == Selection(asked, "web-0", 10)
    assert parse_selection({"source": "10.0.0.1", "method": ""}) == Selection({"source": "10.0.0.1"})
    assert parse_selection({}) == Selection({})


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"limit": "0"}, LIMIT_FORM),
        ({"limit": "-1"}, LIMIT_FORM),
        ({"limit": "\u0661"}, LIMIT_FORM),
        ({"limit": "9" * 5000}, LIMIT_FORM),
        ({"source": "web 0"}, SOURCE_FORM),
        ({"source": "web\x1b"}, SOURCE_FORM),
        ({"source": "x" * 601}, SOURCE_FORM),
        ({"status": "9"}, STATUS_FORM),
        ({"host": "a"}, "unknown parameter 'host'; the parameters are service, method, path, status, source, limit"),
    ],
)
def test_invalid_parameters_are_refused_with_their_form(parameters: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        parse_selection(parameters)


@pytest.mark.parametrize(
    "text",
    [
        "web-6d4b-x1",
        "shop/web-6d4b-x1",
        "Deployment/web@shop",
        "Deployment/web",
        "web",
        "web@shop",
        "web.shop",
        "shop/web",
    ],
)
def test_a_client_has_the_names_of_its_pod_and_its_workload(text: str) -> None:
    assert is_named(WEB, text)


@pytest.mark.parametrize("text", ["we", "shop", "Deployment", "other/web", "10.0.0.1", ""])
def test_a_client_has_no_other_name(text: str) -> None:
    assert not is_named(WEB, text)
    assert not is_named(Caller("10.0.0.2"), text)


def test_a_source_is_the_only_pod_with_the_address() -> None:
    assert name_source(WEB) == "shop/web-6d4b-x1"
    assert name_source(Caller("10.0.0.1")) == ""
    assert name_source(Caller("Deployment/web@shop", "", ("shop/a", "shop/b"))) == ""
