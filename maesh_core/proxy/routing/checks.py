"""Checks that the values of an update are plausible.

Takes a parsed update; raises UpdateRejectedError for values that a controller never sends. It checks only the update
itself, so its cost depends on the size of the change. It does not check references between objects.
"""

import re
import socket
from collections.abc import Collection, Iterable
from typing import Any

from maesh_core.errors import UpdateRejectedError
from maesh_core.model.configuration import (
    HttpRouter,
    HttpRules,
    Middleware,
    NamedServer,
    Section,
    Server,
    Service,
    StreamRouter,
    list_rule_sets,
)
from maesh_core.model.keys import is_label, is_subdomain
from maesh_core.model.messages import Update
from maesh_core.model.optional_sections import PROTOCOL_NOUNS, SECTION_FORMS
from maesh_core.model.pod_names import is_pod_name
from maesh_core.model.transport import TransportSection, is_node_name

KEY_LIMIT_CHARACTERS = 1024
"""A Kubernetes namespace and name have at most 253 characters each."""
REVISION_LIMIT_CHARACTERS = 256
"""The revision is sent in the target of the next pull."""
REASON_LIMIT_CHARACTERS = 4096
"""The reason is sent in a response header."""
WEIGHT_LIMIT = 2**31 - 1
GRPC_STATUS_LIMIT = 16

ACCOUNT_LIMIT_CHARACTERS = 512
"""A service account and its namespace have at most 253 and 63 characters."""


_match_host = re.compile(r"[A-Za-z0-9_.:\[\]-]{1,255}").fullmatch
_match_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}").fullmatch


def check_update(update: Update) -> None:
    """Raise UpdateRejectedError if the update contains an invalid value, except for names of pods."""
    if not 0 < len(update.revision) <= REVISION_LIMIT_CHARACTERS or not _is_printable_ascii(update.revision):
        raise UpdateRejectedError("the revision is empty, too long or not printable ASCII")
    if update.full and update.removed:
        raise UpdateRejectedError("a full configuration must not remove objects")
    for path in update.removed:
        parse_wire_path(path)
    for protocol, section in update.sections.items():
        if not _match_name(protocol):
            raise UpdateRejectedError(f"{protocol[:64]!r} is not a protocol name")
        _check_section(protocol, section)
    if update.transport is not None:
        _check_transport(update.transport)
    for address, namespace in (update.clients or {}).items():
        if not _is_ip_address(address) or not is_label(namespace):
            raise UpdateRejectedError(f"client {address[:64]!r}: no namespace of an address: {namespace[:64]!r}")


def check_pod_name(address: str, name: str) -> None:
    """Raise UpdateRejectedError if an entry of the section `pods` is invalid."""
    if not _is_ip_address(address):
        raise UpdateRejectedError(f"a pod: {address[:64]!r} is not an IP address")
    if not is_pod_name(name):
        raise UpdateRejectedError(f"the pod at {address}: {name[:64]!r} is not the name of a pod")


def parse_wire_path(path: str) -> tuple[str, str, str]:
    """Split the wire path of an object into protocol, noun and key. Raises UpdateRejectedError."""
    protocol, _, rest = path.partition("/")
    noun, _, key = rest.partition("/")
    form = SECTION_FORMS.get(protocol)
    nouns: Collection[str] = PROTOCOL_NOUNS if form is None else form.nouns
    if noun not in nouns or not _match_name(protocol):
        raise UpdateRejectedError(f"{path[:64]!r} is not the path of an object")
    _check_key(path, key)
    return protocol, noun, key


def _check_section(protocol: str, section: Section) -> None:
    for key, router in section.routers.items():
        _check_key(f"{protocol} router", key)
        if not isinstance(router, dict):  # a dict belongs to a protocol that is not loaded, and is not checked
            _check_router(f"{protocol} router {key}", router)
    for key, service in section.services.items():
        _check_key(f"{protocol} service", key)
        _check_service(f"{protocol} service {key}", service)
    for key, middleware in section.middlewares.items():
        _check_key(f"{protocol} middleware", key)
        _check_middleware(f"{protocol} middleware {key}", middleware)


def _check_transport(section: TransportSection) -> None:
    for name in section.nodes:
        if not is_node_name(name):
            raise UpdateRejectedError(f"{name[:64]!r} is not the name of a node")
    for address, client in section.clients.items():
        if not _is_ip_address(address):
            raise UpdateRejectedError(f"a client: {address[:64]!r} is not an IP address")
        if client.node and not is_node_name(client.node):
            raise UpdateRejectedError(f"client {address}: {client.node[:64]!r} is not the name of a node")
        if not 0 < len(client.account) <= ACCOUNT_LIMIT_CHARACTERS or not _is_printable_ascii(client.account):
            raise UpdateRejectedError(f"client {address}: {client.account[:64]!r} is not a service account")


def _check_key(origin: str, key: str) -> None:
    if not 0 < len(key) <= KEY_LIMIT_CHARACTERS or not key.isprintable():
        raise UpdateRejectedError(f"{origin[:64]!r}: a key is empty, too long or not printable")


def _check_router(origin: str, router: Any) -> None:
    _check_port(origin, router.entrypoint)
    for namespace, service in router.consumers.items() if isinstance(router, StreamRouter) else ():
        if not is_label(namespace):
            raise UpdateRejectedError(f"{origin}: {namespace[:64]!r} is not a namespace")
        _check_key(f"{origin}: a service", service)
    if not isinstance(router, HttpRouter):
        return
    _check_hosts(origin, router.hosts)
    for branch in router.branches:
        _check_key(f"{origin}: a branch", branch.service)
    for rules in list_rule_sets(router):
        _check_rules(origin, rules)
    for key in (*router.side_services, *(() if router.fallback is None else (router.fallback,))):
        _check_key(f"{origin}: a service", key)
    if router.own_entrypoint:
        _check_port(origin, router.own_entrypoint)
    if not 400 <= router.status <= 599:
        raise UpdateRejectedError(f"{origin}: {router.status} is not an error status")
    if len(router.reason) > REASON_LIMIT_CHARACTERS:
        raise UpdateRejectedError(f"{origin}: the reason is too long")


def _check_rules(origin: str, rules: HttpRules) -> None:
    if not all(0 <= each.rule < len(rules.rules) for each in rules.order):
        raise UpdateRejectedError(f"{origin}: a match belongs to no rule")
    if not 400 <= rules.status <= 599 or len(rules.reason) > REASON_LIMIT_CHARACTERS:
        raise UpdateRejectedError(f"{origin}: the answer of its rules is invalid")
    for rule in rules.rules:
        for key in (*([rule.service] if rule.service else []), *rule.middlewares):
            _check_key(f"{origin}: a rule", key)


def _check_hosts(origin: str, hosts: Iterable[str]) -> None:
    for host in hosts:
        if not _match_host(host):
            raise UpdateRejectedError(f"{origin}: {host[:64]!r} is not a host")


def _check_service(origin: str, service: Service) -> None:
    for server in service.servers:
        _check_server(origin, server)
    for named in service.names:
        _check_named(origin, named)
    for part in service.parts:
        _check_key(f"{origin}: a part", part.service)
        if not 0 <= part.weight <= WEIGHT_LIMIT:
            raise UpdateRejectedError(f"{origin}: the weight of a part is out of range")
    answer = service.answer
    if answer is not None and (not 400 <= answer.status <= 599 or len(answer.reason) > REASON_LIMIT_CHARACTERS):
        raise UpdateRejectedError(f"{origin}: its answer is invalid")
    if answer is not None and answer.grpc_status is not None and not 0 <= answer.grpc_status <= GRPC_STATUS_LIMIT:
        raise UpdateRejectedError(f"{origin}: its gRPC status is invalid")
    if service.parts and (service.servers or service.names):
        raise UpdateRejectedError(f"{origin}: it has both servers and parts")
    if not all(map(_match_name, (service.scheme, service.load_balancer, service.encryption))):
        raise UpdateRejectedError(f"{origin}: the name of the scheme, load balancer or encryption is invalid")


def _check_server(origin: str, server: Server) -> None:
    if not _is_ip_address(server.address):
        raise UpdateRejectedError(f"{origin}: {server.address[:64]!r} is not an IP address")
    _check_port(origin, server.port)
    if not 0 <= server.weight <= WEIGHT_LIMIT:
        raise UpdateRejectedError(f"{origin}: a weight is out of range")
    if server.tls_name and not _match_host(server.tls_name):
        raise UpdateRejectedError(f"{origin}: {server.tls_name[:64]!r} is not a host")
    if server.name and not is_subdomain(server.name):
        raise UpdateRejectedError(f"{origin}: {server.name[:64]!r} is not a DNS name")
    if server.authority and not _match_host(server.authority):
        raise UpdateRejectedError(f"{origin}: {server.authority[:64]!r} is not a host")
    if server.node and not is_node_name(server.node):
        raise UpdateRejectedError(f"{origin}: {server.node[:64]!r} is not the name of a node")


def _check_named(origin: str, named: NamedServer) -> None:
    if not is_subdomain(named.name):
        raise UpdateRejectedError(f"{origin}: {named.name[:64]!r} is not a DNS name")
    if named.host and not _match_host(named.host):
        raise UpdateRejectedError(f"{origin}: {named.host[:64]!r} is not a host")
    if named.tls_name and not is_subdomain(named.tls_name):
        raise UpdateRejectedError(f"{origin}: {named.tls_name[:64]!r} is not a DNS name")
    _check_port(origin, named.port)


def _check_middleware(origin: str, middleware: Middleware) -> None:
    if not _match_name(middleware.kind):
        raise UpdateRejectedError(f"{origin}: {middleware.kind[:64]!r} is not a middleware kind")


def _check_port(origin: str, port: int) -> None:
    if not 1 <= port <= 65535:
        raise UpdateRejectedError(f"{origin}: a port is out of range")


def _is_ip_address(text: str) -> bool:
    """Return whether the text is an IP address; `inet_pton` takes a tenth of the time of `ipaddress`."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):  # ValueError: the text contains a NUL
        return False
    return True


def _is_printable_ascii(text: str) -> bool:
    return text.isascii() and text.isprintable()
