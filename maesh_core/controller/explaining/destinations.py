"""The services that may get an explained request, with their shares and servers.

Takes the services of a configuration and the key of the one that a request is routed to; returns destinations.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from maesh_core.controller.explaining.rules import ChosenRule
from maesh_core.model.addresses import join_port
from maesh_core.model.configuration import Middleware, Service
from maesh_core.model.schemes import TLS
from maesh_core.model.transport import OFF

_NOT_READY = 503
_NO_SERVER = "no server is ready"


class Destination(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A service that may get the request, its share of such requests, and its servers.

    `scheme` is how HTTP servers are called, `tls` for streams that the proxy encrypts, and empty for other streams.
    `scheme_source` is the annotation or the `appProtocol` that selects it, empty for the default. `encryption` is the
    mode of connections to its servers, empty if that is `off`. `status` is that of the mesh's response to this share,
    with `reason`; 0 if a server gets it.
    """

    service: str
    share: float
    servers: tuple[str, ...]
    scheme: str = ""
    scheme_source: str = ""
    encryption: str = ""
    status: int = 0
    reason: str = ""


def list_destinations(
    services: Mapping[str, Service], key: str, allowed: Sequence[tuple[str, int]] | None
) -> list[Destination]:
    """List the services that may get a request, with their shares; `allowed` are the only servers, None for all."""
    service = services[key]
    total = sum(part.weight for part in service.parts)
    found = [(part.service, part.weight / total) for part in service.parts] or [(key, 1.0)]
    return [
        Destination(
            service=name.rpartition("/")[2] if service.parts else key,
            share=round(share, 4),
            servers=_list_servers(services[name], allowed),
            encryption="" if services[name].encryption == OFF else services[name].encryption,
        )
        for name, share in found
    ]


def list_rule_destinations(
    services: Mapping[str, Service],
    chosen: ChosenRule,
    *,
    port_key: str,
    allowed: Sequence[tuple[str, int]] | None,
    is_http: bool = True,
) -> list[Destination]:
    """List the services that may get a request of a rule, as `namespace/name:port`, and the mesh's own responses.

    A stream has no response, and no scheme but `tls`.
    """
    service = services[chosen.service]
    total = sum(part.weight for part in service.parts)
    shares = [(part.service, part.weight / total) for part in service.parts if total] or [(chosen.service, 1.0)]
    found = [
        _describe_target(
            services[key], name=_name_backend(key, port_key, services[key], chosen), share=share, allowed=allowed
        )
        for key, share in shares
    ]
    return found if is_http else [_describe_stream(each) for each in found]


def _describe_stream(found: Destination) -> Destination:
    return msgspec.structs.replace(found, scheme=TLS if found.scheme == TLS else "", status=0)


def describe_part_filters(
    services: Mapping[str, Service], chosen: ChosenRule, middlewares: Mapping[str, Middleware]
) -> Iterator[str]:
    """Describe the filters that only a backend of a rule has."""
    for part in services[chosen.service].parts:
        own = [key for key in part.middlewares if key not in chosen.middlewares]
        if own:
            kinds = ", ".join(middlewares[key].kind for key in own)
            yield f"{part.service.rpartition('/backend/')[2]} has filters of its own: {kinds}"


def _describe_target(
    service: Service, *, name: str, share: float, allowed: Sequence[tuple[str, int]] | None
) -> Destination:
    servers = _list_servers(service, allowed)
    answer = service.answer
    status, reason = (_NOT_READY, _NO_SERVER) if answer is None else (answer.status, answer.reason)
    return Destination(
        service=name,
        share=round(share, 4),
        servers=servers,
        scheme=service.scheme if servers else "",
        encryption="" if service.encryption == OFF or not servers else service.encryption,
        status=0 if servers else status,
        reason="" if servers else reason,
    )


def _name_backend(key: str, port_key: str, service: Service, chosen: ChosenRule) -> str:
    """Name a backend by its service port, and invalid ones as the rule does; the port itself keeps its key."""
    prefix = f"{port_key}/backend/"
    if key.startswith(prefix):
        return "/".join(key.removeprefix(prefix).split("/")[:2])
    failed = [
        f"{each.get('namespace')}/{each.get('service')}"
        for each in chosen.document.get("backends", ())
        if service.answer is not None and each.get("answer", {}).get("reason") == service.answer.reason
    ]
    return ", ".join(failed) or key


def _list_servers(service: Service, allowed: Sequence[tuple[str, int]] | None) -> tuple[str, ...]:
    found = tuple(
        join_port(each.address, each.port)
        for each in service.servers
        if each.weight and (allowed is None or (each.address, each.port) in allowed)
    )
    names = tuple(
        join_port(each.name, each.port)
        for each in service.names
        if allowed is None or (each.name, each.port) in allowed
    )
    return (*found, *names)
