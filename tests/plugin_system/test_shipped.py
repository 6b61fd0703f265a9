"""The tables are those of the plugins themselves."""

from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.model.resources import NAMESPACES
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import SHIPPED, list_installed
from maesh_core.plugin_system.shipped import (
    ANNOTATIONS,
    KINDS,
    TRAFFIC_TYPES,
    find_annotation_switches,
    find_kind_switches,
    find_traffic_type_switches,
)


def collect(hook):
    """Return what each shipped plugin gives to a hook."""
    shipped = [plugin for plugin in list_installed() if plugin.name in SHIPPED]
    assert {plugin.name for plugin in shipped} == SHIPPED
    return {plugin.name: load_plugins("controller", [plugin], {}).collect(hook) for plugin in shipped}


def test_kinds_are_those_that_the_plugins_read():
    found = {}
    for name in ("smi", "acl", *sorted(SHIPPED - {"smi", "acl"})):
        for kind in collect("maesh_resource_kinds")[name]:
            if kind is NAMESPACES:  # the core accepts them without a plugin
                continue
            found.setdefault(kind.label, []).append(name)
    assert {kind: tuple(names) for kind, names in found.items()} == dict(KINDS)
    assert not KINDS.keys() & {kind.name for kind in CORE_KINDS}


def test_annotations_and_traffic_types_are_those_that_the_plugins_claim():
    claimed = {
        each: name
        for hook in ("maesh_middleware_builders", "maesh_transport_rules")
        for name, found in collect(hook).items()
        for builder in found
        for each in builder.annotations
    }
    assert claimed == dict(ANNOTATIONS)
    types = {each.name: name for name, found in collect("maesh_traffic_types").items() for each in found}
    assert types == dict(TRAFFIC_TYPES)


def test_only_what_is_off_has_a_switch():
    assert find_kind_switches({"smi", "gateway"}) == {"TrafficTarget": "plugin acl is off; --acl switches it on"}
    assert find_kind_switches({"acl", "gateway"}) == {"TrafficSplit": "plugin smi is off; --smi switches it on"}
    assert find_kind_switches({"acl", "smi", "gateway"}) == {}
    assert find_annotation_switches(SHIPPED - {"retry"}).keys() == {
        f"retry-{name}" for name in ("attempts", "on", "timeout", "backoff", "budget")
    }
    assert find_traffic_type_switches(SHIPPED) == {}
