"""The annotations on a service that the core's configuration itself reads, and what their values mean.

Takes annotations without prefix (model/annotations.py), gives values or raises ConfigurationError. Which others are
claimed is in catalogue.py.
"""

from collections.abc import Mapping

from maesh_core.errors import ConfigurationError
from maesh_core.model.annotations import LOAD_BALANCER, SCHEME, TRAFFIC_TYPE

CORE_ANNOTATIONS = frozenset({TRAFFIC_TYPE, SCHEME, LOAD_BALANCER})

_SCHEMES = ("http", "https", "h2c")
_NOT_CARRIED = {"h2c": "HTTP/2 is not carried yet"}
"""What proxies cannot speak, and why."""


def parse_scheme(annotations: Mapping[str, str]) -> str:
    """Read how HTTP servers are spoken to; raises ConfigurationError on a value that is unknown."""
    scheme = annotations.get(SCHEME, "http")
    if scheme not in _SCHEMES:
        raise ConfigurationError(f"annotation {SCHEME}: {scheme!r} is none of {', '.join(_SCHEMES)}")
    return scheme


def check_carried(scheme: str) -> None:
    """Raise ConfigurationError where proxies cannot speak a scheme yet."""
    if scheme in _NOT_CARRIED:
        raise ConfigurationError(f"annotation {SCHEME}: {scheme}: {_NOT_CARRIED[scheme]}")
