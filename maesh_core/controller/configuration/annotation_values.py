"""What the values of the core's annotations mean, such as `scheme`.

The caller selects the annotations of a port: its own ones replace those of its service. Without the annotation
`scheme`, the `appProtocol` of a port selects its scheme. Takes annotations without prefix (model/annotations.py);
returns values, or raises ConfigurationError. catalogue.py knows the annotations of plugins.
"""

from collections.abc import Mapping

from maesh_core.model.annotations import ENTRYPOINT, LOAD_BALANCER, SCHEME, TRAFFIC_TYPE, build_annotation_error
from maesh_core.model.schemes import DEFAULT_SCHEME, SCHEME_BY_APP_PROTOCOL, SCHEMES
from maesh_core.values.spelling import suggest

CORE_ANNOTATIONS = frozenset({TRAFFIC_TYPE, SCHEME, LOAD_BALANCER, ENTRYPOINT})
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
        meant = SCHEME_BY_APP_PROTOCOL.get(scheme.lower())  # such as grpc
        hint = f"; did you mean {meant}?" if meant else suggest(scheme, SCHEMES)
        raise build_annotation_error(SCHEME, scheme, f"is not one of {', '.join(SCHEMES)}{hint}")
    return scheme


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
