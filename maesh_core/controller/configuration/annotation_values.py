"""What the values of the core's annotations mean, such as `scheme`.

The caller selects the annotations of a port: its own ones replace those of its service. Without the annotation
`scheme`, the `appProtocol` of a port selects its scheme. Takes annotations without prefix (model/annotations.py);
returns values, or raises ConfigurationError. catalogue.py knows the annotations of plugins.
"""

from collections.abc import Mapping

from maesh_core.model.annotations import (
    EGRESS_FORWARDED,
    EGRESS_HOST,
    ENTRYPOINT,
    LOAD_BALANCER,
    SCHEME,
    SERVER_NAME,
    TRAFFIC_TYPE,
    build_annotation_error,
    read_annotation,
)
from maesh_core.model.keys import is_subdomain
from maesh_core.model.schemes import DEFAULT_SCHEME, SCHEME_BY_APP_PROTOCOL, SCHEMES, TLS
from maesh_core.model.topology import PortNode
from maesh_core.values.spelling import suggest

CORE_ANNOTATIONS = frozenset(
    {TRAFFIC_TYPE, SCHEME, SERVER_NAME, LOAD_BALANCER, ENTRYPOINT, EGRESS_HOST, EGRESS_FORWARDED}
)
HTTPS_PORT = 443
NAME_HOST, KEEP_HOST = "name", "keep"
"""Values of `egress-host`: the name of the server, and the Host of the client."""
_HOST_LIMIT = 255
SHARED = "shared"
OWN = "own"
ENTRYPOINTS = (SHARED, OWN)
"""Whether an HTTP port shares its entrypoint with other services, or has one of its own."""


def parse_scheme(annotations: Mapping[str, str], app_protocol: str = "") -> str:
    """Parse the scheme of a port's HTTP servers; raises ConfigurationError on an unknown value of the annotation.

    Without the annotation, the port's `appProtocol` selects the scheme; an unknown one counts as absent.
    """
    scheme = annotations.get(SCHEME)
    if scheme is None:
        return SCHEME_BY_APP_PROTOCOL.get(app_protocol, DEFAULT_SCHEME)
    if scheme not in SCHEMES:
        meant = SCHEME_BY_APP_PROTOCOL.get(scheme.lower()) or ("https" if scheme == TLS else None)  # such as grpc
        hint = f"; did you mean {meant}?" if meant else suggest(scheme, SCHEMES)
        raise build_annotation_error(SCHEME, scheme, f"is not one of {', '.join(SCHEMES)}{hint}")
    return scheme


def choose_scheme(annotations: Mapping[str, str], port: PortNode) -> str:
    """Choose the scheme of a port's HTTP servers; raises ConfigurationError as `parse_scheme` does.

    Servers outside of the mesh at port 443 are called by https unless something else is said: an annotation, or an
    `appProtocol`. Port 443 is that of https (RFC 9110 section 4.2.2), and a request in clear would leave the cluster.
    """
    is_unsaid = SCHEME not in annotations and port.app_protocol not in SCHEME_BY_APP_PROTOCOL
    if is_unsaid and port.servers and all(each.is_name and each.port == HTTPS_PORT for each in port.servers):
        return "https"
    return parse_scheme(annotations, port.app_protocol)


def parse_egress_host(annotations: Mapping[str, str]) -> str:
    """Parse the Host that servers outside of the mesh get: a host, `name` for the server's name, or `keep`.

    Raises ConfigurationError.
    """
    text = annotations.get(EGRESS_HOST, NAME_HOST)
    name, colon, port = text.partition(":")
    is_number = len(text) <= _HOST_LIMIT and port.isascii() and port.isdecimal()
    is_port = is_number and 0 < int(port) < 65536
    if not is_subdomain(name) or not (is_port or not colon) or len(text) > _HOST_LIMIT:
        rule = f"is neither {NAME_HOST} nor {KEEP_HOST}, nor a host in lower case, with a port or without"
        raise build_annotation_error(EGRESS_HOST, text, rule)
    return text


def parse_egress_forwarded(annotations: Mapping[str, str]) -> bool:
    """Parse whether servers outside of the mesh get the fields that identify clients; raises ConfigurationError."""
    return bool(read_annotation(annotations, EGRESS_FORWARDED, bool))


def wants_own_entrypoint(annotations: Mapping[str, str], *, is_default: bool) -> bool:
    """Whether an HTTP port wants an entrypoint of its own; `is_default` is the answer without the annotation."""
    found = annotations.get(ENTRYPOINT)
    return is_default if found is None else found == OWN


def check_entrypoint(annotations: Mapping[str, str]) -> None:
    """Raise ConfigurationError if the annotation `entrypoint` has an unknown value."""
    found = annotations.get(ENTRYPOINT, SHARED)
    if found not in ENTRYPOINTS:
        raise build_annotation_error(ENTRYPOINT, found, f"is not one of {', '.join(ENTRYPOINTS)}", known=ENTRYPOINTS)


def explain_unknown_app_protocol(annotations: Mapping[str, str], app_protocol: str) -> str:
    """Explain that an `appProtocol` has no effect on HTTP because it is unknown; empty if it is known or not used."""
    if SCHEME in annotations or not app_protocol or app_protocol in SCHEME_BY_APP_PROTOCOL:
        return ""
    hint = suggest(app_protocol, SCHEME_BY_APP_PROTOCOL)
    return f"appProtocol {app_protocol!r} is not supported, so the scheme is {DEFAULT_SCHEME}{hint}"
