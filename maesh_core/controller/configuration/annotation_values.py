"""What the values of the core's annotations mean, such as `scheme`.

An annotation applies to all ports of its service. builder.py reads the annotations once per service and builds the
service's chain from them; an annotation of a single port would have to be read there. Without the annotation `scheme`,
the `appProtocol` of each port selects the port's scheme. Takes annotations without prefix (model/annotations.py);
returns values, or raises ConfigurationError. catalogue.py knows the annotations of plugins.
"""

from collections.abc import Mapping

from maesh_core.model.annotations import LOAD_BALANCER, SCHEME, TRAFFIC_TYPE, build_annotation_error
from maesh_core.model.schemes import DEFAULT_SCHEME, SCHEME_BY_APP_PROTOCOL, SCHEMES
from maesh_core.values.spelling import suggest

CORE_ANNOTATIONS = frozenset({TRAFFIC_TYPE, SCHEME, LOAD_BALANCER})


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


def explain_unknown_app_protocol(annotations: Mapping[str, str], app_protocol: str) -> str:
    """Explain that an `appProtocol` has no effect on HTTP because it is unknown; empty if it is known or not used."""
    if SCHEME in annotations or not app_protocol or app_protocol in SCHEME_BY_APP_PROTOCOL:
        return ""
    hint = suggest(app_protocol, SCHEME_BY_APP_PROTOCOL)
    return f"appProtocol {app_protocol!r} is not supported, so the scheme is {DEFAULT_SCHEME}{hint}"
