"""Rules of routes that have no weight at all, for `maesh check`; the core compares rules."""

import pytest

from maesh_core.cli.check.manifests import check_manifests
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings.check import CheckSettings

SERVICE = """---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {containers: [{name: a}]}
status: {podIP: 10.0.0.1, conditions: [{type: Ready, status: "True"}]}
"""
ROUTE = """---
apiVersion: gateway.networking.k8s.io/v1
kind: %s
metadata: {name: route, namespace: shop}
spec: {parentRefs: [{group: "", kind: Service, name: web}], rules: [%s]}
"""
SESSION = "sessionPersistence: {sessionName: a, type: Cookie}"


@pytest.fixture
def check(tmp_path):
    def run(rules, *, kind="HTTPRoute"):
        path = tmp_path / "a.yaml"
        path.write_text(SERVICE + ROUTE % (kind, rules))
        names = ("gateway", "session", "redirect")
        plugins = tuple(each for each in list_installed() if each.name in names)
        findings = check_manifests(CheckSettings(paths=(str(path),), plugins=plugins)).findings
        return [(each.code, each.text) for each in findings]

    return run


@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute", "TCPRoute"])
def test_a_rule_whose_weights_are_0_is_an_error(check, kind):
    assert check("{backendRefs: [{name: web, port: 80, weight: 0}]}", kind=kind) == [
        ("MSH305", "rules[0]: no backend has a weight above 0")
    ]


@pytest.mark.parametrize(
    "rules",
    [
        "{backendRefs: [{name: web, port: 80, weight: 0}, {name: web, port: 80}]}",
        f"{{backendRefs: [{{name: web, port: 80, weight: 0}}], {SESSION}}}",
        "{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 302}}]}",
    ],
)
def test_a_rule_with_a_weight_above_0_or_with_its_own_answer_has_no_finding(check, rules):
    assert check(rules) == []
