"""Keys: what tells a service port's from a branch's of it."""

import pytest

from maesh_core.model.keys import (
    ObjectKey,
    build_middleware_key,
    build_port_key,
    cut_port_key,
    find_owner,
    find_scope,
    is_rule_key,
    is_subdomain,
)


@pytest.mark.parametrize("rest", ["", "/split canary", "/split canary/v2", "/a/b/c:d"])
def test_every_key_of_a_service_port_and_its_branches_is_cut_down_to_the_ports(rest):
    port_key = build_port_key(ObjectKey("shop", "web"), 80)
    assert cut_port_key(port_key + rest) == port_key == "shop/web:80"


@pytest.mark.parametrize("key", ["", "shop/web", "shop/web/acl"])
def test_a_key_without_a_port_stays_as_it_is(key):
    assert cut_port_key(key) == key


@pytest.mark.parametrize(
    "rest", ["", "/acl", ":80", ":80/retry", ":80/route/shop.web/1/URLRewrite.2", ":80/route@a/b/c:d"]
)
def test_the_owner_of_a_key_is_its_service(rest):
    assert find_owner("shop/web" + rest) == "shop/web"
    assert find_owner(build_middleware_key(ObjectKey("shop", "web"), "acl")) == "shop/web"


def test_the_scope_of_a_middleware_is_its_service_or_one_of_its_ports() -> None:
    key = ObjectKey("shop", "web")
    assert find_scope(build_middleware_key(key, "retry")) == "shop/web"
    assert find_scope(build_middleware_key(key, "retry", 8080)) == "shop/web:8080"
    assert find_scope("shop/web/rewrite/0123456789abcdef0123456789abcdef") == "shop/web"
    assert find_scope("shop/web/rewrite/" + "1" * 32) == "shop/web"
    assert find_owner(build_middleware_key(key, "retry", 8080)) == "shop/web"


@pytest.mark.parametrize("text", ["a", "web-1.shop", "0.9", "a" * 253])
def test_names_of_objects_and_hosts_are_subdomains(text: str) -> None:
    assert is_subdomain(text)


@pytest.mark.parametrize("text", ["", "Web", "a..b", ".a", "a.", "-a", "a-.b", "a_b", "a:80", "a\n", "ä", "a" * 254])
def test_other_texts_are_no_subdomains(text: str) -> None:
    assert not is_subdomain(text)


@pytest.mark.parametrize(
    ("service", "is_rule"),
    [
        ("shop/db:80/rule/tcproute/shop/db/0", True),
        ("shop/db:80/consumer/lab/tcproute/shop/db/0", True),
        ("shop/db:80/consumer/lab", False),  # the answer where no rule applies
        ("shop/db:80/rule", False),
        ("shop/db:80", False),
        ("shop/db:80/split/rule/v1", False),
        ("shop/db:8080/rule/r", False),
    ],
)
def test_the_services_of_rules_are_known_by_their_keys(service: str, is_rule: bool) -> None:
    assert is_rule_key(service, "shop/db:80") is is_rule
