import pytest

from maesh_core.controller.cluster_check.installation import parse_flags
from maesh_core.controller.cluster_check.plugin_kinds import choose_plugins, load_kinds
from maesh_core.plugin_system.metadata import list_installed


@pytest.fixture(scope="module")
def installed():
    return list_installed()


def test_the_plugins_are_those_of_the_defaults_and_the_flags(installed):
    names = choose_plugins(installed, parse_flags(["--acl", "--no-smi"]))
    assert "acl" in names
    assert "gateway" in names
    assert "smi" not in names


def test_the_kinds_are_those_of_the_core_and_of_the_plugins(installed):
    found = load_kinds(installed, ["acl", "smi", "gateway"], parse_flags([]))
    labels = {kind.label for kind in found.added}
    assert {"TrafficSplit", "TrafficTarget", "HTTPRoute"} <= labels
    assert {"Service", "Pod", "EndpointSlice"} <= {kind.label for kind in found.core}
    assert "Namespace" in {kind.label for kind in found.core}, "acl reads them"
    others = load_kinds(installed, ["smi", "gateway"], parse_flags([]))
    assert "Namespace" not in {kind.label for kind in others.core}
    assert found.problems == ()


def test_only_kinds_of_plugins_that_were_enabled_are_needed(installed):
    found = load_kinds(installed, ["acl", "smi", "gateway"], parse_flags([]))
    assert found.needed == {"TrafficTarget"}


@pytest.mark.parametrize(
    ("plugin", "flag", "expected"),
    [
        ("mtls", "mtls.mode=strict", True),
        ("acl", "acl.audit-by-annotation=namespace", True),
        ("acl", "acl.audit-by-annotation=none", False),
        ("smi", "smi.x=y", False),
    ],
)
def test_namespaces_are_read_for_a_transport_and_for_a_plugin_that_declares_them(plugin, flag, expected, installed):
    found = load_kinds(installed, [plugin], parse_flags([f"--set={flag}"]))
    assert ("Namespace" in {kind.label for kind in found.core}) is expected
    assert "Namespace" not in {kind.label for kind in found.added} | found.needed


def test_statuses_are_written_of_kinds_that_are_served(installed):
    found = load_kinds(installed, ["gateway"], parse_flags([]))
    served = {"HTTPRoute": "gateway.networking.k8s.io/v1"}
    assert [(each.kind.label, each.api_version, each.field) for each in found.list_written(served)] == [
        ("HTTPRoute", "gateway.networking.k8s.io/v1", "parents")
    ]


def test_plugins_that_are_missing_or_cannot_be_loaded_are_named(installed):
    found = load_kinds(installed, ["absent", "mtls"], parse_flags(["--set=mtls.mode=odd"]))
    assert found.problems[0] == "plugin absent is not installed here"
    assert found.problems[1].startswith("plugin mtls cannot be loaded here: ")
