"""What becomes of a request or a connection to a port with rules is said as a proxy would decide it."""

import pytest

from maesh_core.controller.explaining.explanation import ExplainedRequest, Explainer
from maesh_core.model.configuration import (
    Answer,
    HttpOrder,
    HttpRouter,
    HttpRule,
    HttpRules,
    Middleware,
    Part,
    Section,
    Server,
    Service,
    StreamRouter,
)
from maesh_core.model.matches import HttpMatch
from maesh_core.model.messages import Update
from maesh_core.plugin_system.interfaces import Verdict

from .guarded_pods import PODS, Guard
from .test_pod_lookup import build_lookup

RULED = HttpRouter(
    entrypoint=1,
    hosts=("web.shop.maesh",),
    rules=HttpRules(
        rules=(
            HttpRule(service="shop/web:80/rule/a", middlewares=("guard",)),
            HttpRule(service="shop/web:80/rule/b", middlewares=("answering",)),
        ),
        order=(HttpOrder(rule=0, match=HttpMatch(path_prefix="/a")), HttpOrder(rule=1)),
    ),
)


class Answering:
    kind = "answering"

    def explain(self, settings, question):
        return Verdict(is_admitted=False, reasons=("redirects to /new",), status=302)


def explain_ruled(path, *, client="10.0.0.1", services=()):
    key = "shop/web:80"
    document = {"name": "web", "namespace": "shop", "trafficType": "http", "ports": [{"port": 80}], "notices": []}
    found = {
        f"{key}/rule/a": Service(parts=(Part(service=f"{key}/backend/shop/v1:80", weight=1),)),
        f"{key}/rule/b": Service(parts=(Part(service=f"{key}/backend/shop/v1:80", weight=1),)),
        f"{key}/backend/shop/v1:80": Service(servers=(Server(address="10.0.1.1", port=8080),)),
        **dict(services),
    }
    names = ("guard", "answering")
    section = Section(
        routers={key: RULED},
        services=found,
        middlewares={each: Middleware(kind=each, settings={"account": "web@shop"}) for each in names},
    )
    guard = Guard()
    explainer = Explainer(
        {"services": {"web@shop": document}, "pods": {}},
        Update(revision="e.1", full=True, sections={"http": section}),
        {each.kind: each for each in (guard, Answering())},
        pods=build_lookup(*PODS)[0],
    )
    return explainer.explain(ExplainedRequest(client=client, service="web.shop", path=path)), guard


def test_a_request_of_a_rule_passes_the_middlewares_of_the_rule_and_goes_to_its_backends():
    found, guard = explain_ruled("/a/x")
    assert (found.is_admitted, found.destinations[0].service) == (True, "shop/v1:80")
    assert guard.asked[0].destination == "shop/web:80/rule/a"
    assert explain_ruled("/a/x", client="10.0.0.2")[0].status == 403


def test_a_middleware_of_a_rule_that_answers_gives_the_status():
    found, _ = explain_ruled("/b")
    assert (found.is_admitted, found.status, found.steps[-1]) == (False, 302, "answered: redirects to /new")


def test_a_rule_whose_backend_cannot_be_used_gives_its_response():
    answer = Service(answer=Answer(status=500, reason="there is no such Service"))
    found, _ = explain_ruled("/a", services={"shop/web:80/backend/shop/v1:80": answer})
    assert (found.is_admitted, found.status, found.steps[-1]) == (False, 500, "there is no such Service")


def test_the_connections_of_a_port_are_divided_by_its_rule():
    key = "shop/db:5432"
    rule = {"key": f"{key}/rule/r", "kind": "TCPRoute", "namespace": "shop", "object": "db"}
    port = {"port": 5432, "rules": {"rules": [rule]}}
    document = {"name": "db", "namespace": "shop", "trafficType": "tcp", "ports": [port], "notices": []}
    section = Section(
        routers={key: StreamRouter(entrypoint=10000, service=f"{key}/rule/r")},
        services={
            f"{key}/rule/r": Service(
                parts=(Part(service=f"{key}/backend/shop/v1:80", weight=3), Part(service=f"{key}/answer/0", weight=1))
            ),
            f"{key}/backend/shop/v1:80": Service(servers=(Server(address="10.0.1.1", port=80),)),
            f"{key}/answer/0": Service(answer=Answer(status=500, reason="there is no such Service")),
        },
    )
    update = Update(revision="e.1", full=True, sections={"tcp": section})
    explainer = Explainer({"services": {"db@shop": document}, "pods": {}}, update, {}, pods=build_lookup(*PODS)[0])
    found = explainer.explain(ExplainedRequest(client="10.0.0.1", service="db.shop"))
    assert "rule number 1 of TCPRoute shop/db: it applies to all connections" in found.steps
    assert [(each.service, each.share, each.status, each.reason) for each in found.destinations] == [
        ("shop/v1:80", 0.75, 0, ""),
        ("shop/db:5432/answer/0", 0.25, 0, "there is no such Service"),
    ]


@pytest.mark.parametrize(("client", "namespace"), [("10.0.0.1", "shop"), ("10.9.9.9", "")])
def test_connections_of_a_client_follow_the_rule_of_its_namespace(client, namespace):
    key = "shop/db:5432"
    own, theirs = f"{key}/consumer/shop/r", f"{key}/split/canary"
    rule = {"key": own, "kind": "TCPRoute", "namespace": "shop", "object": "theirs"}
    port = {"port": 5432, "consumers": {"shop": {"rules": [rule]}}}
    document = {"name": "db", "namespace": "shop", "trafficType": "tcp", "ports": [port], "notices": []}
    section = Section(
        routers={key: StreamRouter(entrypoint=10000, service=theirs, consumers={"shop": own})},
        services={
            own: Service(parts=(Part(service=f"{key}/backend/shop/v1:80", weight=1),)),
            f"{key}/backend/shop/v1:80": Service(servers=(Server(address="10.0.1.1", port=80),)),
            theirs: Service(parts=(Part(service=f"{theirs}/v2", weight=1),)),
            f"{theirs}/v2": Service(servers=(Server(address="10.0.2.1", port=80),)),
        },
    )
    update = Update(revision="e.1", full=True, sections={"tcp": section})
    explainer = Explainer({"services": {"db@shop": document}, "pods": {}}, update, {}, pods=build_lookup(*PODS)[0])
    found = explainer.explain(ExplainedRequest(client=client, service="db.shop"))
    steps = found.steps[-2:]
    if namespace:
        assert steps == (
            "clients of namespace shop have rules of their own",
            "rule number 1 of TCPRoute shop/theirs: it applies to all connections of clients of namespace shop",
        )
        assert [each.service for each in found.destinations] == ["shop/v1:80"]
    else:
        assert steps == (
            "the rules for clients of namespace shop do not apply to this client",
            "split canary: it applies to all connections",
        )
        assert [each.service for each in found.destinations] == ["v2"]
