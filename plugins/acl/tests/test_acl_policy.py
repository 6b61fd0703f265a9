"""Services without access rules, and targets that add nothing, for `maesh check`."""

import pytest

from maesh_core.cli.check.manifests import check_manifests
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings.check import CheckSettings

HEAD = "---\napiVersion: %s\nkind: %s\nmetadata: {name: %s, namespace: shop}\n"


def write_service(name, number, *, ports="[{port: 80}]"):
    pod = (HEAD % ("v1", "Pod", name)).replace("namespace: shop", f"namespace: shop, labels: {{app: {name}}}")
    return (
        HEAD % ("v1", "Service", name)
        + f"spec: {{selector: {{app: {name}}}, ports: {ports}}}\n"
        + pod
        + f"spec: {{serviceAccountName: {name}, containers: [{{name: a}}]}}\n"
        + f"status: {{podIP: 10.0.0.{number}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
    )


def write_target(name, *sources, rules="[{kind: HTTPRouteGroup, name: group}]", destination="web"):
    accounts = ", ".join(f"{{kind: ServiceAccount, name: {each}, namespace: shop}}" for each in sources)
    return HEAD % ("access.smi-spec.io/v1alpha3", "TrafficTarget", name) + (
        f"spec: {{destination: {{kind: ServiceAccount, name: {destination}, namespace: shop}},"
        f" sources: [{accounts}], rules: {rules}}}\n"
    )


def write_group(*matches):
    return (
        HEAD % ("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", "group")
        + f"spec: {{matches: [{', '.join(matches)}]}}\n"
    )


WEB, CLIENT, OTHER = write_service("web", 1), write_service("client", 2), write_service("other", 3)
READ, ALL = "{name: read, pathRegex: /a$, methods: [GET]}", "{name: all}"
OPEN = write_target("open-client", "web", destination="client") + write_target("open-other", "web", destination="other")


@pytest.fixture
def check(tmp_path):
    def run(*texts, settings=None):
        path = tmp_path / "a.yaml"
        path.write_text("".join(texts))
        plugins = tuple(each for each in list_installed() if each.name in ("smi", "acl"))
        options = CheckSettings(paths=(str(path),), plugins=plugins, plugin_settings={"acl": settings or {}})
        findings = check_manifests(options).findings
        return [(each.code, each.name, each.text) for each in findings]

    return run


def test_a_service_that_no_target_opens_is_reported(check):
    text = "no TrafficTarget has the service account web@shop of its servers as destination, so no client may reach it"
    assert check(WEB) == [("MSH510", "web", text)]


def test_a_service_in_audit_mode_records_what_no_target_allows(check):
    (found,) = check(WEB, settings={"mode": "audit"})
    assert found[:2] == ("MSH510", "web")
    assert found[2].endswith("so every request is recorded as one to deny")


def test_a_target_in_audit_mode_allows_more_than_its_rules(check):
    audited = write_target("b", "client").replace(
        "{name: b, namespace: shop}", "{name: b, namespace: shop, annotations: {maesh.containo.us/acl-mode: audit}}"
    )
    found = check(WEB, CLIENT, OTHER, OPEN, write_target("a", "client"), audited, write_group(READ))
    assert [each[:2] for each in found] == [("MSH511", "a"), ("MSH514", "b")]


def annotate(text, name, mode):
    return text.replace(f"name: {name}, ", f"name: {name}, annotations: {{maesh.containo.us/acl-mode: {mode}}}, ", 1)


@pytest.mark.parametrize(
    ("mode", "allowed", "namespace", "service", "expected"),
    [
        ("enforce", "service", "enforce", "enforce", []),
        ("enforce", "namespace", "audit", "enforce", ["shop"]),
        ("enforce", "service", "enforce", "audit", ["web"]),
        ("enforce", "service", "audit", "audit", ["shop"]),
        ("enforce", "none", "audit", "audit", []),
        ("audit", "service", "enforce", "audit", []),
        ("enforce", "namespace", "aduit", "enforce", []),
    ],
)
def test_what_an_annotation_puts_in_audit_mode_is_reported_once(check, mode, allowed, namespace, service, expected):
    shop = annotate(HEAD % ("v1", "Namespace", "shop"), "shop", namespace).replace(", namespace: shop", "")
    settings = {"mode": mode, "audit-by-annotation": allowed}
    found = check(shop, annotate(WEB, "web", service), settings=settings)
    assert [name for code, name, _ in found if code == "MSH514"] == expected


def test_a_service_whose_traffic_goes_to_others_needs_no_rules_of_its_own(check):
    split = HEAD % ("split.smi-spec.io/v1alpha4", "TrafficSplit", "split") + (
        "spec: {service: web, backends: [{service: client, weight: 1}]}\n"
    )
    target = write_target("t", "web", destination="client")
    assert check(WEB, CLIENT, split, write_group(READ), target) == []


def test_a_target_for_other_clients_or_requests_adds_something(check):
    targets = (
        write_target("a", "client", rules="[{kind: HTTPRouteGroup, name: group, matches: [read]}]")
        + write_target("b", "other")
        + write_target("c", "client", "other", rules="[{kind: HTTPRouteGroup, name: group, matches: [write]}]")
    )
    groups = write_group(READ, "{name: write, pathRegex: /a$, methods: [POST]}")
    assert check(WEB, CLIENT, OTHER, OPEN, targets, groups) == []


def test_a_target_that_a_wider_one_covers_adds_nothing(check):
    targets = write_target("narrow", "client", rules="[{kind: HTTPRouteGroup, name: group, matches: [read]}]")
    wide = write_target("wide", "client", "other", rules="[{kind: HTTPRouteGroup, name: group, matches: [all]}]")
    assert check(WEB, CLIENT, OTHER, OPEN, targets, wide, write_group(READ, ALL)) == [
        ("MSH511", "narrow", "it adds nothing: TrafficTarget wide@shop already allows all that it allows")
    ]


def test_of_two_equal_targets_the_second_adds_nothing(check):
    found = check(WEB, CLIENT, OTHER, OPEN, write_target("b", "client"), write_target("a", "client"), write_group(READ))
    assert [each[:2] for each in found] == [("MSH511", "b")]


@pytest.mark.parametrize(("path", "is_open"), [("/api", True), ("^/api.*", True), ("api", True), ("/api/", False)])
def test_a_path_that_ends_within_a_name_allows_longer_names(check, path, is_open):
    groups = write_group(f"{{name: read, pathRegex: '{path}'}}, {{name: other, pathRegex: '/api(/|$)'}}")
    found = check(WEB, CLIENT, OTHER, OPEN, write_target("t", "client"), groups)
    expected = [("MSH512", "group", "match read also allows paths such as /apix")]
    assert found == (expected if is_open else [])
