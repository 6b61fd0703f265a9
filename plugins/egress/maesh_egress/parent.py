"""The half in the parent process of a proxy: resolves names, so that no worker waits for DNS."""

from collections.abc import Sequence

from maesh_core.plugin import NodeService, ParentNode, hookimpl
from maesh_egress import EgressSettings
from maesh_egress.allowed_names import AllowedNames
from maesh_egress.dns_client import DnsClient
from maesh_egress.name_table import NameTable, Times
from maesh_egress.resolver_address import parse_resolver
from maesh_egress.resolving import Resolving, has_route
from maesh_egress.usable_addresses import UsableAddresses


class ParentHalf:
    """The hooks of a proxy's parent."""

    def __init__(self, settings: EgressSettings) -> None:
        self._settings = settings

    @hookimpl
    def maesh_node_services(self, parent: ParentNode) -> Sequence[NodeService]:
        """Return the task that resolves names."""
        settings = self._settings
        times = Times(shortest_s=settings.shortest_ttl, longest_s=settings.longest_ttl, stale_s=settings.stale)
        usable = UsableAddresses(settings.networks)
        table = NameTable(times, is_usable=usable.__contains__, has_route=has_route)
        servers = [parse_resolver(text) for text in settings.resolvers]
        client = DnsClient(servers, families=settings.families, timeout_s=settings.timeout)
        return [Resolving(parent, table, client, AllowedNames(settings.allow))]
