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
    finding_kinds = ()

    def check(self, view):
        (node,) = view.nodes.values()
        yield PolicyFinding(code="ACME1", key=node.key, text="it is\nodd")


async def test_an_unknown_code_of_a_checker_is_shown_as_its_failure(tmp_path):
    engine, origins = await build_engine_of(tmp_path, WEB)
    (finding,) = collect_findings(engine, origins, [Checker()]).findings
    assert (finding.code, finding.kind) == ("MSH217", "Service")
    assert finding.text == "a checker reports the unknown code 'ACME1': it is odd"
