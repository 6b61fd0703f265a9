"""The interfaces of the plugin that carries traffic to servers outside of the mesh.

Such a server is known by its DNS name: that of an ExternalName Service, or of an EndpointSlice of the type FQDN. The
plugin's half in the controller decides which names may be carried. Its half in the parent of each proxy resolves the
names that the configuration has, and publishes their addresses to the workers. Interfaces only.
"""

from collections.abc import Collection
from typing import Protocol

from maesh_core.model.keys import ObjectKey
from maesh_core.plugin_system.transports import NodeService


class OutsideRules(Protocol):
    """Which servers outside of the mesh may be carried; at most one plugin has such rules."""

    name: str

    def find_problem(self, service: ObjectKey, host: str) -> str | None:
        """Explain why a service must not send to a name, to follow the name; None if it may. Pure.

        `host` is a DNS name in lower case, without final dot. An ExternalName Service with a problem is closed; an
        endpoint with a problem is left out.
        """


class NamesService(NodeService, Protocol):
    """A task of the node's parent that resolves names; it publishes them with `ParentNode.publish_addresses`."""

    def receive_names(self, names: Collection[str]) -> None:
        """Resolve these names from now on, and no others: all that the current configuration has.

        Called after each update that changes them. An exception is logged.
        """
