"""The schemes of servers, and what the `appProtocol` of a Service's port selects: a scheme of HTTP and a traffic type.

Names and values only. The annotations `scheme` and `traffic-type` take precedence:
controller/configuration/annotation_values.py and controller/topology/traffic_types.py read them.
"""

from collections.abc import Mapping

DEFAULT_SCHEME = "http"
SCHEMES = (DEFAULT_SCHEME, "https", "h2c")
"""`h2c` is HTTP/2 with prior knowledge, without TLS."""
PLAIN, TLS = "tcp", "tls"
TCP_SCHEMES = (PLAIN, TLS)
"""The schemes of TCP servers: as the client sends them, or in TLS that the proxy opens."""
ENCRYPTED_SCHEMES = frozenset({"https", TLS})
"""Those in which the proxy opens TLS to a server."""

SCHEME_BY_APP_PROTOCOL: Mapping[str, str] = {
    "http": "http",
    "https": "https",
    "kubernetes.io/h2c": "h2c",
    "kubernetes.io/ws": "http",
    "kubernetes.io/wss": "https",
    "grpc": "h2c",
    "h2c": "h2c",
    "http2": "h2c",
}
"""The standard names of Kubernetes (KEP-3726), and names without a prefix that other meshes and routers understand:
`grpc` and `http2` (Istio), `h2c` (OpenShift). A WebSocket begins as a request of HTTP/1.1. Compared with case."""

TRAFFIC_TYPE_BY_APP_PROTOCOL: Mapping[str, str] = {
    **dict.fromkeys(SCHEME_BY_APP_PROTOCOL, "http"),
    "tcp": "tcp",
    "tls": "tcp",
}
"""Only for ports whose protocol is TCP. `tcp` and `tls` are names of Istio; the mesh does not decrypt `tls`."""


def find_scheme(app_protocol: str) -> str | None:
    """Find the scheme that an `appProtocol` selects; None if it is not a protocol over HTTP."""
    return SCHEME_BY_APP_PROTOCOL.get(app_protocol)
