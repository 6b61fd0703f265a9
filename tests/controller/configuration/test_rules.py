"""What the rules of an HTTP port become: rules, services of backends that rules share, answers and shares."""

from typing import Any

import msgspec

from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.model.configuration import Answer, HttpOrder, HttpRouter, HttpRule, HttpRules, Part, Section, Service
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.topology import (
    AnswerNode,
    BackendNode,
    BranchNode,
    OrderedMatch,
    PortNode,
    RuleTable,
    ServerNode,
    ServiceNode,
)
from maesh_core.plugin_system.protocols import PortRange

TYPE = HttpTrafficType(PortRange(first=5000, limit=10, is_exclusive=False))
KEY, P = ObjectKey("shop", "cart"), "shop/cart:80"
OLD, NEW = "shop/cart:80/backend/shop/old:80", "shop/cart:80/backend/shop/new:80"
NO_MATCH = AnswerNode(404, "no rule matches")
OWN = (ServerNode(address="10.0.0.9", port=8080),)


def make_backend(name: str = "old", weight: int = 1, *, ready: int = 1, number: int = 80, **fields: Any) -> BackendNode:
    servers = tuple(ServerNode(address=f"10.0.0.{index + 1}", port=8080) for index in range(ready))
    port = PortNode(number=number, servers=servers, app_protocol=fields.pop("app_protocol", ""))
    return BackendNode(service=ObjectKey("shop", name), weight=weight, port=port, **fields)


def make_rule(name: str, *backends: BackendNode, **fields: Any) -> BranchNode:
    return BranchNode(name=name, backends=backends, keeps_shares=True, **fields)


def make_table(*rules: BranchNode) -> RuleTable:
    order = tuple(OrderedMatch(match=HttpMatch(path_prefix=f"/{index}"), rule=index) for index, _ in enumerate(rules))
    return RuleTable(no_match=NO_MATCH, rules=rules, order=order)


def build(port: PortNode, annotations: dict[str, str] | None = None) -> Section:
    node = ServiceNode(key=KEY, traffic_type="http", ports=(port,))
    return TYPE.build_section(node, annotations or {}, entrypoints=[(port, 5000)], middlewares=("shop/cart/guard",))


def build_rules(*rules: BranchNode) -> tuple[HttpRouter, dict[str, Service]]:
    section = build(PortNode(number=80, servers=OWN, rules=make_table(*rules)))
    return section.routers[P], dict(section.services)


def test_a_rule_is_divided_among_its_backends_and_has_the_middlewares_of_the_service() -> None:
    router, services = build_rules(make_rule("r", make_backend("old", 90), make_backend("new", 10), label="first"))
    assert router.service is None
    assert router.rules == HttpRules(
        rules=(HttpRule(service=f"{P}/rule/r", middlewares=("shop/cart/guard",), name="first"),),
        order=(HttpOrder(rule=0, match=HttpMatch(path_prefix="/0")),),
        reason="no rule matches",
    )
    assert services[f"{P}/rule/r"].parts == (Part(service=OLD, weight=9), Part(service=NEW, weight=1))
    assert services.keys() == {f"{P}/rule/r", OLD, NEW}


def test_rules_share_the_service_of_a_backend_so_that_a_changed_pod_changes_one_service() -> None:
    def build_ready(ready: int) -> dict[str, Service]:
        rules = [make_rule(str(index), make_backend(ready=ready)) for index in range(20)]
        return build_rules(*rules)[1]

    one, two = build_ready(1), build_ready(2)
    assert [key for key in one if one[key] != two[key]] == [OLD]


def test_the_same_port_of_the_service_itself_is_a_backend_with_the_settings_of_the_service() -> None:
    port = PortNode(number=80, servers=OWN, rules=make_table(make_rule("r", make_backend("cart"))))
    section = build(port, {"load-balancer": "least-request"})
    assert section.services[f"{P}/rule/r"].parts == (Part(service=P, weight=1),)
    assert section.services[P].load_balancer == "least-request"
    assert [each.address for each in section.services[P].servers] == ["10.0.0.9"]


def test_a_backend_that_cannot_be_used_keeps_its_share_and_answers_it() -> None:
    missing = BackendNode(
        service=ObjectKey("shop", "gone"), weight=1, answer=AnswerNode(500, "there is no service gone", 14)
    )
    router, services = build_rules(make_rule("r", make_backend(weight=3), missing))
    assert router.rules is not None
    assert services[f"{P}/rule/r"].parts == (Part(service=OLD, weight=3), Part(service=f"{P}/answer/0", weight=1))
    assert services[f"{P}/answer/0"].answer == Answer(status=500, reason="there is no service gone", grpc_status=14)


def test_a_backend_without_servers_keeps_its_share_only_in_rules_that_keep_shares() -> None:
    backends = (make_backend("old", ready=0), make_backend("new"))
    assert len(build_rules(make_rule("r", *backends))[1][f"{P}/rule/r"].parts) == 2
    loose = BranchNode(name="r", backends=backends)
    assert build_rules(loose)[1][f"{P}/rule/r"].parts == (Part(service=NEW, weight=1),)


def test_a_backend_of_weight_0_gets_nothing_and_a_rule_without_any_weight_answers_500() -> None:
    _, services = build_rules(make_rule("r", make_backend(weight=0), make_backend("new", 5)))
    assert services[f"{P}/rule/r"].parts == (Part(service=NEW, weight=1),)
    _, services = build_rules(make_rule("r", make_backend(weight=0)))
    assert services[f"{P}/rule/r"].answer == Answer(status=500, reason="no backend of the rule has weight")


def test_a_backend_of_weight_0_is_a_part_where_middlewares_may_choose_it() -> None:
    _, services = build_rules(make_rule("r", make_backend(weight=0), make_backend("new", 5), keeps_idle=True))
    assert services[f"{P}/rule/r"].parts == (Part(service=OLD, weight=0), Part(service=NEW, weight=1))
    _, services = build_rules(make_rule("r", make_backend(weight=0), keeps_idle=True))
    assert services[f"{P}/rule/r"].answer == Answer(status=500, reason="no backend of the rule has weight")


def test_a_rule_with_an_answer_reaches_no_backend() -> None:
    _, services = build_rules(make_rule("r", make_backend(), answer=AnswerNode(500, "closed")))
    assert services == {f"{P}/rule/r": Service(answer=Answer(status=500, reason="closed"))}


def test_a_backend_that_a_rule_names_twice_has_one_part() -> None:
    _, services = build_rules(make_rule("r", make_backend(weight=1), make_backend(weight=2), make_backend("new", 3)))
    assert services[f"{P}/rule/r"].parts == (Part(service=OLD, weight=1), Part(service=NEW, weight=1))


def test_the_scheme_of_a_backend_is_its_annotation_its_app_protocol_or_what_the_route_requires() -> None:
    def build_scheme(**fields: Any) -> str:
        return build_rules(make_rule("r", make_backend(protocol="h2c", **fields)))[1][f"{OLD}/h2c"].scheme

    assert build_scheme() == "h2c"
    assert build_scheme(app_protocol="https") == "https"
    assert build_scheme(annotations={"maesh.containo.us/scheme": "http"}) == "http"


def test_a_backend_with_an_error_in_its_own_annotations_answers_its_share() -> None:
    broken = make_backend("new", annotations={"maesh.containo.us/scheme": "gopher"})
    _, services = build_rules(make_rule("r", make_backend(), broken))
    answer = services[NEW].answer
    assert answer is not None
    assert (answer.status, answer.reason.startswith("backend new@shop: annotation scheme")) == (500, True)


def test_clients_of_other_namespaces_use_the_service_itself_if_only_consumers_have_rules() -> None:
    port = PortNode(number=80, servers=OWN, consumers={"test": make_table(make_rule("r", make_backend()))})
    section = build(port)
    router = section.routers[P]
    assert (router.service, router.rules, router.fallback) == (None, None, P)
    assert router.consumers["test"].rules[0].service == f"{P}/consumer/test/r"
    assert section.services[P].servers[0].address == "10.0.0.9"


def test_clients_of_other_namespaces_use_the_split_of_the_service_if_only_consumers_have_rules() -> None:
    beta = BranchNode(name="split/beta", matches=(HttpMatch(path_prefix="/beta"),), backends=(make_backend("new"),))
    port = PortNode(
        number=80, servers=OWN, branches=(beta,), consumers={"test": make_table(make_rule("r", make_backend()))}
    )
    section = build(port)
    router = section.routers[P]
    assert (router.branches, router.fallback) == ((), None)
    assert router.rules is not None
    assert [rule.service for rule in router.rules.rules] == [f"{P}/split/beta", P]
    assert [(each.rule, each.match) for each in router.rules.order] == [(0, beta.matches[0]), (1, HttpMatch())]
    assert section.services[f"{P}/split/beta"].parts == (Part(service=f"{P}/split/beta/new", weight=1),)


def test_rules_for_all_clients_replace_the_split_of_a_port() -> None:
    split = BranchNode(name="split/s", backends=(make_backend("new"),))
    port = PortNode(number=80, servers=OWN, branches=(split,), rules=make_table(make_rule("r", make_backend())))
    assert build(port).services.keys() == {f"{P}/rule/r", OLD}


def test_side_services_do_not_change_where_requests_go() -> None:
    port = PortNode(number=80, servers=OWN, side_backends={"copies": make_backend("new")})
    section = build(port)
    assert section.routers[P].service == P
    assert section.routers[P].side_services == (f"{P}/side/copies",)
    assert section.services.keys() == {P, f"{P}/side/copies"}


def test_a_table_without_rules_answers_every_request() -> None:
    router, services = build_rules()
    assert router.rules == HttpRules(reason="no rule matches")
    assert services == {}


def test_a_router_with_rules_has_no_service_so_that_proxies_without_rules_close_it() -> None:
    router, _ = build_rules(make_rule("r", make_backend()))
    document = msgspec.json.decode(msgspec.json.encode(router))
    assert "service" not in document or document["service"] is None
