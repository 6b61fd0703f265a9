"""Splits that are never reached, and weights that cannot be met, for `maesh check`."""

import pytest

from maesh_core.cli.check.manifests import check_manifests
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings.check import CheckSettings

HEAD = "---\napiVersion: %s\nkind: %s\nmetadata: {name: %s, namespace: shop}\n"


def write_service(name, *, is_served=True):
    pod = HEAD % ("v1", "Pod", name) + (
        "spec: {containers: [{name: a}]}\nstatus: {podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}\n"
    )
    service = HEAD % ("v1", "Service", name) + f"spec: {{selector: {{app: {name}}}, ports: [{{port: 80}}]}}\n"
    labelled = pod.replace("namespace: shop", f"namespace: shop, labels: {{app: {name}}}")
    return service + labelled.replace("10.0.0.1", f"10.0.0.{len(name)}") if is_served else service


def write_split(name, backends, *, matches=()):
    found = ", ".join(f"{{kind: HTTPRouteGroup, name: {each}}}" for each in matches)
    return HEAD % ("split.smi-spec.io/v1alpha4", "TrafficSplit", name) + (
        f"spec: {{service: web, backends: [{backends}]{f', matches: [{found}]' if found else ''}}}\n"
    )


def write_group(name, *matches):
    head = HEAD % ("specs.smi-spec.io/v1alpha4", "HTTPRouteGroup", name)
    return head + f"spec: {{matches: [{', '.join(matches)}]}}\n"


SERVICES = write_service("web") + write_service("web-v1") + write_service("web-v22")
V1, V2 = "{service: web-v1, weight: 1}", "{service: web-v22, weight: 1}"
READ, ALL = "{name: read, pathRegex: /a, methods: [GET]}", "{name: all, pathRegex: /}"


@pytest.fixture
def check(tmp_path):
    def run(*texts):
        path = tmp_path / "a.yaml"
        path.write_text("".join(texts))
        plugins = tuple(each for each in list_installed() if each.name == "smi")
        findings = check_manifests(CheckSettings(paths=(str(path),), plugins=plugins)).findings
        return [(each.code, each.name, each.text) for each in findings]

    return run


def test_splits_for_different_requests_are_fine(check):
    groups = write_group("read", READ) + write_group("write", "{name: write, pathRegex: /a, methods: [POST]}")
    splits = write_split("a", V1, matches=["read"]) + write_split("b", V2, matches=["write"]) + write_split("c", V1)
    assert check(SERVICES, groups, splits) == []


def test_a_split_without_matches_behind_one_for_all_requests_is_never_reached(check):
    splits = write_split("b", V2, matches=["all"]) + write_split("c", V1)
    assert check(SERVICES, write_group("all", ALL), splits) == [
        ("MSH409", "c", "it is never reached: requests go by TrafficSplit b@shop")
    ]


def test_a_split_behind_a_wider_one_is_never_reached(check):
    groups = write_group("read", READ) + write_group("all", ALL)
    splits = write_split("a", V1, matches=["all"]) + write_split("b", V2, matches=["read"])
    assert check(SERVICES, groups, splits) == [
        ("MSH409", "b", "it is never reached: requests go by TrafficSplit a@shop")
    ]


def test_of_two_splits_for_all_requests_the_second_has_no_effect(check):
    assert check(SERVICES, write_split("a", V1), write_split("b", V2)) == [
        ("MSH409", "b", "it has no effect: another TrafficSplit of service web gets all of its requests")
    ]


def test_a_detached_split_hides_no_other(check):
    group = write_group("all", ALL)
    splits = write_split("a", "{service: web, weight: 1}", matches=["all"]) + write_split("b", V1, matches=["all"])
    assert [each[:2] for each in check(SERVICES, group, splits)] == [("MSH406", "a")]


def test_a_backend_with_weight_needs_servers(check):
    backends = f"{V1}, {{service: idle, weight: 9}}"
    codes = [each[:2] for each in check(SERVICES, write_service("idle", is_served=False), write_split("a", backends))]
    assert sorted(codes) == [("MSH213", "idle"), ("MSH304", "a")]


def test_a_match_of_a_group_that_holds_for_no_request_is_named(check):
    group = write_group("read", READ, "{name: query, pathRegex: '/a[?]b'}", "{pathRegex: /a$b}")
    assert check(SERVICES, group, write_split("a", V1, matches=["read"])) == [
        ("MSH303", "read", "match [2] holds for no request: no path matches '/a$b'"),
        ("MSH303", "read", "match query holds for no request: no path matches '/a[?]b'"),
    ]
