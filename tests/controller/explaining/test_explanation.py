"""What becomes of a request is said as a proxy would decide it, for every address that its client has."""

import pytest

from maesh_core.controller.explaining.destinations import list_destinations
from maesh_core.controller.explaining.explanation import ExplainedRequest, Explainer
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import (
    HttpRouter,
    Middleware,
    Part,
    Section,
    Server,
    Service,
    StreamRouter,
)
from maesh_core.model.messages import Update
from maesh_core.plugin_system.interfaces import Verdict

from .guarded_pods import PODS, Guard
from .test_pod_lookup import build_lookup, build_pod


class Lenient:
    """Lets everybody in, and would not without audit mode."""

    kind = "lenient"

    def explain(self, settings, question):
        return Verdict(is_admitted=True, reasons=("audited",), would_deny=("no rule",))


class Silent:
    kind = "silent"


class Broken:
    kind = "broken"

    def explain(self, settings, question):
        raise ValueError("no\nsetting")


def build_explainer(*middlewares, errors=(), router=None, pods=PODS, **more):
    key = "shop/web:80"
    document = {
        "name": "web",
        "namespace": "shop",
        "trafficType": "http",
        "ports": [{"port": 80}, {"port": 81}],
        "errors": list(errors),
        "notices": [],
    }
    section = Section(
        routers={}
        if errors
        else {key: router or HttpRouter(entrypoint=1, hosts=("web.shop.maesh",), service=key, middlewares=middlewares)},
        services={key: Service(servers=(Server(address="10.0.1.1", port=8080),))},
        middlewares={each: Middleware(kind=each, settings={"account": "web@shop"}) for each in middlewares},
    )
    guard = Guard()
    explainer = Explainer(
        {"services": {"web@shop": document}, "pods": {}},
        Update(revision="e.1", full=True, sections={"http": section}),
        {each.kind: each for each in (guard, Lenient(), Silent(), Broken())},
        pods=build_lookup(*pods)[0],
        **more,
    )
    return explainer, guard


def explain(*middlewares, client="10.0.0.1", service="web.shop", **more):
    explainer, _ = build_explainer(*middlewares, **more)
    return explainer.explain(ExplainedRequest(client=client, service=service))


def test_a_request_that_no_middleware_refuses_goes_to_the_servers():
    found = explain("guard")
    assert (found.is_admitted, found.status, found.undecided) == (True, 200, ())
    assert found.destinations[0].servers == ("10.0.1.1:8080",)
    assert "guard: judged" in found.steps


def test_what_only_audit_mode_lets_pass_says_so():
    found = explain("lenient")
    assert (found.is_admitted, found.would_deny) == (True, ("lenient: would deny: no rule",))
    assert {"lenient: audited", "lenient: would deny: no rule"} <= set(found.steps)
    assert explain("guard").would_deny == ()


def test_a_middleware_gets_the_client_from_any_spelling():
    explainer, guard = build_explainer("guard")
    for text in ("::ffff:10.0.0.2", "other.shop", "shop/other", "other@shop"):
        explainer.explain(ExplainedRequest(client=text, service="shop/web"))
    for question in guard.asked:
        assert (question.client_address, question.client_account) == ("10.0.0.2", "other@shop")
        assert [pod.name for pod in question.client_pods] == ["other"]
        assert (question.destination, question.traffic_type, question.is_http) == ("shop/web:80", "http", True)
        assert set(question.topology["services"]) == {"web@shop"}


def test_a_pod_is_judged_at_each_of_its_addresses_and_a_difference_is_said():
    found = explain("guard", client="shop/client")
    assert found.is_admitted
    assert found.steps[-1] == "from its address fd00::1: denied: judged"
    assert not explain("guard", client="fd00::1").is_admitted


def test_an_address_that_is_let_in_where_the_first_is_not_is_reported_too():
    pods = (build_pod("client", "10.0.0.2", "10.0.0.1"), build_pod("other", "10.0.0.2", account="other"))
    found = explain("guard", client="client.shop", pods=pods)
    assert not found.is_admitted
    assert found.steps[-1] == "from its address 10.0.0.1: it is let in"


def test_a_middleware_that_does_not_explain_itself_is_reported_as_one_that_may_refuse():
    found = explain("silent", "guard")
    assert (found.is_admitted, found.undecided) == (True, ("silent",))
    assert "silent: this middleware does not explain itself; it may still refuse the request" in found.steps


def test_a_middleware_that_fails_to_explain_itself_is_one_that_may_refuse():
    found = explain("broken")
    assert found.undecided == ("broken",)
    assert (
        "broken: this middleware cannot explain itself (ValueError: no setting); it may still refuse the request"
        in (found.steps)
    )


def test_what_another_refuses_is_denied_whoever_did_not_say():
    found = explain("silent", "guard", client="shop/other")
    assert (found.is_admitted, found.status, found.undecided) == (False, 403, ())
    assert found.steps[-1] == "denied: judged"


def test_a_closed_service_says_why():
    assert explain(errors=["bad annotation"]).steps[-1] == "closed: bad annotation"
    closed = HttpRouter(entrypoint=1, hosts=("web.shop.maesh",), service=None, status=403, reason="it is closed")
    found = explain(router=closed)
    assert (found.status, found.steps[-1]) == (403, "closed: it is closed")


def test_what_is_wrong_with_the_objects_and_what_was_not_read_is_part_of_the_answer():
    told = [{"kind": "Pod", "namespace": "shop", "name": "client", "errors": [], "notices": ["a notice"]}]
    found = explain(client="shop/client", objects=told, problems={"file": "broken"})
    assert [(each.kind, each.name, each.notices) for each in found.objects] == [("Pod", "client", ("a notice",))]
    assert found.problems == {"file": "broken"}


def explain_schemes(*, annotations=None, app_protocol="", scheme="http", kind="http", **services):
    """Explain a request to a service, or to the backends that `services` names, with their documents."""
    key = "shop/web:80"

    def build_document(name, annotations=None, app_protocol=""):
        port = {"port": 80, "protocol": "TCP", **({"appProtocol": app_protocol} if app_protocol else {})}
        shown = {"name": name, "namespace": "shop", "trafficType": kind, "errors": [], "notices": []}
        return {**shown, "annotations": annotations or {}, "ports": [{"port": 80, "protocol": "UDP"}, port]}

    documents = {"web@shop": build_document("web", annotations, app_protocol)}
    built = {key: Service(servers=(Server(address="10.0.1.1", port=8080),), scheme=scheme)}
    branch = f"{key}/split/s"
    for name, (own, document) in services.items():
        documents[f"{name}@shop"] = build_document(name, **document)
        built[f"{branch}/{name}"] = Service(servers=(Server(address="10.0.2.1", port=8080),), scheme=own)
    if services:
        built[branch] = Service(parts=tuple(Part(service=f"{branch}/{name}", weight=1) for name in services))
    target = branch if services else key
    router = (
        HttpRouter(entrypoint=1, hosts=("web.shop.maesh",), service=target)
        if kind == "http"
        else StreamRouter(entrypoint=1, service=target)
    )
    section = Section(routers={key: router}, services=built)
    update = Update(revision="e.1", full=True, sections={kind: section})
    explainer = Explainer({"services": documents, "pods": {}}, update, {}, pods=build_lookup(*PODS)[0])
    found = explainer.explain(ExplainedRequest(client="10.0.0.1", service="web.shop"))
    return {each.service: (each.scheme, each.scheme_source) for each in found.destinations}


@pytest.mark.parametrize(
    ("document", "scheme", "source"),
    [
        ({}, "http", ""),
        ({"app_protocol": "grpc"}, "h2c", "appProtocol grpc"),
        ({"app_protocol": "redis"}, "http", ""),
        ({"annotations": {"mesh.traefik.io/scheme": "https"}, "app_protocol": "grpc"}, "https", "annotation scheme"),
        ({"annotations": {"mesh.traefik.io/80.scheme": "https"}}, "https", "annotation 80.scheme"),
        ({"annotations": {"mesh.traefik.io/81.scheme": "https"}}, "http", ""),
    ],
)
def test_a_destination_has_its_scheme_and_what_selects_it(document, scheme, source):
    assert explain_schemes(**document, scheme=scheme) == {"shop/web:80": (scheme, source)}


def test_each_backend_of_a_split_has_its_own_scheme():
    backends = {
        "v1": ("h2c", {"app_protocol": "kubernetes.io/h2c"}),
        "v2": ("https", {"annotations": {"maesh.containo.us/scheme": "https"}}),
        "web": ("http", {}),
    }
    assert explain_schemes(**backends) == {
        "v1": ("h2c", "appProtocol kubernetes.io/h2c"),
        "v2": ("https", "annotation scheme"),
        "web": ("http", ""),
    }


@pytest.mark.parametrize(("port", "kind"), [(80, "http"), (81, "tcp"), (53, "udp"), (54, "tcp")])
def test_each_port_is_explained_as_its_own_traffic_type(port, kind):
    ports = [
        {"port": 80},
        {"port": 81, "trafficType": "tcp"},
        {"port": 53, "protocol": "TCP", "trafficType": "udp"},
        {"port": 53, "protocol": "UDP", "trafficType": "udp"},
        {"port": 54, "protocol": "UDP"},
        {"port": 54, "protocol": "TCP", "trafficType": "tcp"},
    ]
    shown = {"name": "web", "namespace": "shop", "trafficType": "http", "errors": [], "notices": [], "ports": ports}
    key = f"shop/web:{port}"
    router = (
        HttpRouter(entrypoint=1, hosts=(), service=key) if kind == "http" else StreamRouter(entrypoint=1, service=key)
    )
    built = {key: Service(servers=(Server(address="10.0.1.1", port=8080),))}
    update = Update(revision="e.1", full=True, sections={kind: Section(routers={key: router}, services=built)})
    explainer = Explainer({"services": {"web@shop": shown}, "pods": {}}, update, {}, pods=build_lookup(*PODS)[0])
    found = explainer.explain(ExplainedRequest(client="10.0.0.1", service="web.shop", port=port))
    assert (found.traffic_type, found.is_admitted) == (kind, True)


def test_a_destination_of_tcp_has_a_scheme_only_if_its_servers_get_tls():
    document = {"annotations": {"mesh.traefik.io/scheme": "tls"}}
    assert explain_schemes(kind="tcp", scheme="tls", **document) == {"shop/web:80": ("tls", "annotation scheme")}
    assert explain_schemes(kind="tcp", app_protocol="https") == {"shop/web:80": ("", "")}


def test_a_pod_that_has_ended_is_looked_at_too():
    told = [{"kind": "Pod", "namespace": "shop", "name": "job", "errors": ["an error"], "notices": []}]
    found = explain(client="job.shop", pods=[build_pod("job", "10.0.0.7", phase="Failed")], objects=told)
    assert [each.errors for each in found.objects] == [("an error",)]


@pytest.mark.parametrize(
    ("service", "error"),
    [
        ("wbe.shop", "the mesh knows no service wbe in namespace shop; did you mean web.shop?"),
        ("web.other", "the mesh knows no service web in namespace other; did you mean web.shop?"),
        ("ledger@bank", "the mesh knows no service ledger in namespace bank"),
    ],
)
def test_a_service_that_is_not_there_is_an_error_that_names_the_nearest(service, error):
    with pytest.raises(ConfigurationError) as raised:
        explain(service=service)
    assert str(raised.value) == error


def test_a_service_that_is_not_there_may_be_in_what_could_not_be_read():
    with pytest.raises(ConfigurationError) as raised:
        explain(service="ledger.bank", problems={"b.yaml": "no", "a.yaml": "not UTF-8"})
    assert str(raised.value) == (
        "the mesh knows no service ledger in namespace bank; "
        "what could not be read may have it: a.yaml: not UTF-8 (and 1 more)"
    )


def test_a_pod_that_is_not_there_is_an_error():
    with pytest.raises(ConfigurationError, match="there is no pod nobody in namespace shop"):
        explain(client="shop/nobody")


def test_a_destination_has_the_mode_of_its_service_unless_that_is_off():
    services = {
        "n/a:80": Service(encryption="strict"),
        "n/b:80": Service(parts=(Part(service="n/b:80/s/x", weight=1), Part(service="n/b:80/s/y", weight=1))),
        "n/b:80/s/x": Service(encryption="permissive"),
        "n/b:80/s/y": Service(),
    }
    assert [each.encryption for each in list_destinations(services, "n/a:80", None)] == ["strict"]
    assert [each.encryption for each in list_destinations(services, "n/b:80", None)] == ["permissive", ""]


@pytest.mark.parametrize(
    ("port", "kind"),
    [(53, "udp"), ("53/udp", "udp"), ("53/tcp", "tcp"), ("53/TCP", "tcp"), ("dns", "udp"), ("dns-tcp", "tcp")],
)
def test_a_port_is_found_by_its_protocol_and_by_its_name(port, kind):
    found = explain_dns(port)
    assert (found.port, found.traffic_type, found.is_admitted) == (53, kind, True)


def test_an_unknown_port_lists_ports_with_protocol_and_name():
    with pytest.raises(ConfigurationError, match=r"no port 54; its ports: 53/udp \(dns\), 53/tcp \(dns-tcp\)$"):
        explain_dns(54)


def test_a_port_whose_protocol_does_not_carry_its_type_is_not_explained_as_the_other_one():
    assert not explain_dns("53/tcp", tcp_type="udp").is_admitted


def explain_dns(port, tcp_type="tcp"):
    ports = [
        {"port": 53, "name": "dns", "protocol": "UDP", "trafficType": "udp"},
        {"port": 53, "name": "dns-tcp", "protocol": "TCP", "trafficType": tcp_type},
    ]
    shown = {"name": "dns", "namespace": "shop", "trafficType": "udp", "errors": [], "notices": [], "ports": ports}
    key = "shop/dns:53"
    section = Section(
        routers={key: StreamRouter(entrypoint=1, service=key)},
        services={key: Service(servers=(Server(address="10.0.1.1", port=8080),))},
    )
    update = Update(revision="e.1", full=True, sections={"udp": section, "tcp": section})
    explainer = Explainer({"services": {"dns@shop": shown}, "pods": {}}, update, {}, pods=build_lookup(*PODS)[0])
    return explainer.explain(ExplainedRequest(client="10.0.0.1", service="dns.shop", port=port))
