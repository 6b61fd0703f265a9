"""What the project's own plugins read, so that messages can name the flag of one that is off.

A plugin that is off is not imported, so the tables are kept here; a test compares them with the plugins. Must not
import a plugin.
"""

from collections.abc import Collection, Mapping

KINDS: Mapping[str, tuple[str, ...]] = {
    "TrafficSplit": ("smi",),
    "HTTPRouteGroup": ("smi", "acl"),
    "TCPRoute": ("smi", "acl"),
    "UDPRoute": ("smi", "acl"),
    "TrafficTarget": ("acl",),
    "HTTPRoute": ("gateway",),
    "GRPCRoute": ("gateway",),
    "ReferenceGrant": ("gateway",),
    "TCPRoute.gateway.networking.k8s.io": ("gateway",),
    "UDPRoute.gateway.networking.k8s.io": ("gateway",),
}
"""Labels of kinds of objects (`ResourceKind.label`), and the plugins that read them."""

ANNOTATIONS: Mapping[str, str] = {
    "access-log": "access-log",
    "acl-mode": "acl",
    "backend-request-timeout": "timeout",
    "circuit-breaker-expression": "circuitbreaker",
    "cors-allow-credentials": "cors",
    "cors-allow-headers": "cors",
    "cors-allow-methods": "cors",
    "cors-allow-origins": "cors",
    "cors-expose-headers": "cors",
    "cors-max-age": "cors",
    "compress": "compress",
    "compress-min-bytes": "compress",
    "compress-types": "compress",
    "encryption": "mtls",
    "limit-concurrency": "concurrency",
    "limit-concurrency-adaptive": "concurrency",
    "limit-concurrency-min": "concurrency",
    "limit-concurrency-source": "concurrency",
    "mirror-body-limit": "mirror",
    "mirror-percent": "mirror",
    "mirror-service": "mirror",
    "fault-abort": "fault",
    "fault-abort-percent": "fault",
    "fault-delay": "fault",
    "fault-delay-percent": "fault",
    "ratelimit-average": "ratelimit",
    "ratelimit-burst": "ratelimit",
    "ratelimit-headers": "ratelimit",
    "ratelimit-limits": "ratelimit",
    "ratelimit-period": "ratelimit",
    "ratelimit-source": "ratelimit",
    "ratelimit-store": "ratelimit",
    "redirect-host": "redirect",
    "redirect-path": "redirect",
    "redirect-port": "redirect",
    "redirect-prefix": "redirect",
    "redirect-scheme": "redirect",
    "redirect-status": "redirect",
    "request-headers": "headers",
    "request-timeout": "timeout",
    "response-headers": "headers",
    "retry-attempts": "retry",
    "retry-on": "retry",
    "retry-timeout": "retry",
    "retry-backoff": "retry",
    "retry-budget": "retry",
    "rewrite-host": "rewrite",
    "rewrite-path": "rewrite",
    "rewrite-prefix": "rewrite",
    "service-account": "acl",
    "session-cookie": "session",
    "session-header": "session",
    "session-idle-timeout": "session",
    "session-lifetime": "session",
    "session-path": "session",
    "session-permanent": "session",
    "trace-sample": "otel",
    "tracing": "otel",
}
"""Annotations, without prefix, and the plugin that reads each."""

TRAFFIC_TYPES: Mapping[str, str] = {"udp": "udp"}
"""Traffic types, and the plugin that carries each."""


def describe_switch(plugin: str) -> str:
    """Say how a plugin is switched on."""
    return f"plugin {plugin} is off; --{plugin} switches it on"


def find_kind_switches(enabled: Collection[str]) -> dict[str, str]:
    """Say of each kind that no enabled plugin reads how that is switched on."""
    return {kind: describe_switch(plugins[0]) for kind, plugins in KINDS.items() if not set(plugins) & set(enabled)}


def find_annotation_switches(enabled: Collection[str]) -> dict[str, str]:
    """Say of each annotation that no enabled plugin reads how that is switched on."""
    return {name: describe_switch(plugin) for name, plugin in ANNOTATIONS.items() if plugin not in enabled}


def find_traffic_type_switches(enabled: Collection[str]) -> dict[str, str]:
    """Say of each traffic type that no enabled plugin carries how that is switched on."""
    return {name: describe_switch(plugin) for name, plugin in TRAFFIC_TYPES.items() if plugin not in enabled}
