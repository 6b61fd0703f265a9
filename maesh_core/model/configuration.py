"""The configuration of proxies, in Traefik's terms: routers, services with their servers, middlewares.

Frozen structs that are encoded as the JSON of `/api/configuration/current`. Objects refer to each other by key
(model/keys.py), within their protocol's section. Servers are separate from routers, so that a changed pod changes
servers only.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from maesh_core.model.matches import HttpMatch
from maesh_core.model.schemes import DEFAULT_SCHEME
from maesh_core.model.topology import RuleProblem

ROUND_ROBIN = "round-robin"
LEAST_REQUEST = "least-request"
LEAST_CONNECTIONS = "least-connections"
"""For TCP services: like `least-request`, with connections instead of requests."""


class ConfigurationObject(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of all objects; `revision` is the number of the last revision that changed the object, or 0."""

    revision: int = 0


class HttpBranch(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Requests that a router sends to another service: those that match any of `matches`; without matches, all."""

    service: str
    matches: tuple[HttpMatch, ...] = ()


class HttpRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What happens to requests that match a rule: all its middlewares, outermost first, then a service.

    `service` empty closes the rule. `name` is the rule's own name, if its route names it.
    """

    service: str = ""
    middlewares: tuple[str, ...] = ()
    name: str = ""


class HttpOrder(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A match of the rule at index `rule`."""

    rule: int
    match: HttpMatch = HttpMatch()


class HttpRules(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Rules of a router: the first of `order` that a request matches decides.

    A request that matches none is answered with `status` and `reason`.
    """

    rules: tuple[HttpRule, ...] = ()
    order: tuple[HttpOrder, ...] = ()
    status: int = 404
    reason: str = ""


class HttpRouter(ConfigurationObject, frozen=True):
    """Sends requests for `hosts` on an entrypoint through middlewares, outermost first, to a service.

    If two routers claim one host on one entrypoint, the one with the lower key gets it. `service` None closes the
    hosts: the answer is `status`, with `reason`. The first of `branches` that a request matches gets it, instead of
    `service`.

    A router with `rules` or `consumers` has no `service`: proxies that do not know these fields then close it, with
    `status` and `reason`. `consumers` has the rules for clients of a namespace, in place of `rules`. Requests of other
    clients go to `fallback` if there are no `rules`. On `own_entrypoint`, every host is this router's; 0 means none.
    `side_services` get copies of requests.
    """

    entrypoint: int
    hosts: tuple[str, ...]
    service: str | None = None
    middlewares: tuple[str, ...] = ()
    status: int = 404
    reason: str = ""
    branches: tuple[HttpBranch, ...] = ()
    rules: HttpRules | None = None
    consumers: Mapping[str, HttpRules] = {}
    fallback: str | None = None
    own_entrypoint: int = 0
    side_services: tuple[str, ...] = ()


class StreamRouter(ConfigurationObject, frozen=True):
    """Sends the connections (TCP) or sessions (UDP) of an entrypoint to a service.

    `consumers` has the services for clients of a namespace, in place of `service`.
    """

    entrypoint: int
    service: str
    middlewares: tuple[str, ...] = ()
    consumers: Mapping[str, str] = {}


def list_targets(router: Any) -> tuple[str, ...]:
    """List the services that a router of any protocol refers to; a plugin's own struct may refer to none."""
    service = getattr(router, "service", None)
    branches: tuple[HttpBranch, ...] = getattr(router, "branches", ())
    own = () if service is None else (service,)
    if isinstance(router, HttpRouter) and has_rules(router):
        own = tuple(dict.fromkeys((*own, *_list_rule_targets(router))))
    elif isinstance(router, StreamRouter) and router.consumers:
        own = tuple(dict.fromkeys((*own, *router.consumers.values())))
    return (*own, *(branch.service for branch in branches)) if branches else own


def has_rules(router: HttpRouter) -> bool:
    """Return whether a router uses rules, a fallback or side services, in place of or beside its service."""
    return chooses_by_rules(router) or bool(router.side_services)


def chooses_by_rules(router: HttpRouter) -> bool:
    """Return whether rules or a fallback decide about a router's requests, in place of `service` and `branches`."""
    return router.rules is not None or bool(router.consumers) or router.fallback is not None


def list_chains(router: Any) -> tuple[tuple[str, ...], ...]:
    """List the middlewares of a router of any protocol, and those of each of its rules."""
    own: tuple[str, ...] = getattr(router, "middlewares", ())
    if not isinstance(router, HttpRouter):
        return (own,)
    return (own, *(rule.middlewares for rules in list_rule_sets(router) for rule in rules.rules))


def list_rule_sets(router: HttpRouter) -> tuple[HttpRules, ...]:
    """List the rules of a router, those of consumers last."""
    return (*(() if router.rules is None else (router.rules,)), *router.consumers.values())


def _list_rule_targets(router: HttpRouter) -> Iterator[str]:
    for rules in list_rule_sets(router):
        yield from (rule.service for rule in rules.rules if rule.service)
    if router.fallback is not None:
        yield router.fallback
    yield from router.side_services


class Server(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """An address to send to. Its share of the traffic is `weight` among the weights of its service's servers.

    `tls_name` is the name that the server's certificate may have besides the address; only https and tls use it. `node`
    is the name of the server's node; empty if it is unknown, or no transport is enabled.

    Proxies set the last three fields for the servers of a `NamedServer`. `name` is its name: what is counted of the
    server is shown for the name, and a certificate must be for it, as the address is from DNS. `authority` is the Host
    to send; empty for the client's.
    """

    address: str
    port: int
    weight: int = 1
    tls_name: str = ""
    node: str = ""
    name: str = ""
    authority: str = ""
    hides_client: bool = False


class NamedServer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """Servers outside of the mesh with a DNS name, which each proxy resolves (model/names.py).

    The addresses of a name share the traffic that one server of weight 1 gets. `host` is the Host to send; empty means
    the client's. With `hides_client`, the servers get no fields that identify the client. `tls_name` is the name that
    their certificates must have; empty means `name`.
    """

    name: str
    port: int
    host: str = ""
    hides_client: bool = False
    tls_name: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Another service of the section, and its share of the traffic among the weights of all parts.

    A part of weight 0 gets only what a middleware sends to it (`choose_backend`).
    `middlewares` are those of a part with filters of its own, with the rule's, outermost first; empty means the rule's.
    """

    service: str
    weight: int
    middlewares: tuple[str, ...] = ()


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """The response of a service that cannot be reached; `grpc_status` None means the one that fits `status`."""

    status: int
    reason: str = ""
    grpc_status: int | None = None


class Service(ConfigurationObject, frozen=True, gc=False):
    """The servers that a router chooses among. `scheme` is one of HTTP, or `tls` for TCP; other protocols have none.

    A service with `parts` has no servers of its own: the traffic is divided among these services, which have no parts.

    The plugin that owns a load balancer decodes its settings; the core's own have none. `encryption` is the mode in
    which its servers on other nodes are reached: `off`, `permissive` or `strict`.
    """

    servers: tuple[Server, ...] = ()
    names: tuple[NamedServer, ...] = ()
    """Servers that are known by name. A proxy that cannot resolve them has no servers for the service."""
    scheme: str = DEFAULT_SCHEME
    load_balancer: str = ROUND_ROBIN
    load_balancer_settings: Mapping[str, Any] = {}
    parts: tuple[Part, ...] = ()
    encryption: str = "off"
    answer: Answer | None = None
    """The response in place of one of a server; such a service has no servers."""


class Middleware(ConfigurationObject, frozen=True):
    """A middleware: the plugin that owns `kind` decodes `settings`."""

    kind: str
    settings: Mapping[str, Any] = {}


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One protocol's part of a configuration. Routers are `HttpRouter` for http, `StreamRouter` for tcp and udp."""

    routers: Mapping[str, Any] = {}
    services: Mapping[str, Service] = {}
    middlewares: Mapping[str, Middleware] = {}


class PortStatus(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """One service port in `/api/services`; `entrypoint` is the port on the proxy, None if there is none.

    `unserved` explains why a port with an entrypoint has no ready server. `scheme` is how its HTTP servers are called,
    or `tls` for TCP servers that get TLS. `app_protocol` is the port's `appProtocol`.
    """

    name: str
    port: int
    protocol: str
    entrypoint: int | None = None
    unserved: str = ""
    scheme: str = DEFAULT_SCHEME
    app_protocol: str = ""
    traffic_type: str = ""
    """The traffic type of the port, if it differs from the service's."""
    has_own_entrypoint: bool = False
    """Whether no other service uses the entrypoint, so that every host on it is the service's."""


class ServiceConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one service: a section for each protocol, and messages for the service's owner."""

    sections: Mapping[str, Section] = {}
    ports: tuple[PortStatus, ...] = ()
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    encryption: str = ""
    """The mode of the service, if there is a transport."""
    rule_problems: tuple[RuleProblem, ...] = ()
    """What is wrong with filters of rules: each rule answers with an error."""
