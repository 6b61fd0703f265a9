"""The controller's half: a service in, what is to be added to it out."""

from collections.abc import Sequence

from maesh_core.plugin import Addition, ServiceNode, TopologyBuilder, View, hookimpl


class BlankTopologyBuilder:
    """Counts the servers behind each port of a service.

    What it reads from `view` is recorded: it is called again when that, or the service, changes.
    """

    name = "blank"

    def build(self, view: View, service: ServiceNode) -> Addition | None:
        """Count; a port without servers is worth a notice. Pure."""
        counts = {str(port.number): len(port.servers) for port in service.ports}
        notices = tuple(f"port {port} has no server" for port, count in counts.items() if not count)
        return Addition(value=counts, notices=notices)


class ControllerHalf:
    """What the controller loads."""

    @hookimpl
    def maesh_topology_builders(self) -> Sequence[TopologyBuilder]:
        """Return the topology builders of this plugin."""
        return [BlankTopologyBuilder()]
