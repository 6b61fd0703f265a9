"""Measured traffic as the API reports it (`/api/traffic`): services, their branches, servers and callers.

Plain structs. A proxy counts since it started; the controller sums over all proxies, and computes the last minute from
what each proxy counted a minute ago. Rates are per second, durations in seconds, sizes in bytes.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from maesh_core.model.metrics import MetricFamily

TRAFFIC_PREFIXES: Final = (
    "maesh_service_",
    "maesh_branch_",
    "maesh_rule_",
    "maesh_server_",
    "maesh_edge_",
    "maesh_tcp_",
    "maesh_udp_",
    "maesh_http_",
    "maesh_circuitbreaker_",
    "maesh_acl_",
    "maesh_transport_",
    "maesh_tunnel_",
)
"""The beginnings of the names of the metrics in a `ProxyTraffic`."""


class ProxyTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy's admin port answers for `/traffic`: the metrics of its traffic now, and some time ago.

    `interval_s` is the time between the two. Until the proxy has run for a minute, it is the time since its start, and
    `before` is empty, as the counters then were. With 0 there is no `before` to compare with. `uptime_s` is the time in
    which `now` was counted; 0 if it is not known.
    """

    interval_s: float
    now: tuple[MetricFamily, ...]
    before: tuple[MetricFamily, ...] = ()
    uptime_s: float = 0.0


class Latency(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Percentiles of durations, interpolated within the histogram's buckets; None if nothing was measured.

    Proxies with `--no-metrics-fine-durations` measure none of single servers and callers.
    """

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


class Window(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What was counted in a span of `seconds`. `rate` is that of requests, or of connections for TCP and UDP.

    `success` is the share of requests that did not fail, between 0 and 1; None without requests. A request fails with a
    status of 500 or above, with a gRPC status that blames the server, or if its response is cut and the client is not
    the cause. `codes` counts by class (`2xx`) or exact status, `reasons` counts the mesh's own answers, and the
    responses that ended before they were complete.
    """

    seconds: float = 0.0
    requests: int = 0
    rate: float = 0.0
    success: float | None = None
    codes: Mapping[str, int] = {}
    grpc: Mapping[str, int] = {}
    total: Latency = Latency()
    upstream: Latency = Latency()
    retries: int = 0
    limited: int = 0
    denied: int = 0
    reasons: Mapping[str, int] = {}
    received_bytes: int = 0
    sent_bytes: int = 0
    connections: int = 0
    """For TCP and UDP: connections or sessions that began."""
    paths: Mapping[str, int] = {}
    """For services with encryption: requests (connections for TCP and UDP) that were `encrypted`, `clear`, or `local`,
    to a server on the same node. A caller has no `local`."""
    path_bytes: Mapping[str, int] = {}
    """Bytes by path, of services with encryption."""
    clear_reasons: Mapping[str, int] = {}
    """Why those in `clear` were not encrypted."""


class ServerTraffic(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One server of a service. `pod` is `namespace/name`, or empty if it is not known.

    Its requests are attempts, also those for other services that have the same server: they succeed with a response
    below 500 that does not fail later. Its durations are in `upstream`: those until the head of a response. Of TCP and
    UDP, `connections` are those that were established.
    """

    server: str
    pod: str = ""
    node: str = ""
    last: Window = Window()
    total: Window = Window()
    is_set_aside: bool = False


class BranchTraffic(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One destination of a service's traffic: the service itself, or a branch of its splits.

    `weight` is its configured share, between 0 and 1, of the requests that no split selects by their content; None if
    it gets only selected requests.
    """

    destination: str
    weight: float | None = None
    last: Window = Window()
    total: Window = Window()


class RuleTraffic(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One rule of a service's routes: `rule/NAME`, or `consumer/NAMESPACE/NAME` for clients of a namespace."""

    rule: str
    last: Window = Window()
    total: Window = Window()


class EdgeTraffic(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Requests from one caller to one service.

    `caller` is a workload as `Deployment/name@namespace` or a pod as `Pod/name@namespace`; otherwise the client's
    address, or `other` for clients above the limit of counted ones.
    """

    caller: str
    account: str = ""
    pods: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    service: str
    last: Window = Window()
    total: Window = Window()


class ServiceTraffic(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One service port. `key` is `namespace/name:port`, as in the label `service` of metrics."""

    key: str
    namespace: str
    name: str
    port: str
    traffic_type: str = ""
    last: Window = Window()
    total: Window = Window()
    branches: tuple[BranchTraffic, ...] = ()
    rules: tuple[RuleTraffic, ...] = ()
    servers: tuple[ServerTraffic, ...] = ()
    callers: tuple[EdgeTraffic, ...] = ()
    open_breakers: int = 0
    errors: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class NodeTraffic(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One proxy, and why it did not answer; its traffic is then missing in the sums.

    Of several proxies with one name and address, only one is counted, and the error says so.

    `is_refused`: controllers refuse its pulls, because they have no contact with the cluster. `left_out` counts the
    values of its answer that do not count: those of unknown services and servers, invalid ones, and those above a limit
    that could not be added to `other`.
    """

    name: str
    revision: str | None = None
    error: str = ""
    connections: int = 0
    is_refused: bool = False
    left_out: int = 0


class MissingController(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Another controller that did not say which proxies pull from it, and why."""

    name: str
    error: str


class TunnelCounts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """TLS connections between nodes in a span of time.

    `handshakes` counts those that were completed, by kind: `full` or `resumed`. `failures` counts those that failed at
    the node that opened them, by reason, and `incoming_failures` at the other one, where anybody may connect.
    """

    handshakes: Mapping[str, int] = {}
    failures: Mapping[str, int] = {}
    incoming_failures: Mapping[str, int] = {}


class TunnelTraffic(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """TLS connections between nodes in the last minute, and since the proxies' start."""

    last: TunnelCounts = TunnelCounts()
    total: TunnelCounts = TunnelCounts()


class TrafficReport(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The response of `/api/traffic`. `refused` counts requests that were refused before they were routed, by status.

    With `?service=NAMESPACE/NAME[:PORT]`, `services` has only those. Proxies that pull from a controller in `missing`
    may be missing in `nodes`, and their traffic in the sums.
    """

    at: str
    """When it was collected: an RFC 3339 time in UTC."""
    interval_s: float = 0.0
    """The length of `last`: a minute, or less after a start."""
    nodes: tuple[NodeTraffic, ...] = ()
    missing: tuple[MissingController, ...] = ()
    services: tuple[ServiceTraffic, ...] = ()
    refused: Mapping[str, int] = {}
    tunnels: TunnelTraffic = TunnelTraffic()
