"""The configuration of proxies, in Traefik's terms: routers, services with their servers, middlewares.

Frozen structs that are encoded as the JSON of `/api/configuration/current`. Objects refer to each other by key
(model/keys.py), within their protocol's section. Servers are separate from routers, so that a changed pod changes
servers only.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from maesh_core.model.matches import HttpMatch
from maesh_core.model.schemes import DEFAULT_SCHEME

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


class HttpRouter(ConfigurationObject, frozen=True):
    """Sends requests for `hosts` on an entrypoint through middlewares, outermost first, to a service.

    If two routers claim one host on one entrypoint, the one with the lower key gets it. `service` None closes the
    hosts: the answer is `status`, with `reason`. The first of `branches` that a request matches gets it, instead of
    `service`.
    """

    entrypoint: int
    hosts: tuple[str, ...]
    service: str | None = None
    middlewares: tuple[str, ...] = ()
    status: int = 404
    reason: str = ""
    branches: tuple[HttpBranch, ...] = ()


class StreamRouter(ConfigurationObject, frozen=True):
    """Sends the connections (TCP) or sessions (UDP) of an entrypoint to a service."""

    entrypoint: int
    service: str
    middlewares: tuple[str, ...] = ()


def list_targets(router: Any) -> tuple[str, ...]:
    """List the services that a router of any protocol refers to; a plugin's own struct may refer to none."""
    service = getattr(router, "service", None)
    branches: tuple[HttpBranch, ...] = getattr(router, "branches", ())
    own = () if service is None else (service,)
    return (*own, *(branch.service for branch in branches)) if branches else own


class Server(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, gc=False):
    """An address to send to. Its share of the traffic is `weight` among the weights of its service's servers.

    `tls_name` is the name that the server's certificate may have besides the address; only https uses it.
    """

    address: str
    port: int
    weight: int = 1
    tls_name: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Another service of the section, and its share of the traffic among the weights of all parts."""

    service: str
    weight: int


class Service(ConfigurationObject, frozen=True, gc=False):
    """The servers that a router chooses among. Only HTTP uses `scheme`.

    A service with `parts` has no servers of its own: the traffic is divided among these services, which have no parts.

    The plugin that owns a load balancer decodes its settings; the core's own have none.
    """

    servers: tuple[Server, ...] = ()
    scheme: str = DEFAULT_SCHEME
    load_balancer: str = ROUND_ROBIN
    load_balancer_settings: Mapping[str, Any] = {}
    parts: tuple[Part, ...] = ()


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

    `unserved` explains why a port with an entrypoint has no ready server. `scheme` is how its HTTP servers are called;
    only HTTP uses it. `app_protocol` is the port's `appProtocol`.
    """

    name: str
    port: int
    protocol: str
    entrypoint: int | None = None
    unserved: str = ""
    scheme: str = DEFAULT_SCHEME
    app_protocol: str = ""


class ServiceConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """The configuration of one service: a section for each protocol, and messages for the service's owner."""

    sections: Mapping[str, Section] = {}
    ports: tuple[PortStatus, ...] = ()
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
