"""The objects of a configuration: what a router refers to, and how defaults are encoded."""

import msgspec

from maesh_core.model.configuration import HttpRouter, HttpRule, HttpRules, Part, Service, list_rule_sets, list_targets


def test_new_fields_leave_the_bytes_of_former_objects_alone() -> None:
    router = HttpRouter(entrypoint=5000, hosts=("a",), service="x/y:80")
    assert msgspec.json.encode(router) == b'{"entrypoint":5000,"hosts":["a"],"service":"x/y:80"}'
    divided = Service(parts=(Part(service="x/y:80/a/b", weight=1),))
    assert msgspec.json.encode(divided) == b'{"parts":[{"service":"x/y:80/a/b","weight":1}]}'


def test_a_router_refers_to_the_services_of_its_rules_its_fallback_and_its_copies() -> None:
    rules = HttpRules(rules=(HttpRule(service="r1"), HttpRule(), HttpRule(service="r1")))
    router = HttpRouter(
        entrypoint=5000,
        hosts=(),
        rules=rules,
        consumers={"test": HttpRules(rules=(HttpRule(service="c1"),))},
        fallback="f",
        side_services=("s",),
    )
    assert list_targets(router) == ("r1", "c1", "f", "s")
    assert list_rule_sets(router) == (rules, router.consumers["test"])
    assert list_targets(HttpRouter(entrypoint=5000, hosts=())) == ()
