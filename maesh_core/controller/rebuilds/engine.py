"""The incremental rebuild: takes events and publishes a new revision, at a cost that depends only on the change.

Combines snapshot, builds of services (service_builds.py) and port tables, and renders the results for the API. A
service's build depends on the resources it reads and on its entrypoints; it is repeated only if one of these changes.
Its only I/O is saving the port mapping.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.controller.cluster.shadow_services import DesiredShadowService, ShadowPort, UndecidedShadowError
from maesh_core.controller.configuration.address_entries import AddressEntries
from maesh_core.controller.configuration.group_build import WAITING
from maesh_core.controller.configuration.port_plan import plan_entrypoints
from maesh_core.controller.configuration.revisions import EntryChanges, RevisionStore
from maesh_core.controller.explaining.pod_lookup import PodLookup
from maesh_core.controller.ports.port_table import PortOwner
from maesh_core.controller.rebuilds.dependencies import DependencyIndex
from maesh_core.controller.rebuilds.engine_parts import EngineParts
from maesh_core.controller.rebuilds.optional_sections import OptionalSections
from maesh_core.controller.rebuilds.service_builds import Built, ServiceBuilds
from maesh_core.controller.reports.object_reports import ObjectReports
from maesh_core.controller.reports.object_statuses import ObjectStatuses
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import Read
from maesh_core.controller.topology.rendering import render_topology
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Applied, Event, Problem, Replaced
from maesh_core.model.findings import Findings, ObjectFindings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import ServiceReport
from maesh_core.model.resources import ResourceKind, Service
from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.hookspecs import MiddlewareBuilder


class Engine:
    """Holds the snapshot and everything that is built from it."""

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._callbacks: list[Callable[[], None]] = []
        self._built_callbacks: list[Callable[[Iterable[ObjectKey]], None]] = []
        self._reports = ObjectReports(parts.snapshot, parts.kinds, parts.checkers, parts.rules)
        self._statuses = ObjectStatuses(parts.snapshot, parts.kinds, parts.status_builders, parts.rules)
        types = [kind.type for kind in parts.kinds]
        self._unlisted = {(source, type_) for source in parts.sources for type_ in types}
        self._is_ready = False
        self._builds = ServiceBuilds(parts)
        self._sections = OptionalSections(
            parts.snapshot,
            parts.rules,
            parts.catalogue.transport,
            sends_pod_names=parts.sends_pod_names,
            sends_namespaces=parts.sends_namespaces,
        )
        self._topology: bytes | None = None
        self._services: bytes | None = None

    def __repr__(self) -> str:
        state = "ready" if self._is_ready else f"{len(self._unlisted)} lists missing"
        return f"<Engine {state} services={len(self._builds.built)} revision={self.revision}>"

    @property
    def is_ready(self) -> bool:
        """Whether the first full build is done."""
        return self._is_ready

    @property
    def revision(self) -> str:
        """The current revision."""
        return self._parts.revisions.revision

    @property
    def rebuilt_count(self) -> int:
        """The number of builds of single services so far."""
        return self._builds.count

    @property
    def missing_lists(self) -> tuple[str, ...]:
        """The lists that the first build waits for, as `source type`."""
        return tuple(sorted(f"{source} {type_.__name__}" for source, type_ in self._unlisted))

    @property
    def problems(self) -> Mapping[str, str]:
        """What discovery could not read: text by origin."""
        return self._parts.snapshot.problems

    @property
    def pods(self) -> PodLookup:
        """A lookup of the current pods, including those without a service."""
        return PodLookup(self._parts.snapshot)

    @property
    def objects(self) -> Snapshot:
        """The current objects."""
        return self._parts.snapshot

    @property
    def rules(self) -> TopologyRules:
        """The rules of the topology, such as which namespaces are ignored."""
        return self._parts.rules

    @property
    def kinds(self) -> Sequence[ResourceKind]:
        """The kinds of objects that are read."""
        return self._parts.kinds

    @property
    def all_problems(self) -> Mapping[str, Problem]:
        """What discovery could not read, and what it ignored, by origin."""
        return self._parts.snapshot.all_problems

    @property
    def middleware_builders(self) -> Sequence[MiddlewareBuilder]:
        """The builders of middlewares, in the order of the chain."""
        return self._parts.catalogue.middleware_builders

    @property
    def reports(self) -> ObjectReports:
        """The reports of errors and notices of each object."""
        return self._reports

    @property
    def statuses(self) -> ObjectStatuses:
        """The mesh's part of objects' statuses."""
        return self._statuses

    @property
    def status_pages(self) -> tuple[str, ...]:
        """The names of the pages `/api/status/PAGE` that plugins add."""
        return self._statuses.pages

    @property
    def revisions(self) -> RevisionStore:
        """The configuration of the whole mesh."""
        return self._parts.revisions

    @property
    def pod_names(self) -> AddressEntries | None:
        """The names of pods that proxies get; None if no plugin asks for them."""
        return self._sections.pod_names

    @property
    def client_namespaces(self) -> AddressEntries | None:
        """The namespaces of clients that proxies get for plain host names; None if no plugin asks for them."""
        return self._sections.client_namespaces

    @property
    def collects(self) -> bool:
        """Whether it collects entries, which `publish_collected` publishes."""
        return self._sections.collects

    @property
    def dependencies(self) -> DependencyIndex[ObjectKey]:
        """The reads of each service."""
        return self._builds.dependencies

    def count_objects(self) -> dict[str, int]:
        """Count the objects in the snapshot, by kind."""
        return {kind.label: self._parts.snapshot.count(kind.type) for kind in self._parts.kinds}

    def on_revision(self, callback: Callable[[], None]) -> None:
        """Call back after the first full build and after each new revision."""
        self._callbacks.append(callback)

    def on_built(self, callback: Callable[[Iterable[ObjectKey]], None]) -> None:
        """Call back after each rebuild, with the services whose shadow services may have to change."""
        self._built_callbacks.append(callback)

    def apply(self, events: Sequence[Event], *, source: str) -> None:
        """Apply a batch of events, and publish the result as one revision.

        Until every source has listed every kind, batches are only collected; then all services are built, in order.
        """
        remapped = self._apply_shadows(events) if source == self._parts.shadow_source else set()
        affected = self._parts.snapshot.apply(events, source=source)
        if self._is_ready:
            keys = self._builds.dependencies.find_readers(affected) | self._find_new(events)
            self._rebuild(keys, remapped=remapped, affected=affected)
            return
        self._unlisted -= {(source, event.type) for event in events if isinstance(event, Replaced)}
        if not self._unlisted:
            self._rebuild(set(self._parts.snapshot.keys(Service)), is_everything=True)
            self._is_ready = True
            self._notify_revision()
        else:
            self._reports.update()

    def publish_collected(self) -> None:
        """Publish the entries about pods that were collected; another change of the configuration does so, too."""
        self._publish_entries(self._sections.take_collected)

    def render_configuration(self, since: str | None) -> bytes | None:
        """Render the configuration, or its changes since a revision; None if there are none."""
        return self._parts.revisions.render(since)

    def render_topology(self) -> bytes:
        """Render `/api/topology/current`."""
        if self._topology is None:
            document = render_topology(
                [built.draft.node for built in self._builds.built.values()],
                errors={key: self._list_errors(key) for key in self._builds.built},
                notices={key: built.configuration.notices for key, built in self._builds.built.items()},
            )
            self._topology = msgspec.json.encode(document)
        return self._topology

    def render_services(self) -> bytes:
        """Render `/api/services`."""
        if self._services is None:
            self._services = msgspec.json.encode(self.list_reports())
        return self._services

    def render_objects(self) -> bytes:
        """Render `/api/objects`."""
        return self._reports.render()

    def render_statuses(self, page: str) -> bytes:
        """Render `/api/status/PAGE`, which is one of `status_pages`."""
        return self._statuses.render(page)

    def list_reports(self) -> list[ServiceReport]:
        """Report each service that the mesh knows, sorted by namespace and name."""
        return [_report(self._builds.built[key], self._list_errors(key)) for key in sorted(self._builds.built)]

    def find_service_node(self, key: ObjectKey) -> ServiceNode | None:
        """Find the node of a service; None if there is no such service."""
        built = self._builds.built.get(key)
        return None if built is None else built.draft.node

    def find_finished(self, key: ObjectKey) -> ServiceNode | None:
        """Find the node of a service with all problems of its rules, for builders of statuses."""
        return self._builds.find_finished(key)

    def find_described(self, key: ObjectKey) -> tuple[ServiceNode, tuple[str, ...], tuple[str, ...]] | None:
        """Find the node, errors and notices of a service; None if there is no such service."""
        built = self._builds.built.get(key)
        return None if built is None else (built.draft.node, self._list_errors(key), built.configuration.notices)

    def list_described(self) -> list[tuple[ServiceNode, tuple[str, ...], tuple[str, ...]]]:
        """List the node, errors and notices of each service, sorted by namespace and name."""
        return [each for key in sorted(self._builds.built) if (each := self.find_described(key)) is not None]

    @property
    def transport_nodes(self) -> Mapping[str, Any]:
        """The nodes that take part in the transport, by name, as it describes them."""
        return self._sections.transport_nodes

    def refresh_transport(self) -> None:
        """Publish what the transport describes differently now."""
        self._publish_entries(self._sections.refresh_transport)

    def set_leading(self, *, is_leading: bool) -> None:
        """Start or stop assigning entrypoints that no shadow service has yet."""
        self._rebuild(set(), remapped=self._parts.ports.set_allocating(is_allocating=is_leading))

    def find_desired_shadow(self, key: ObjectKey) -> DesiredShadowService | None:
        """Compute the desired shadow service of a service; None if there should be none.

        Raises UndecidedShadowError if the traffic type is not supported.
        """
        built, service = self._builds.built.get(key), self._parts.snapshot.get(Service, key)
        if built is None or service is None:
            return None
        node = built.draft.node
        if not self._builds.is_supported(node):
            raise UndecidedShadowError(key)
        pairs = plan_entrypoints(node, self._parts.catalogue, self._parts.ports.find_assigned(key))
        if not pairs:
            return None
        # A headless service without selector has every IP family, even those that the cluster lacks (Kubernetes API).
        has_families = bool(service.spec.selector) or not node.is_headless
        return DesiredShadowService(
            service=key,
            ports=tuple(ShadowPort(port.number, port.name, port.protocol, target) for port, target in pairs),
            ip_families=service.spec.ip_families if has_families else (),
            ip_family_policy=service.spec.ip_family_policy if has_families else "",
        )

    def find_service(self, key: ObjectKey) -> Service | None:
        """Return a Service from the snapshot; it can be a shadow service."""
        return self._parts.snapshot.get(Service, key)

    def list_services(self) -> list[ObjectKey]:
        """List the services of the mesh, sorted."""
        return sorted(self._builds.built)

    def list_shadowed(self) -> list[ObjectKey]:
        """List the services that have a shadow service, whether or not they still exist."""
        reader = self._parts.shadow_reader
        return reader.list_originals() if reader else []

    def set_outside_errors(self, key: ObjectKey, errors: tuple[str, ...], *, aspect: str = "shadow service") -> None:
        """Set the errors of one aspect that do not come from a service's build; none clears them."""
        if self._reports.set_outside(key, errors, aspect=aspect):
            self._topology = self._services = None

    def list_assigned(self) -> dict[str, dict[PortOwner, int]]:
        """Copy the exclusive entrypoint of each service port, by traffic type."""
        return self._parts.ports.list_assigned()

    def _list_errors(self, key: ObjectKey) -> tuple[str, ...]:
        return (*self._builds.built[key].configuration.errors, *self._reports.list_outside(key))

    def _apply_shadows(self, events: Sequence[Event]) -> set[ObjectKey]:
        """Apply the entrypoints in shadow services; return the services whose own may differ now."""
        reader = self._parts.shadow_reader
        if reader is None:
            return set()
        concerned: set[ObjectKey] = set()
        for key, written in reader.read(events).items():
            concerned |= self._parts.ports.apply_written(key, written) | {key}
        return concerned

    def _publish_entries(self, read_changes: Callable[[], EntryChanges]) -> None:
        """Publish changes of entries that belong to no service; before the first build, nothing is read."""
        if self._is_ready and self._builds.publish({}, read_changes()):
            self._notify_revision()

    def _notify_revision(self) -> None:
        for callback in self._callbacks:
            callback()

    def _find_new(self, events: Iterable[Event]) -> set[ObjectKey]:
        """List the services in these events that have not been built yet."""
        reported: set[ObjectKey] = set()
        for event in events:
            if isinstance(event, Applied) and type(event.resource) is Service:
                reported.add(event.resource.key)
            elif isinstance(event, Replaced) and event.type is Service:
                reported.update(resource.key for resource in event.resources)
        return {key for key in reported if key not in self._builds.dependencies}

    def _rebuild(
        self,
        keys: set[ObjectKey],
        *,
        is_everything: bool = False,
        remapped: Collection[ObjectKey] = (),
        affected: Collection[Read] = (),
    ) -> None:
        """Rebuild services; those that are `remapped` keep their node and get a new configuration."""
        parts = self._parts
        drafts = self._builds.draft(keys)
        version = parts.ports.version
        claims = {key: draft.claims if draft else () for key, draft in drafts.items()}
        # A service that was waiting for an entrypoint keeps its node and gets a new configuration.
        for key in (*parts.ports.apply_claims(claims, is_everything=is_everything), *remapped):
            if key not in drafts and key in self._builds.built:
                drafts[key] = self._builds.built[key].draft
        if parts.shadow_reader is None and (is_everything or parts.ports.version != version):
            parts.mapping_file.save(parts.ports.list_assigned())
        nodes = {key: None if draft is None else draft.node for key, draft in drafts.items()}
        entries = self._sections.update(nodes, affected, is_everything=is_everything)
        has_changed = self._builds.publish(drafts, entries)
        if drafts:
            self._topology = self._services = None
        for key in drafts:
            self._report_service(key)
            self._statuses.set_service(key, self._builds.find_finished(key))
        self._reports.update(affected, is_everything=is_everything)
        self._statuses.update(affected, is_everything=is_everything)
        for callback in self._built_callbacks:
            callback({*drafts, *remapped})
        if has_changed and self._is_ready:
            self._notify_revision()

    def _report_service(self, key: ObjectKey) -> None:
        built, logged = self._builds.built.get(key), self._builds.find_failure(key)
        if built is None:
            self._reports.forget_service(key)
            return
        configuration = built.configuration
        notices = tuple(text for text in configuration.notices if not text.endswith(WAITING))
        own = Findings(errors=configuration.errors, notices=notices)
        node = self._builds.find_finished(key) or built.draft.node
        objects = (*node.objects, *_list_rule_findings(node))
        self._reports.set_service(key, own, objects, logged=(logged,) if logged else ())


def _list_rule_findings(node: ServiceNode) -> Iterator[ObjectFindings]:
    """List the problems of rules as errors of the objects that define them."""
    for problem in node.rule_problems:
        if problem.origin is not None:
            type_, key = problem.origin
            text = f"{problem.place}: {problem.text}" if problem.place else problem.text
            yield ObjectFindings(type=type_, key=key, errors=(text,))


def _report(built: Built, errors: tuple[str, ...]) -> ServiceReport:
    node = built.draft.node
    return ServiceReport(
        namespace=node.key.namespace,
        name=node.key.name,
        host=f"{node.key.name}.{node.key.namespace}.maesh",
        traffic_type=node.traffic_type,
        ports=built.configuration.ports,
        errors=errors,
        notices=built.configuration.notices,
        encryption=built.configuration.encryption or msgspec.UNSET,
    )
