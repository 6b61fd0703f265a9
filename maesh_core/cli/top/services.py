"""Selects, filters, sorts and judges services by their traffic. Pure.

Takes the services of a TrafficReport. A judgement is a severity, for sorting and colours, and a short text that says
what is wrong.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from enum import IntEnum

from maesh_core.cli.top.numbers import render_count
from maesh_core.errors import StartupError
from maesh_core.model.grpc_statuses import GRPC_SERVER_ERRORS, GRPC_STATUS_NAMES
from maesh_core.model.traffic import ServerTraffic, ServiceTraffic, Window
from maesh_core.model.transport import CLEAR, ENCRYPTED

BAD_SUCCESS = 0.95
"""Below this success a service is failing."""
WARN_SUCCESS = 0.995
"""Below this success a service is degraded, as in the dashboard."""
RETRIED_SHARE = 0.01
"""A few retries are normal: a server that was replaced causes some."""
REASONS_SHOWN = 2
SUGGESTIONS = 3

SORT_ORDER = ("health", "service", "rate", "success", "p50", "p95", "p99", "retries", "limited", "denied")
"""The columns to sort by, in the order in which the key `s` goes through them."""


class Severity(IntEnum):
    """How urgently a service needs attention."""

    GOOD = 0
    WARN = 1
    BAD = 2


def choose_window(service: ServiceTraffic, *, is_total: bool) -> Window:
    """Choose what was counted in the last minute, or since the start."""
    return service.total if is_total else service.last


def compute_rate(window: Window) -> float:
    """Compute the requests per second; of TCP and UDP, the connections or sessions."""
    if window.rate or not window.connections or window.seconds <= 0:
        return window.rate
    return window.connections / window.seconds


def has_paths(services: Iterable[ServiceTraffic]) -> bool:
    """Return whether any service has encryption, and had traffic since the start."""
    return any(service.total.paths for service in services)


def compute_encrypted(window: Window) -> float | None:
    """Compute the share that was encrypted of what went to other nodes; None if nothing did."""
    encrypted, clear = window.paths.get(ENCRYPTED, 0), window.paths.get(CLEAR, 0)
    return encrypted / (encrypted + clear) if encrypted + clear else None


def rate_success(success: float | None) -> Severity:
    """Rate a share of successful requests."""
    if success is None or success >= WARN_SUCCESS:
        return Severity.GOOD
    return Severity.BAD if success < BAD_SUCCESS else Severity.WARN


def rate_service(service: ServiceTraffic, window: Window) -> Severity:
    """Rate a service: errors and failing requests are bad; refusals, retries, and servers set aside are a warning."""
    if service.errors or rate_success(window.success) is Severity.BAD:
        return Severity.BAD
    aside = count_aside(service)
    if aside and aside == len(service.servers):
        return Severity.BAD
    is_retried = window.retries > RETRIED_SHARE * window.requests
    is_odd = aside or service.open_breakers or window.limited or window.denied or is_retried
    return Severity.WARN if is_odd else rate_success(window.success)


def count_aside(service: ServiceTraffic) -> int:
    """Count the servers that are set aside."""
    return sum(server.is_set_aside for server in service.servers)


def describe_trouble(service: ServiceTraffic, window: Window) -> str:
    """Describe what is wrong with a service, the cause first; empty if nothing is."""
    parts = list(service.errors[:1])
    aside = count_aside(service)
    if aside:
        parts.append(f"{aside} of {len(service.servers)} servers set aside")
    if service.open_breakers:
        parts.append(f"{service.open_breakers} open circuit breaker{'s' if service.open_breakers > 1 else ''}")
    reasons = sorted(window.reasons.items(), key=lambda each: (-each[1], each[0]))
    parts += [f"{render_count(count)} x {reason}" for reason, count in reasons[:REASONS_SHOWN]]
    failures = _describe_failures(window)
    if failures:
        server = find_failing_server(service)
        parts.append(f"{failures} from {server.pod or server.server}" if server else failures)
    return "; ".join(parts)


def _describe_failures(window: Window) -> str:
    """Describe the failed responses of servers, by status; empty if the mesh made all of them."""
    codes = {code: count for code, count in sorted(window.codes.items()) if code.startswith("5")}
    calls = {
        f"gRPC {GRPC_STATUS_NAMES[status]}": window.grpc[str(status)]
        for status in sorted(GRPC_SERVER_ERRORS)
        if str(status) in window.grpc
    }
    made_by_mesh = sum(window.reasons.values())
    return ", ".join(
        f"{render_count(count)} x {name}"
        for counts in (codes, calls)
        if sum(counts.values()) > made_by_mesh
        for name, count in counts.items()
    )


def find_failing_server(service: ServiceTraffic) -> ServerTraffic | None:
    """Find the server that failed in the last minute if it is the only one of several that did; None otherwise."""
    used = [server for server in service.servers if server.last.success is not None]
    failing = [server for server in used if rate_success(server.last.success) is Severity.BAD]
    return failing[0] if len(failing) == 1 and len(used) > 1 else None


def filter_services(services: Iterable[ServiceTraffic], text: str) -> list[ServiceTraffic]:
    """Keep the services whose key contains every word of the text, in any case."""
    words = text.lower().split()
    return [each for each in services if all(word in each.key.lower() for word in words)]


def sort_services(
    services: Iterable[ServiceTraffic], column: str, *, is_total: bool = False, is_reversed: bool = False
) -> list[ServiceTraffic]:
    """Sort by a column of SORT_ORDER: the largest or the worst first, equal ones by name."""
    rank = _RANKS[column]

    def order(service: ServiceTraffic) -> tuple[tuple[float, ...], str]:
        ranked = rank(service, choose_window(service, is_total=is_total))
        return tuple(-value for value in ranked), service.key

    return sorted(services, key=order, reverse=is_reversed)


def _rank_health(service: ServiceTraffic, window: Window) -> tuple[float, ...]:
    rate = compute_rate(window)
    return rate_service(service, window), rate * (1 - (1 if window.success is None else window.success)), rate


def _rank_success(service: ServiceTraffic, window: Window) -> tuple[float, ...]:
    """The lowest success first; services without requests are last."""
    del service
    return (-2.0,) if window.success is None else (-window.success,)


def _rank_duration(name: str) -> "Rank":
    def rank(service: ServiceTraffic, window: Window) -> tuple[float, ...]:
        del service
        value: float | None = getattr(window.total, name)
        return (-1.0,) if value is None else (value,)

    return rank


Rank = Callable[[ServiceTraffic, Window], tuple[float, ...]]
_RANKS: Mapping[str, Rank] = {
    "health": _rank_health,
    "service": lambda service, window: (),
    "rate": lambda service, window: (compute_rate(window),),
    "success": _rank_success,
    "p50": _rank_duration("p50"),
    "p95": _rank_duration("p95"),
    "p99": _rank_duration("p99"),
    "retries": lambda service, window: (window.retries,),
    "limited": lambda service, window: (window.limited,),
    "denied": lambda service, window: (window.denied,),
}


def select_services(services: Sequence[ServiceTraffic], text: str) -> list[ServiceTraffic]:
    """Select the ports of the service that a user named. Raises StartupError if there is none, or several services."""
    found = [each for each in services if text in _list_names(each)]
    if not found:
        close = _suggest_names(services, text)
        known = f"; did you mean {' or '.join(close)}?" if close else "; maesh top --once lists all services"
        raise StartupError(f"there is no service {text!r}{known}")
    owners = sorted({f"{each.namespace}/{each.name}" for each in found})
    if len(owners) > 1:
        raise StartupError(f"several services have the name {text!r}: {', '.join(owners)}")
    return found


def _suggest_names(services: Sequence[ServiceTraffic], text: str) -> list[str]:
    """Suggest similar names, the most similar one of each service."""
    owners = {name: (each.namespace, each.name) for each in services for name in _list_names(each)}
    close = get_close_matches(text, sorted(owners), max(1, len(owners)))
    first = {owners[name]: name for name in reversed(close)}
    return [name for name in close if first[owners[name]] == name][:SUGGESTIONS]


def _list_names(service: ServiceTraffic) -> tuple[str, ...]:
    """List what a user may write for a service port."""
    name, namespace = service.name, service.namespace
    names = (name, f"{name}.{namespace}", f"{namespace}/{name}", f"{name}@{namespace}", f"{name}.{namespace}.maesh")
    return (service.key, *names, *(f"{each}:{service.port}" for each in names))
