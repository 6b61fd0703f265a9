"""Finds the mode of access control, `enforce` or `audit`, of a service's port and of a TrafficTarget.

Takes a view and the settings. The annotation of a Service decides before that of its Namespace, and that before the
setting `acl.mode`. Fails closed: a value that cannot be read, or that its author may not set, never opens access.
"""

from collections.abc import Mapping
from typing import Final, Literal

from maesh_acl import AccessSettings
from maesh_acl.kinds import TrafficTarget
from maesh_core.plugin import (
    ConfigurationError,
    KubernetesService,
    Namespace,
    ObjectKey,
    Pod,
    PortNode,
    ServerNode,
    ServiceNode,
    TopologyView,
    parse_annotations,
    read_annotation,
    select_annotations,
)

MODE: Final = "acl-mode"
"""The annotation of Namespaces, Services and TrafficTargets, without prefix."""
ADDRESS_INDEX: Final = "address"
"""The index of Pods and Services by address."""
Mode = Literal["enforce", "audit"]


class ModeFinder:
    """The modes of ports for one build; `notices` says which annotations have no effect."""

    def __init__(self, view: TopologyView, settings: AccessSettings) -> None:
        self._view = view
        self._settings = settings
        self.notices: list[str] = []
        self._known: dict[tuple[ObjectKey, int, str], bool] = {}

    def is_audited(self, node: ServiceNode, port: PortNode) -> bool:
        """Return whether what nothing allows to reach the port passes and is recorded."""
        place = (node.key, port.number, port.protocol)
        if place not in self._known:
            self._known[place] = self._find(node, port)
        return self._known[place]

    def _find(self, node: ServiceNode, port: PortNode) -> bool:
        try:
            mode = read_mode(select_annotations(node.annotations, port))
        except ConfigurationError:  # an error of that service, which is closed
            return False
        if mode == "audit" and self._settings.audit_by_annotation != "service":
            self._note(
                f"annotation {MODE} of service {node.key} has no effect:"
                f" acl.audit-by-annotation is {self._settings.audit_by_annotation}"
            )
            mode = None
        return (mode or self._find_common(node.key.namespace)) == "audit" and not self._reaches_others(node, port)

    def _reaches_others(self, node: ServiceNode, port: PortNode) -> bool:
        """Whether a server has the address of a pod or Service of another namespace whose access is enforced.

        Users who may write EndpointSlices in a namespace in audit mode must not open the pods of other namespaces with
        them. A pod of the service's own namespace may share the address of its node with others.
        """
        own = {address for server in port.servers for address in self._list_own(node, server)}
        named = {server.address for server in port.servers if server.is_name}
        for address in sorted({server.address for server in port.servers} - own - named):
            for type_ in (Pod, KubernetesService):
                for found in self._view.find(type_, ADDRESS_INDEX, address):
                    namespace = found.metadata.namespace
                    if namespace != node.key.namespace and self._find_common(namespace) != "audit":
                        self._note(
                            f"access to port {port.number} of service {node.key} is enforced: its server {address}"
                            f" belongs to {found.key}, and access control is enforced in namespace {namespace}"
                        )
                        return True
        return False

    def _list_own(self, node: ServiceNode, server: ServerNode) -> tuple[str, ...]:
        """List the addresses of a server's pod, if that is in the namespace of the service."""
        if server.pod is None or server.pod.namespace != node.key.namespace:
            return ()
        pod = self._view.get(Pod, server.pod)
        return () if pod is None else pod.addresses

    def _find_common(self, name: str) -> Mode:
        """Find the mode of all services of a namespace that do not set their own."""
        namespace = self._view.get(Namespace, ObjectKey("", name))
        try:
            mode = None if namespace is None else read_object_mode(namespace.metadata.annotations)
        except ConfigurationError as error:
            self._note(f"namespace {name}: {error}; access control is enforced")
            return "enforce"
        if mode == "audit" and self._settings.audit_by_annotation == "none":
            self._note(f"annotation {MODE} of namespace {name} has no effect: acl.audit-by-annotation is none")
            mode = None
        return mode or self._settings.mode

    def _note(self, text: str) -> None:
        notice = f"acl: {text}"
        if notice not in self.notices:
            self.notices.append(notice)


def is_audited_target(target: TrafficTarget) -> bool:
    """Return whether what a target's matches would deny to its sources passes. Raises ConfigurationError."""
    return read_object_mode(target.metadata.annotations) == "audit"


def read_mode(annotations: Mapping[str, str]) -> Mode | None:
    """Read the annotation among those without prefix; None if it is absent. Raises ConfigurationError."""
    mode: Mode | None = read_annotation(annotations, MODE, Mode)
    return mode


def read_object_mode(annotations: Mapping[str, str]) -> Mode | None:
    """Read the annotation of an object; None if it is absent. Raises ConfigurationError."""
    return read_mode(parse_annotations(annotations))
