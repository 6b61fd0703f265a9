"""Access to what rules of routes lead to: backends, shares, copies, and requests that filters change."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from maesh_acl import AccessSettings, AclSettings
from maesh_acl.controller import GrantBuilder
from maesh_acl.proxy import AclFactory

from maesh_core.controller.topology.builder import build_service_node
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.plugin import (
    Addition,
    AnswerNode,
    BackendNode,
    BranchNode,
    FilterNode,
    HttpMatch,
    ObjectKey,
    OrderedMatch,
    PortRules,
    RuleTable,
    build_port_key,
    plan_rules,
)
from maesh_core.proxy.http.messages.request_parsing import parse_request_head
from maesh_testing import FakeExchange, FakeNode

from .conftest import build_group, build_pod, build_service, build_target

AUDIT = AccessSettings(mode="audit")
CLIENT, STRANGER = "10.0.0.1", "10.0.0.2"
BASE = (
    build_pod("client", CLIENT, "caller"),
    build_pod("stranger", STRANGER, "other"),
    build_pod("web-1", "10.0.1.1", "web", app="web"),
    build_pod("next-1", "10.0.2.1", "next", app="next"),
    build_pod("next-2", "10.0.2.2", "later", app="next"),
    build_service("web"),
    build_service("next"),
    build_service("empty"),
)
WEB, NEXT = (build_target(f"{name}-open", name, ["caller"]) for name in ("web", "next"))
LATER = build_target("later-open", "later", ["caller"])
READ = build_group("read", {"name": "read", "pathRegex": "/read"})
PORT = "shop/web:80"


class RuleMaker:
    """Gives the service `web` rules: each is a tuple of backends, by name and weight, or an answer."""

    name = "maker"

    def __init__(self, rules, sides=()):
        self.rules, self.sides = rules, sides

    def _build_backend(self, view, name, weight=1):
        node = view.build_service(ObjectKey("shop", name))
        if node is None:
            return BackendNode(
                service=ObjectKey("shop", name), weight=weight, answer=AnswerNode(500, "no such service")
            )
        return BackendNode(service=node.key, weight=weight, port=node.ports[0])

    def build(self, view, service):
        branches = [
            BranchNode(name=f"r/{index}", answer=rule, filters=(FilterNode("RequestRedirect"),))
            if isinstance(rule, AnswerNode)
            else BranchNode(
                name=f"r/{index}",
                backends=tuple(self._build_backend(view, *each) for each in rule),
                keeps_shares=True,
            )
            for index, rule in enumerate(self.rules)
        ]
        order = tuple(OrderedMatch(match=HttpMatch(), rule=index) for index in range(len(branches)))
        table = RuleTable(no_match=AnswerNode(404, "none"), rules=tuple(branches), order=order)
        return Addition(
            rules={(80, "TCP"): PortRules(producer=table)} if branches else {},
            side_backends={(80, "TCP"): {name: self._build_backend(view, name) for name in self.sides}},
        )


@pytest.fixture
def build_acl(cluster):
    """Build the access control of `web` with these rules, and the plan of its port."""

    def build(*objects, rules=(), sides=(), settings=None):
        found = cluster(*BASE, *objects, settings=settings)
        builders: Any = [RuleMaker(rules, sides), GrantBuilder(found.settings)]
        node = build_service_node(
            found.snapshot.view(), ObjectKey("shop", "web"), rules=TopologyRules(), builders=builders
        )
        assert not node.errors
        settings = node.additions["acl"]
        assert isinstance(settings, AclSettings)
        return AclFactory(FakeNode()).build_middleware(settings, "shop/web"), plan_rules(node.key, node.ports[0])

    return build


def ask(acl, destination, path=b"/", client=CLIENT):
    """Send a request to a destination: True, the only servers that may get it, or False."""
    exchange = FakeExchange(target=path, client_address=client, service=PORT, destination=destination)
    if acl.on_request(exchange) is not None:
        return False
    return True if exchange.allowed_servers is None else set(exchange.allowed_servers)


def build_sent(path, host="web.shop.maesh", **fields):
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return parse_request_head(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{lines}\r\n".encode())


def test_a_rule_leads_to_its_backends_whose_targets_decide(build_acl):
    acl, plan = build_acl(WEB, rules=[[("web", 1)], [("next", 1)]])
    own, other = plan.producer
    assert ask(acl, own.key)
    assert not ask(acl, other.key)
    acl, plan = build_acl(NEXT, LATER, rules=[[("web", 1)], [("next", 1)]])
    assert [bool(ask(acl, rule.key)) for rule in plan.producer] == [False, True]
    assert not any(ask(acl, rule.key, client=STRANGER) for rule in plan.producer)


def test_every_backend_with_a_share_must_allow_the_client(build_acl):
    rules = [[("web", 1), ("next", 9)], [("web", 1), ("next", 0)]]
    acl, plan = build_acl(WEB, rules=rules)
    assert [ask(acl, rule.key) for rule in plan.producer] == [False, True]
    acl, plan = build_acl(WEB, NEXT, LATER, rules=rules)
    assert [bool(ask(acl, rule.key)) for rule in plan.producer] == [True, True]


def test_only_the_servers_of_an_allowed_account_get_the_request(build_acl):
    acl, plan = build_acl(WEB, NEXT, rules=[[("web", 1), ("next", 1)]])
    assert ask(acl, plan.producer[0].key) == {("10.0.1.1", 8080), ("10.0.2.1", 8080)}


def test_a_share_that_is_answered_needs_no_permission(build_acl):
    acl, plan = build_acl(WEB, rules=[[("web", 1), ("gone", 1), ("empty", 1)]])
    assert ask(acl, plan.producer[0].key)
    assert not ask(acl, plan.producer[0].key, client=STRANGER)


@pytest.mark.parametrize("rule", [AnswerNode(500, "redirects"), [("gone", 1)], [("empty", 1)], []])
def test_a_rule_that_reaches_no_server_is_judged_by_the_services_own_targets(build_acl, rule):
    acl, plan = build_acl(WEB, rules=[rule])
    assert ask(acl, plan.producer[0].key)
    assert not ask(acl, plan.producer[0].key, client=STRANGER)
    acl, plan = build_acl(NEXT, rules=[rule])
    assert not ask(acl, plan.producer[0].key)


def test_a_servers_node_judges_by_the_backend_that_gets_the_request(build_acl):
    acl, plan = build_acl(NEXT, rules=[[("next", 1)]])
    (key,) = plan.backends
    assert ask(acl, key) == {("10.0.2.1", 8080)}
    assert not ask(acl, key, client=STRANGER)


def test_what_has_no_rule_and_what_is_unknown_is_denied(build_acl):
    acl, _ = build_acl(WEB, rules=[[("web", 1)]])
    assert ask(acl, build_port_key(ObjectKey("shop", "web"), 80))
    assert not ask(acl, f"{PORT}/rule/other")


# --- copies and changed requests


def test_a_copy_is_judged_by_the_targets_of_the_service_that_gets_it(build_acl):
    read_only = build_target("next-read", "next", ["caller"], [("HTTPRouteGroup", "read")])
    acl, plan = build_acl(WEB, read_only, READ, sides=["next"])
    side = plan.sides["next"]
    exchange = FakeExchange(client_address=CLIENT, service=PORT, destination=PORT)
    assert acl.on_request(exchange) is None
    assert set(acl.judge_copy(exchange, side, build_sent("/read/x"))) == {("10.0.2.1", 8080)}
    assert acl.judge_copy(exchange, side, build_sent("/write")) is False
    assert acl.judge_copy(exchange, side, build_sent("/read/../write")) is False
    assert acl.judge_copy(exchange, "shop/web:80/side/other", build_sent("/read")) is False
    stranger = FakeExchange(client_address=STRANGER, service=PORT, destination=PORT)
    assert acl.judge_copy(stranger, side, build_sent("/read")) is False


def test_a_copy_may_go_to_any_server_if_all_are_allowed(build_acl):
    acl, plan = build_acl(NEXT, LATER, sides=["next"])
    exchange = FakeExchange(client_address=CLIENT, service=PORT, destination=PORT)
    assert set(acl.judge_copy(exchange, plan.sides["next"], build_sent("/"))) == {
        ("10.0.2.1", 8080),
        ("10.0.2.2", 8080),
    }
    acl, plan = build_acl(WEB, sides=["web"])
    assert acl.judge_copy(exchange, plan.sides["web"], build_sent("/")) is True


def test_a_changed_request_must_be_allowed_as_it_is_sent(build_acl):
    read_only = build_target("web-read", "web", ["caller"], [("HTTPRouteGroup", "read")])
    acl, plan = build_acl(read_only, READ, rules=[[("web", 1)]])
    (rule,) = plan.producer
    exchange = FakeExchange(target=b"/read", client_address=CLIENT, service=PORT, destination=rule.key)
    assert acl.on_request(exchange) is None
    assert acl.judge_changed(exchange, build_sent("/read/other")) is True
    assert acl.judge_changed(exchange, build_sent("/admin")) is False
    assert acl.judge_changed(exchange, build_sent("/read/%2e%2e/admin")) is False
    assert dict(acl_counts(acl)) == {(PORT, "request"): 1, (PORT, "path"): 1}


def acl_counts(acl):
    return acl._tally.denied


def read_denials(acl):
    denials = json.loads(acl._tally.log.build_report())["denials"]
    keys = [(each["key"], each["count"]) for each in denials]
    return [(key["mode"], key.get("route", ""), key.get("path", ""), count) for key, count in keys]


def test_in_audit_mode_a_changed_request_passes_and_is_recorded_once_as_it_is_sent(build_acl):
    read_only = build_target("web-read", "web", ["caller"], [("HTTPRouteGroup", "read")])
    acl, plan = build_acl(read_only, READ, rules=[[("web", 1)]], settings=AUDIT)
    (rule,) = plan.producer
    exchange = FakeExchange(target=b"/read", client_address=CLIENT, service=PORT, destination=rule.key)
    assert acl.on_request(exchange) is None
    assert exchange.would_deny == ""
    assert acl.judge_changed(exchange, build_sent("/admin")) is True
    assert acl.judge_changed(exchange, build_sent("/admin/2")) is True
    assert exchange.would_deny == "no rule allows this request of the client"
    assert read_denials(acl) == [("audit", rule.key, "/admin", 1)]


def test_in_audit_mode_the_node_of_the_server_records_nothing(build_acl):
    acl, _ = build_acl(settings=AUDIT)
    exchange: Any = FakeExchange(client_address=CLIENT, service=PORT, destination=PORT)
    exchange.is_delivered = True
    assert acl.on_request(exchange) is None
    assert read_denials(acl) == []


def test_in_audit_mode_a_copy_passes_and_is_recorded(build_acl):
    acl, plan = build_acl(WEB, sides=["next"], settings=AUDIT)
    exchange = FakeExchange(client_address=CLIENT, service=PORT, destination=PORT)
    assert acl.judge_copy(exchange, plan.sides["next"], build_sent("/a")) is True
    assert read_denials(acl) == [("audit", plan.sides["next"], "/a", 1)]


def test_in_audit_mode_what_is_no_longer_allowed_continues_and_is_recorded_once(build_acl):
    acl, _ = build_acl(settings=AUDIT)
    connection: Any = SimpleNamespace(
        client_address=CLIENT, service=PORT, exchange=None, server=None, allowed_servers=None, would_deny=""
    )
    assert acl.is_still_allowed(connection)
    assert acl.is_still_allowed(connection)
    assert connection.would_deny == "no rule allows this client"
    assert read_denials(acl)[0][3] == 1
    enforced, _ = build_acl()
    assert not enforced.is_still_allowed(connection)


def test_a_target_that_requires_a_host_sees_the_one_that_is_sent(build_acl):
    group = build_group("read", {"name": "read", "headers": {"Host": "^inner$"}})
    target = build_target("web-read", "web", ["caller"], [("HTTPRouteGroup", "read")])
    acl, plan = build_acl(target, group, rules=[[("web", 1)]])
    exchange = FakeExchange(client_address=CLIENT, service=PORT, destination=plan.producer[0].key)
    assert acl.judge_changed(exchange, build_sent("/", host="inner")) is True
    assert acl.judge_changed(exchange, build_sent("/", host="outer")) is False


def test_a_change_may_narrow_the_servers_and_never_widens_them(build_acl):
    read_only = build_target("later-read", "later", ["caller"], [("HTTPRouteGroup", "read")])
    acl, plan = build_acl(NEXT, read_only, READ, rules=[[("next", 1)]])
    exchange = FakeExchange(client_address=CLIENT, service=PORT, destination=plan.producer[0].key)
    acl.on_request(exchange)
    assert set(exchange.allowed_servers or ()) == {("10.0.2.1", 8080)}
    assert acl.judge_changed(exchange, build_sent("/read")) is True
    assert set(exchange.allowed_servers or ()) == {("10.0.2.1", 8080)}
    exchange.allowed_servers = None
    assert acl.judge_changed(exchange, build_sent("/")) is True
    assert set(exchange.allowed_servers or ()) == {("10.0.2.1", 8080)}


def test_a_target_that_requires_a_header_sees_the_one_that_is_sent(build_acl):
    group = build_group("read", {"name": "read", "headers": {"X-Role": "^reader$"}})
    target = build_target("web-read", "web", ["caller"], [("HTTPRouteGroup", "read")])
    acl, plan = build_acl(target, group, rules=[[("web", 1)]])
    assert acl.reads_changed_headers
    exchange = FakeExchange(client_address=CLIENT, service=PORT, destination=plan.producer[0].key)
    assert acl.judge_changed(exchange, build_sent("/", x_role="reader")) is True
    assert acl.judge_changed(exchange, build_sent("/", x_role="owner")) is False
    acl, _ = build_acl(WEB, rules=[[("web", 1)]])
    assert not acl.reads_changed_headers
