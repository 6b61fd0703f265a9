"""Routers and updates that are refused, and routes that stay closed without their guards."""

import json
from typing import Any

import pytest

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import (
    HttpBranch,
    HttpOrder,
    HttpRouter,
    HttpRule,
    HttpRules,
    Middleware,
    Part,
    Section,
    Service,
    StreamRouter,
)
from maesh_core.model.matches import HttpMatch
from maesh_core.model.messages import Update, parse_update, render_update
from maesh_core.proxy.routing.wanted_entrypoint import WantedEntrypoint

from .recording_proxy import BASE, Proxy, Stamp, router, service, stamp


@pytest.mark.parametrize(
    ("middleware", "reason"),
    [
        (Middleware(kind="gone"), "middleware gone is not loaded by this proxy"),
        (stamp("x"), "middleware stamp has invalid settings"),
        (Middleware(kind="stamp", settings={"other": 1}), "middleware stamp has invalid settings"),
        (stamp(13), "middleware stamp could not be built"),
    ],
)
def test_routers_of_an_unavailable_middleware_answer_503(middleware: Middleware, reason: str) -> None:
    proxy = Proxy()
    section = Section(
        routers={"bad": router(middlewares=("m",)), "good": router()},
        services={"s": service()},
        middlewares={"m": middleware},
    )
    stream = StreamRouter(entrypoint=10000, service="s", middlewares=("m",))
    tcp = Section(routers={"t": stream}, services={"s": service()}, middlewares={"m": middleware})
    proxy.apply(full=True, sections={"http": section, "tcp": tcp})
    bad = proxy.table.routers["bad"]
    assert (bad.service, bad.status, bad.middlewares, bad.hosts) == (None, 503, (), ("a.b.maesh",))
    assert bad.reason == reason
    assert proxy.table.routers["good"] == router()
    assert proxy.tcp.tables[-1].routers == {}
    assert set(proxy.configuration.refused) == {"http/routers/bad", "tcp/routers/t"}
    assert WantedEntrypoint("TCP", 10000, "tcp") in proxy.configuration.list_entrypoints()


def test_a_refused_router_is_accepted_when_its_references_exist() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": Section(routers={"r": router(middlewares=("m",))})})
    assert proxy.configuration.refused == {"http/routers/r": "service s is not in the configuration"}
    proxy.apply(sections={"http": Section(services={"s": service()})})
    assert proxy.configuration.refused == {"http/routers/r": "middleware m is not in the configuration"}
    proxy.apply(sections={"http": Section(middlewares={"m": stamp(1)})})
    assert proxy.configuration.refused == {}
    assert proxy.table.routers["r"].service == "s"
    proxy.apply(removed=("http/services/s",))
    assert proxy.table.routers["r"].status == 503


def test_a_router_with_an_unsupported_scheme_is_refused() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": Section(routers={"r": router()}, services={"s": Service(scheme="h3")})})
    assert proxy.configuration.refused == {"http/routers/r": "scheme h3 is not supported by this proxy"}
    proxy.apply(sections={"http": Section(services={"s": Service()})})
    assert proxy.configuration.refused == {}


def test_a_protocol_without_tls_refuses_services_that_need_it() -> None:
    proxy = Proxy()
    proxy.add_handler("udp", "UDP")
    section = Section(routers={"r": StreamRouter(entrypoint=1, service="s")}, services={"s": Service(scheme="tls")})
    proxy.apply(full=True, sections={"udp": section})
    assert proxy.configuration.refused == {"udp/routers/r": "scheme tls is not supported by this proxy"}


def test_a_scheme_that_tcp_does_not_have_is_refused_and_never_carried_in_clear() -> None:
    proxy = Proxy()
    for scheme, refused in (("tls", {}), ("tls2", {"tcp/routers/r": "scheme tls2 is not supported by this proxy"})):
        stream = StreamRouter(entrypoint=1, service="s")
        section = Section(routers={"r": stream}, services={"s": Service(scheme=scheme)})
        proxy.apply(full=True, sections={"tcp": section})
        assert proxy.configuration.refused == refused
        assert proxy.tcp.tables[-1].routers == ({} if refused else {"r": stream})


def test_a_router_with_an_unknown_load_balancer_is_refused_until_it_has_another() -> None:
    proxy = Proxy()
    odd, known = (Service(load_balancer=kind) for kind in ("fastest", "least-request"))
    proxy.apply(full=True, sections={"http": Section(routers={"r": router()}, services={"s": odd})})
    assert proxy.configuration.refused == {"http/routers/r": "load balancer fastest is not loaded by this proxy"}
    proxy.apply(full=False, sections={"http": Section(services={"s": known})})
    assert proxy.configuration.refused == {}


def test_routers_of_a_protocol_that_is_not_loaded_are_refused_by_name() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"udp": Section(routers={"n/dns:53": {"entrypoint": 15000, "service": "s"}})})
    assert proxy.configuration.refused == {"udp/routers/n/dns:53": "protocol udp is not loaded by this proxy"}
    proxy.apply(removed=("udp/routers/n/dns:53",))
    assert proxy.configuration.refused == {}


def test_exception_texts_are_shown_to_operators_but_not_to_clients() -> None:
    proxy = Proxy()
    odd = Middleware(kind="stamp", settings={"value": "x"})
    section = Section(
        routers={"raised": router(middlewares=("m",)), "settings": router(middlewares=("o",))},
        services={"s": service()},
        middlewares={"m": stamp(13), "o": odd},
    )
    proxy.apply(full=True, sections={"http": section})
    assert proxy.configuration.refused == {
        "http/routers/raised": "middleware stamp could not be built: RuntimeError: unlucky",
        "http/routers/settings": ("middleware stamp has invalid settings: Expected `int`, got `str` - at `$.value`"),
    }
    assert {each.reason for each in proxy.table.routers.values()} == {
        "middleware stamp could not be built",
        "middleware stamp has invalid settings",
    }


class Misspelt:
    def on_requst(self, exchange: Any) -> None:
        pass


class OnlyRequests:
    def on_request(self, exchange: Any) -> None:
        pass


class OnlyConnections:
    on_request = None

    def on_connect(self, connection: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("type_", "carried", "word"),
    [
        (Misspelt, set(), "did you mean on_request?"),
        (object, set(), "none of the methods"),
        (OnlyRequests, {"http"}, "has no on_connect"),
        (OnlyConnections, {"tcp"}, "no method that is called for a request"),
        (Stamp, {"http", "tcp"}, ""),
    ],
)
def test_a_route_that_a_middleware_cannot_guard_is_closed(type_: type, carried: set[str], word: str) -> None:
    proxy = Proxy()
    proxy.factory.build_middleware = lambda settings, service: type_()
    stream = StreamRouter(entrypoint=10000, service="s", middlewares=("n/s/stamp",))
    tcp = Section(routers={"t": stream}, services=BASE.services, middlewares=BASE.middlewares)
    proxy.apply(full=True, sections={"http": BASE, "tcp": tcp})
    assert (proxy.table.routers["r"].service == "s") is ("http" in carried)
    assert bool(proxy.tcp.tables[-1].routers) is ("tcp" in carried)
    assert len(proxy.configuration.refused) == 2 - len(carried)
    assert all(word in reason for reason in proxy.configuration.refused.values())


@pytest.mark.parametrize("made_with", [(), ("smi",), ("acl",), ("forward-auth",)])
def test_missing_guards_are_reported_by_name(made_with: tuple[str, ...]) -> None:
    proxy = Proxy(guards=("forward-auth", "acl"))
    proxy.apply(full=True, sections={"http": BASE}, plugins=made_with)
    missing = "forward-auth" if "acl" in made_with else "acl"
    refused = proxy.table.routers["r"]
    assert (refused.service, refused.status) == (None, 403)
    assert refused.reason == f"the configuration was made without plugin {missing}, which this proxy enforces"
    proxy.apply(plugins=("acl", "forward-auth", "smi"))
    assert proxy.table == BASE


def test_a_document_without_a_list_of_guards_counts_as_made_without_any() -> None:
    proxy = Proxy(guards=("acl",))
    document = json.loads(render_update(Update(revision="e.1", full=True, sections={"http": BASE}, plugins=("acl",))))
    del document["plugins"]
    update = parse_update(json.dumps(document).encode(), proxy.configuration.get_router_types())
    proxy.configuration.apply_update(update, since=None)
    assert proxy.table.routers["r"].status == 403


def test_routes_of_a_guard_that_is_not_loaded_stay_closed() -> None:
    proxy = Proxy()
    middlewares = {"n/s/acl": Middleware(kind="acl")}
    section = Section(
        routers={"r": router(middlewares=("n/s/acl",))}, services={"s": service()}, middlewares=middlewares
    )
    stream = StreamRouter(entrypoint=10000, service="s", middlewares=("n/s/acl",))
    tcp = Section(routers={"t": stream}, services={"s": service()}, middlewares=middlewares)
    proxy.apply(full=True, sections={"http": section, "tcp": tcp}, plugins=("acl",))
    assert (proxy.table.routers["r"].service, proxy.table.routers["r"].status) == (None, 503)
    assert proxy.tcp.tables[-1].routers == {}


def test_a_proxy_that_enforces_acl_answers_403_to_a_configuration_made_without_it() -> None:
    proxy = Proxy(guards=("acl",))
    tcp = Section(routers={"t": StreamRouter(entrypoint=10000, service="s")}, services={"s": service()})
    proxy.apply(full=True, sections={"http": BASE, "tcp": tcp})
    assert (proxy.table.routers["r"].status, proxy.table.routers["r"].service) == (403, None)
    assert proxy.tcp.tables[-1].routers == {}
    assert len(proxy.configuration.refused) == 2


def test_the_403_of_a_proxy_with_acl_depends_on_the_plugin_of_the_controller() -> None:
    proxy = Proxy(guards=("acl",))
    proxy.apply(full=True, sections={"http": BASE})
    proxy.apply(plugins=("acl",))
    assert proxy.table == BASE
    assert proxy.http.compiled[-1][2] is None
    proxy.apply(sections={"http": Section(routers={"q": router()})})
    assert {r.status for r in proxy.table.routers.values()} == {403}
    assert len(proxy.configuration.refused) == 2


def test_a_handler_that_raises_refuses_the_update_for_all_protocols() -> None:
    proxy = Proxy()
    proxy.apply(full=True, sections={"http": BASE})
    proxy.tcp.error = ValueError("no")
    with pytest.raises(UpdateRejectedError, match="protocol tcp refused it: ValueError: no"):
        proxy.apply(full=True, sections={"tcp": Section(services={"s": service()})})
    assert proxy.table == BASE
    assert proxy.configuration.revision == "e.1"
    proxy.tcp.error = None
    proxy.apply(sections={"http": Section(services={"s": service(1)})})
    assert proxy.table.routers == BASE.routers


def encrypted(mode: str) -> Section:
    return Section(routers={"r": StreamRouter(entrypoint=10000, service="s")}, services={"s": Service(encryption=mode)})


def test_a_protocol_whose_traffic_is_never_encrypted_has_no_strict_services() -> None:
    proxy = Proxy()
    proxy.add_handler("udp", "UDP")
    text = "encryption is required, but the traffic of this protocol is not encrypted"
    proxy.apply(full=True, sections={"udp": encrypted("strict"), "tcp": encrypted("strict")})
    assert proxy.configuration.refused == {"udp/routers/r": text}
    proxy.apply(sections={"udp": Section(services={"s": Service(encryption="permissive")})})
    assert proxy.configuration.refused == {}
    proxy.apply(sections={"udp": Section(services={"s": Service(encryption="strict")})})
    assert proxy.configuration.refused == {"udp/routers/r": text}


def test_an_unknown_mode_of_encryption_closes_the_service() -> None:
    proxy = Proxy()
    section = Section(routers={"r": router()}, services={"s": Service(encryption="best")})
    proxy.apply(full=True, sections={"http": section})
    assert proxy.configuration.refused == {"http/routers/r": "encryption best is not supported by this proxy"}
    assert proxy.table.routers["r"].status == 503


def rules(*found: HttpRule, match: HttpMatch | None = None) -> HttpRouter:
    """Build a router whose rules have the same match."""
    order = tuple(HttpOrder(rule=index, match=match or HttpMatch()) for index, _ in enumerate(found))
    return HttpRouter(entrypoint=5000, hosts=("a.b.maesh",), rules=HttpRules(rules=found, order=order))


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (rules(HttpRule(service="s"), HttpRule(service="gone")), "service gone is not in the configuration"),
        (rules(HttpRule(service="s", middlewares=("gone",))), "middleware gone is not in the configuration"),
        (rules(HttpRule(service="d")), "middleware of-part is not in the configuration"),
        (
            rules(HttpRule(service="s"), match=HttpMatch(path_pattern="(")),
            "the matches of a rule are invalid: '(' is not a valid pattern: missing ): (",
        ),
        (
            HttpRouter(entrypoint=5000, hosts=(), consumers={"test": HttpRules(rules=(HttpRule(service="gone"),))}),
            "service gone is not in the configuration",
        ),
        (HttpRouter(entrypoint=5000, hosts=(), fallback="gone"), "service gone is not in the configuration"),
    ],
)
def test_a_router_is_refused_for_any_of_its_rules_and_closed_as_a_whole(refused: HttpRouter, reason: str) -> None:
    proxy = Proxy()
    divided = Service(parts=(Part(service="s", weight=1, middlewares=("of-part",)),))
    services = {"s": service(), "d": divided}
    proxy.apply(full=True, sections={"http": Section(routers={"r": refused}, services=services)})
    assert proxy.configuration.refused == {"http/routers/r": reason}
    closed = proxy.table.routers["r"]
    assert (closed.status, closed.rules, closed.consumers, closed.fallback) == (503, None, {}, None)


def test_a_router_without_rules_is_refused_if_a_part_has_middlewares_that_only_rules_call() -> None:
    divided = Service(parts=(Part(service="s", weight=1, middlewares=("n/s/stamp",)),))
    services, middlewares = {"s": service(), "divided": divided}, {"n/s/stamp": stamp(1)}
    branch = HttpBranch(service="divided", matches=(HttpMatch(paths=("/a",)),))
    routers = {
        "plain": router("divided"),
        "branched": router(branches=(branch,)),
        "ruled": rules(HttpRule(service="divided")),
    }
    stream = Section(
        routers={"t": StreamRouter(entrypoint=10000, service="divided")}, services=services, middlewares=middlewares
    )
    proxy = Proxy()
    section = Section(routers=routers, services=services, middlewares=middlewares)
    proxy.apply(full=True, sections={"http": section, "tcp": stream})
    reason = "part s has middlewares, but its router has no rules"
    assert proxy.configuration.refused == dict.fromkeys(
        ("http/routers/plain", "http/routers/branched", "tcp/routers/t"), reason
    )
    assert proxy.table.routers["ruled"].rules is not None
    assert proxy.table.routers["plain"].status == 503


def test_a_router_is_judged_again_when_a_middleware_of_a_rule_or_of_a_part_changes() -> None:
    proxy = Proxy()
    divided = Service(parts=(Part(service="s", weight=1, middlewares=("p",)),))
    router = rules(HttpRule(service="d", middlewares=("m",)))
    section = Section(
        routers={"r": router}, services={"s": service(), "d": divided}, middlewares={"m": stamp(1), "p": stamp(1)}
    )
    proxy.apply(full=True, sections={"http": section})
    assert proxy.configuration.refused == {}
    for key in ("m", "p"):
        proxy.apply(sections={"http": Section(middlewares={key: stamp(13)})})
        assert proxy.configuration.refused == {
            "http/routers/r": "middleware stamp could not be built: RuntimeError: unlucky"
        }
        proxy.apply(sections={"http": Section(middlewares={key: stamp(2)})})
        assert proxy.configuration.refused == {}
