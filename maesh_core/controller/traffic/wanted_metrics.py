"""The metrics that a report is made of, and the check of their labels.

Everything that a proxy sends is untrusted: only known metrics are read, and a sample counts only if each of its labels
has a valid value. Services, servers and destinations must exist in the topology. Pure values.
"""

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import msgspec

from maesh_core.model.addresses import parse_address
from maesh_core.model.keys import cut_port_key
from maesh_core.model.metrics import OTHER
from maesh_core.model.transport import PATHS

REASON_LIMIT: Final = 200
"""Limit of characters of a reason; the mesh's own are shorter."""

REQUESTS: Final = "maesh_service_requests"
FAILURES: Final = "maesh_service_failures"
CALLS: Final = "maesh_service_grpc_responses"
ANSWERS: Final = "maesh_service_answers"
CUTS: Final = "maesh_service_cut_responses"
RETRIES: Final = "maesh_service_retries"
RECEIVED_BYTES: Final = "maesh_service_request_bytes"
SENT_BYTES: Final = "maesh_service_response_bytes"
DURATIONS: Final = "maesh_service_request_duration_seconds"
UPSTREAM_DURATIONS: Final = "maesh_service_upstream_duration_seconds"
BRANCHES: Final = "maesh_branch_requests"
BRANCH_FAILURES: Final = "maesh_branch_failures"
BRANCH_DURATIONS: Final = "maesh_branch_request_duration_seconds"
RULES: Final = "maesh_rule_requests"
RULE_FAILURES: Final = "maesh_rule_failures"
RULE_DURATIONS: Final = "maesh_rule_request_duration_seconds"
ATTEMPTS: Final = "maesh_server_attempts"
SERVER_RESPONSES: Final = "maesh_server_responses"
SERVER_DURATIONS: Final = "maesh_server_attempt_duration_seconds"
SERVER_RECEIVED_BYTES: Final = "maesh_server_request_bytes"
SERVER_SENT_BYTES: Final = "maesh_server_response_bytes"
ASIDE: Final = "maesh_server_aside"
FAILED_RESPONSES: Final = "maesh_server_failed_responses"
EDGES: Final = "maesh_edge_requests"
EDGE_FAILURES: Final = "maesh_edge_failures"
EDGE_DURATIONS: Final = "maesh_edge_request_duration_seconds"
EDGE_DENIALS: Final = "maesh_edge_denied"
EDGE_CONNECTIONS: Final = "maesh_edge_connections"
EDGE_PATHS: Final = "maesh_edge_paths"
PATH_REQUESTS: Final = "maesh_transport_requests"
PATH_CONNECTIONS: Final = "maesh_transport_connections"
PATH_BYTES: Final = "maesh_transport_bytes"
HANDSHAKES: Final = "maesh_tunnel_handshakes"
TUNNEL_FAILURES: Final = "maesh_tunnel_failures"
REFUSED: Final = "maesh_http_refused_requests"
HTTP_CONNECTIONS: Final = "maesh_http_connections"
DENIED: Final = "maesh_acl_denied"
BREAKERS: Final = "maesh_circuitbreaker_open"
TCP_CONNECTIONS: Final = "maesh_tcp_connections"
TCP_RECEIVED: Final = "maesh_tcp_received_bytes"
TCP_SENT: Final = "maesh_tcp_sent_bytes"
TCP_REFUSED: Final = "maesh_tcp_refused_connections"
UDP_SESSIONS: Final = "maesh_udp_sessions"
UDP_RECEIVED: Final = "maesh_udp_received_bytes"
UDP_SENT: Final = "maesh_udp_sent_bytes"
UDP_REFUSED: Final = "maesh_udp_refused_sessions"


class StreamMetrics(NamedTuple):
    """The metrics of the servers of TCP or UDP, or of the branches or rules of their services."""

    opened: str
    failed: str
    received: str
    sent: str


def _name_metrics(prefix: str, opened: str, failed: str) -> StreamMetrics:
    return StreamMetrics(*(f"{prefix}_{noun}" for noun in (opened, failed, "received_bytes", "sent_bytes")))


STREAM_SERVERS: Final[Mapping[str, StreamMetrics]] = {
    "tcp": _name_metrics("maesh_tcp_server", "connections", "failed_connects"),
    "udp": _name_metrics("maesh_udp_server", "sessions", "failed_sessions"),
}
STREAM_BRANCHES: Final[Mapping[str, StreamMetrics]] = {
    "tcp": _name_metrics("maesh_tcp_branch", "connections", "failed_connects"),
    "udp": _name_metrics("maesh_udp_branch", "sessions", "failed_sessions"),
}
STREAM_RULES: Final[Mapping[str, StreamMetrics]] = {
    "tcp": _name_metrics("maesh_tcp_rule", "connections", "failed_connects"),
    "udp": _name_metrics("maesh_udp_rule", "sessions", "failed_sessions"),
}
STREAM_REFUSED: Final[Mapping[str, str]] = {
    "tcp": "maesh_tcp_rule_refused_connections",
    "udp": "maesh_udp_rule_refused_sessions",
}
STREAM_ASIDE: Final[Mapping[str, str]] = {"tcp": "maesh_tcp_server_aside", "udp": "maesh_udp_server_aside"}
"""All of these by traffic type. A server of both protocols may have one address, so the counts are apart."""

COUNTERS: Final[Mapping[str, tuple[str, ...]]] = {
    REQUESTS: ("service", "code"),
    CALLS: ("service", "grpc_status"),
    ANSWERS: ("service", "code", "reason"),
    CUTS: ("service", "reason"),
    BRANCHES: ("service", "destination", "code"),
    BRANCH_FAILURES: ("service", "destination"),
    RULES: ("service", "rule", "code"),
    RULE_FAILURES: ("service", "rule"),
    ATTEMPTS: ("server", "outcome"),
    SERVER_RESPONSES: ("server", "code"),
    **dict.fromkeys((FAILED_RESPONSES, SERVER_RECEIVED_BYTES, SERVER_SENT_BYTES), ("server",)),
    EDGES: ("service", "client"),
    EDGE_FAILURES: ("service", "client"),
    EDGE_DENIALS: ("service", "client"),
    EDGE_CONNECTIONS: ("service", "client"),
    EDGE_PATHS: ("service", "client", "path"),
    **dict.fromkeys((PATH_REQUESTS, PATH_CONNECTIONS, PATH_BYTES), ("service", "path", "reason")),
    HANDSHAKES: ("role", "kind"),
    TUNNEL_FAILURES: ("role", "reason"),
    REFUSED: ("code",),
    DENIED: ("service", "reason"),
    **dict.fromkeys(
        (
            FAILURES,
            RETRIES,
            RECEIVED_BYTES,
            SENT_BYTES,
            TCP_CONNECTIONS,
            TCP_RECEIVED,
            TCP_SENT,
            TCP_REFUSED,
            UDP_SESSIONS,
            UDP_RECEIVED,
            UDP_SENT,
            UDP_REFUSED,
        ),
        ("service",),
    ),
    **{name: ("server",) for names in STREAM_SERVERS.values() for name in names},
    **{name: ("service", "destination") for names in STREAM_BRANCHES.values() for name in names},
    **{name: ("service", "rule") for names in STREAM_RULES.values() for name in names},
    **dict.fromkeys(STREAM_REFUSED.values(), ("service", "rule")),
}
"""The counters, and the labels by which they are summed, in the order of the sums' keys."""
HISTOGRAMS: Final[Mapping[str, tuple[str, ...]]] = {
    DURATIONS: ("service",),
    UPSTREAM_DURATIONS: ("service",),
    BRANCH_DURATIONS: ("service", "destination"),
    RULE_DURATIONS: ("service", "rule"),
    SERVER_DURATIONS: ("server",),
    EDGE_DURATIONS: ("service", "client"),
}
FINE_HISTOGRAMS: Final = frozenset({SERVER_DURATIONS, EDGE_DURATIONS})
"""Those that proxies may leave out."""
GAUGES: Final[Mapping[str, tuple[str, ...]]] = {
    BREAKERS: ("service",),
    **dict.fromkeys((ASIDE, *STREAM_ASIDE.values()), ("server",)),
    HTTP_CONNECTIONS: ("side",),
}

LABELS_BY_TYPE: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "counter": COUNTERS,
    "histogram": HISTOGRAMS,
    "gauge": GAUGES,
}

_OUTCOMES = frozenset({"response", "failure", "error"})
_SIDES = frozenset({"client", "upstream"})
_ROLES = frozenset({"outgoing", "incoming"})
_KINDS = frozenset({"full", "resumed"})
_CALL_STATUSES = frozenset(map(str, range(17)))
_is_code = re.compile(r"[1-9](?:[0-9]{2}|xx)", re.ASCII).fullmatch


class Scope(msgspec.Struct, frozen=True):
    """What exists: keys of service ports and of rules' services, and the spellings of servers and destinations.

    The values are the spellings to report.
    """

    services: frozenset[str] = frozenset()
    servers: Mapping[str, str] = {}
    destinations: Mapping[str, str] = {}
    rules: frozenset[str] = frozenset()


class LabelCheck:
    """Checks label values; each method returns the value to sum by, or None for one that does not count."""

    __slots__ = ("_checks", "_services")

    def __init__(self, scope: Scope) -> None:
        self._services = {key: key for key in scope.services}  # sums keep these strings, not those of the answers
        self._checks: dict[str, Callable[[str], str | None]] = {
            "service": self._check_service,
            "server": scope.servers.get,
            "destination": scope.destinations.get,
            "rule": {key: key for key in scope.rules}.get,
            "client": _check_client,
            "code": _check_code,
            "reason": _check_reason,
            "grpc_status": lambda value: value if value in _CALL_STATUSES else None,
            "outcome": lambda value: value if value in _OUTCOMES else None,
            "path": lambda value: value if value in PATHS else None,
            "role": lambda value: value if value in _ROLES else None,
            "kind": lambda value: value if value in _KINDS else None,
            "side": lambda value: value if value in _SIDES else None,
        }

    def __repr__(self) -> str:
        return f"<LabelCheck of {len(self._services)} services>"

    def find(self, label: str) -> Callable[[str], str | None]:
        """Return the check of a label."""
        return self._checks[label]

    def _check_service(self, value: str) -> str | None:
        return self._services.get(value) or self._services.get(cut_port_key(value))


def _check_client(value: str) -> str | None:
    return OTHER if value == OTHER else parse_address(value)


def _check_code(value: str) -> str | None:
    return value if _is_code(value) else None


def _check_reason(value: str) -> str | None:
    """Keep a text, without what could not be printed."""
    text = value[:REASON_LIMIT]
    return (
        text
        if text.isprintable()
        else "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    )
