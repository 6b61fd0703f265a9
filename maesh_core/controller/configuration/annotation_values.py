"""What the values of the core's annotations mean, such as `scheme`.

An annotation applies to all ports of its service. builder.py reads the annotations once per service and builds the
service's chain from them; an annotation of a single port would have to be read there. Takes annotations without prefix
(model/annotations.py); returns values, or raises ConfigurationError. catalogue.py knows the annotations of plugins.
"""

from collections.abc import Mapping

from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import LOAD_BALANCER, SCHEME, TRAFFIC_TYPE

CORE_ANNOTATIONS = frozenset({TRAFFIC_TYPE, SCHEME, LOAD_BALANCER})

_SCHEMES = ("http", "https", "h2c")
_UNSUPPORTED = {"h2c": "HTTP/2 is not supported yet"}
"""Schemes that proxies do not support, with the reason."""


def parse_scheme(annotations: Mapping[str, str]) -> str:
    """Parse the scheme of HTTP servers; raises ConfigurationError on an unknown value."""
    scheme = annotations.get(SCHEME, "http")
    if scheme not in _SCHEMES:
        raise ConfigurationError(f"annotation {SCHEME}: {scheme!r} is not one of {', '.join(_SCHEMES)}")
    return scheme


def check_supported(scheme: str) -> None:
    """Raise ConfigurationError if proxies do not support a scheme yet."""
    if scheme in _UNSUPPORTED:
        raise ConfigurationError(f"annotation {SCHEME}: {scheme}: {_UNSUPPORTED[scheme]}")
