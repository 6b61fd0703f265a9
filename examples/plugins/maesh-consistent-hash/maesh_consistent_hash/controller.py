"""The controller's half: what the services that name this load balancer say to it."""

import re
from collections.abc import Mapping, Sequence

from maesh_consistent_hash import HashSettings
from maesh_core.plugin import BalancerBuilder, ServiceNode, build_annotation_error, hookimpl

HEADER = "hash-header"
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2: token


class ConsistentHashBuilder:
    """Builds the settings of a service with `load-balancer: consistent-hash`."""

    name = "consistent-hash"
    annotations: tuple[str, ...] = (HEADER,)

    def build_settings(self, annotations: Mapping[str, str], service: ServiceNode) -> HashSettings:
        """Read which header says who a client is; without one it is its address."""
        header = annotations.get(HEADER)
        if header is not None and not _FIELD_NAME.fullmatch(header):
            raise build_annotation_error(HEADER, header, "is not the name of a header")
        return HashSettings(header=header)


class ControllerHalf:
    """What the controller loads."""

    @hookimpl
    def maesh_balancer_builders(self) -> Sequence[BalancerBuilder]:
        """Return the one builder of this plugin."""
        return [ConsistentHashBuilder()]
