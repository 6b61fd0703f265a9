"""Findings are reported once, on the object that must be changed."""

import pytest

from maesh_core.cli.check.manifests import check_manifests
from maesh_core.controller.checking.collecting import collect_findings
from maesh_core.plugin_system.metadata import SHIPPED, list_installed
from maesh_core.plugin_system.policy_checks import PolicyFinding
from maesh_core.settings.check import CheckSettings
from tests.cli.check.cases import BARE, TO_WEB, WEB, write_route, write_split
from tests.controller.checking.engines import build_engine_of


@pytest.fixture
def check(tmp_path):
    def run(text, *, ignored=()):
        path = tmp_path / "a.yaml"
        path.write_text(text)
        plugins = tuple(each for each in list_installed() if each.name in SHIPPED and each.is_default)
        settings = CheckSettings(paths=(str(path),), plugins=plugins, ignore_codes=ignored)
        return [(each.code, each.kind, each.name) for each in check_manifests(settings).findings]

    return run


def test_what_a_service_says_about_its_routes_and_splits_is_on_these(check):
    route = write_route("{matches: [{method: PUT}], backendRefs: [{name: gone, port: 80}]}, {filters: [{type: Foo}]}")
    assert sorted(check(WEB + route)) == [
        ("MSH213", "Service", "web"),
        ("MSH606", "HTTPRoute", "route"),
        ("MSH607", "HTTPRoute", "route"),
    ]
    assert sorted(check(WEB + BARE + write_split("s", "{service: bare, weight: many}"))) == [
        ("MSH213", "Service", "bare"),
        ("MSH213", "Service", "web"),
        ("MSH305", "TrafficSplit", "s"),
        ("MSH404", "TrafficSplit", "s"),
    ]


def test_findings_with_an_ignored_code_are_left_out(check):
    text = WEB + write_route(f"{{backendRefs: [{TO_WEB}]}}", more="\n  hostnames: [a.example]")
    assert check(text) == [("MSH609", "HTTPRoute", "route")]
    assert check(text, ignored=("msh609",)) == []


class Checker:
    """Reports what it is given, or raises it."""

    finding_kinds = ()

    def __init__(self, found):
        self._found = found

    def __str__(self):
        return "plugin acme"

    def check(self, view):
        if isinstance(self._found, Exception):
            raise self._found
        yield PolicyFinding(code=self._found, key=next(iter(view.nodes)), text="it is\nodd")


@pytest.mark.parametrize(
    ("found", "kind", "text"),
    [
        ("ACME1", "Service", "a checker reports the unknown code 'ACME1': it is odd"),
        (ValueError("no\nmore"), "", "plugin acme: ValueError: no more"),
    ],
)
async def test_a_checker_that_fails_is_a_finding(tmp_path, found, kind, text):
    engine, origins = await build_engine_of(tmp_path, WEB)
    (finding,) = collect_findings(engine, origins, [Checker(found)]).findings
    assert (finding.code, finding.kind, finding.text) == ("MSH112", kind, text)
