"""What a hook returns has what the process will use of it, or the start stops."""

import inspect

import pytest

from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.model.resources import ResourceKind
from maesh_core.plugin_system.hook_results import find_interface, find_result_problem
from maesh_core.plugin_system.hookspecs import POD_NAMES, SPEC_FAMILIES, OptionalSection, Stage
from maesh_core.plugin_system.protocols import PortRange

HOOKS = [name for family in SPEC_FAMILIES for name in vars(family) if name.startswith("maesh_")]
VALUE_TYPES = (ResourceKind, OptionalSection)
INTERFACES = {name: find_interface(name) for name in HOOKS if find_interface(name) not in VALUE_TYPES}
VALUES = {
    "finding_kinds": (),
    "name": "a",
    "kind": "a",
    "path": "/a",
    "page": "as",
    "field": "as",
    "condition_types": ("A",),
    "transport": "TCP",
    "stage": Stage.LIMIT,
    "annotations": ("x",),
    "settings_type": dict[str, int],
    "type": dict,
    "router_type": dict,
    "node_type": dict,
    "has_middlewares": True,
    "port_range": PortRange(first=1, limit=1, is_exclusive=True),
}
BUILDER = "maesh_middleware_builders"


def list_members(interface):
    methods = {
        name: method for name, method in vars(interface).items() if inspect.isfunction(method) and name[0] != "_"
    }
    properties = [name for name, value in vars(interface).items() if isinstance(value, property)]
    return {name: VALUES[name] for name in (*interface.__annotations__, *properties)} | methods


def build(interface, **changes):
    members = {name: value for name, value in {**list_members(interface), **changes}.items() if value is not ...}
    return type("Given", (), members)()


@pytest.mark.parametrize("hook", INTERFACES)
def test_what_has_all_that_its_interface_declares_is_taken(hook):
    assert find_result_problem(hook, build(INTERFACES[hook])) is None


@pytest.mark.parametrize(
    ("hook", "member"), [(hook, member) for hook, each in INTERFACES.items() for member in list_members(each)]
)
def test_what_lacks_anything_that_its_interface_declares_is_refused_by_its_name(hook, member):
    for value in (..., None):
        problem = find_result_problem(hook, build(INTERFACES[hook], **{member: value}))
        assert member in problem


@pytest.mark.parametrize(
    "hook", [hook for hook, each in INTERFACES.items() if any(map(callable, list_members(each).values()))]
)
def test_a_method_that_takes_other_arguments_is_refused_with_both_signatures(hook):
    members = list_members(INTERFACES[hook])
    name = next(name for name, value in members.items() if inspect.isfunction(value))
    problem = find_result_problem(hook, build(INTERFACES[hook], **{name: lambda self, a, b, c, d, e: None}))
    assert f"has a method {name} that takes (a, b, c, d, e), not " in problem


@pytest.mark.parametrize(
    "method",
    [
        lambda self, annotations, service: None,
        lambda self, *arguments: None,
        lambda self, one, other, more=None: None,
        staticmethod(lambda one, other: None),
    ],
)
def test_arguments_may_have_other_names_or_be_gathered(method):
    assert find_result_problem(BUILDER, build(INTERFACES[BUILDER], build_settings=method)) is None


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("annotations", "greeting", "has an attribute annotations that is 'greeting', not a tuple of texts"),
        ("annotations", (1,), "not a tuple of texts"),
        ("kind", "", "has an attribute kind that is '', not a text"),
        ("kind", 3, "not a text"),
        ("stage", 9, "not a Stage"),
        ("stage", "limit", "not a Stage"),
        ("annotations", ["greeting"], None),
        ("annotations", (), None),
        ("stage", 1, None),
    ],
)
def test_an_attribute_of_another_type_is_refused(name, value, words):
    problem = find_result_problem(BUILDER, build(INTERFACES[BUILDER], **{name: value}))
    assert problem is None if words is None else words in problem


def test_a_class_in_place_of_an_object_is_refused():
    problem = find_result_problem(BUILDER, type(build(INTERFACES[BUILDER])))
    assert "takes (self, annotations, service), not (annotations, service)" in problem


def test_kinds_of_resources_are_values_of_their_type():
    assert find_result_problem("maesh_resource_kinds", CORE_KINDS[0]) is None
    assert find_result_problem("maesh_resource_kinds", "Service") == "is no ResourceKind"
    assert find_result_problem("maesh_optional_sections", POD_NAMES) is None
    assert find_result_problem("maesh_optional_sections", "pods") == "is no OptionalSection"


@pytest.mark.parametrize(
    ("hook", "name", "value", "words"),
    [
        (BUILDER, "explain", lambda self, settings, question: None, None),
        (BUILDER, "explain", None, None),
        (BUILDER, "explain", lambda self, question: None, "has a method explain that takes (question), not "),
        (BUILDER, "explain", "all", "has explain, which cannot be called"),
        (BUILDER, "closed_status", 403, None),
        (BUILDER, "closed_status", "403", "has an attribute closed_status that is '403', not a whole number"),
        ("maesh_middleware_factories", "collect_metrics", lambda self, more: [], "collect_metrics that takes (more)"),
        ("maesh_protocol_handlers", "count_under_way", lambda self, more: 0, "count_under_way that takes (more)"),
        ("maesh_topology_builders", "is_last", True, None),
        ("maesh_topology_builders", "is_last", "yes", "has an attribute is_last that is 'yes', not a bool"),
    ],
)
def test_an_optional_member_may_be_missing_and_is_otherwise_as_declared(hook, name, value, words):
    assert find_result_problem(hook, build(INTERFACES[hook])) is None
    problem = find_result_problem(hook, build(INTERFACES[hook], **{name: value}))
    assert problem is None if words is None else words in problem
