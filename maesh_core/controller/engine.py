"""The incremental rebuild: takes events and publishes a new revision, at a cost that depends only on the change.

Combines snapshot, topology, port tables and configuration. A service's build depends on the resources it reads and on
its entrypoints; it is repeated only if one of these changes. Its only I/O is saving the port mapping. An error in one
service's build affects only that service.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import msgspec

from maesh_core.controller.cluster.shadow_services import (
    DesiredShadowService,
    ShadowPort,
    ShadowReader,
    UndecidedShadowError,
)
from maesh_core.controller.configuration.builder import (
    WAITING,
    build_service_configuration,
    plan_claims,
    plan_entrypoints,
)
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.revisions import RevisionStore
from maesh_core.controller.dependencies import DependencyIndex
from maesh_core.controller.explaining.pod_lookup import PodLookup
from maesh_core.controller.ports.assignment import PortClaim, PortTables
from maesh_core.controller.ports.mapping_file import PortMappingFile
from maesh_core.controller.ports.port_table import PortOwner
from maesh_core.controller.reports.object_reports import ObjectReports
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import Read
from maesh_core.controller.topology.builder import build_service_node
from maesh_core.controller.topology.rendering import render_topology
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.configuration import ServiceConfiguration
from maesh_core.model.events import Applied, Event, Problem, Replaced
from maesh_core.model.findings import Findings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import ServiceReport
from maesh_core.model.resources import ResourceKind, Service
from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.hookspecs import MiddlewareBuilder, ObjectChecker, TopologyBuilder

_log = logging.getLogger(__name__)


class EngineParts(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of an engine. The first build waits until each of `sources` has listed every one of `kinds`.

    With a `shadow_reader`, a cluster's shadow services store the mapping of entrypoints, instead of the file; only
    shadow services from `shadow_source` count.
    """

    snapshot: Snapshot
    rules: TopologyRules
    builders: Sequence[TopologyBuilder]
    catalogue: Catalogue
    ports: PortTables
    mapping_file: PortMappingFile
    revisions: RevisionStore
    sources: tuple[str, ...]
    kinds: tuple[ResourceKind, ...]
    shadow_reader: ShadowReader | None = None
    shadow_source: str = ""
    checkers: Sequence[ObjectChecker] = ()


class _Draft(msgspec.Struct, frozen=True):
    """A service before it has entrypoints: its node, its claim, and the failure so far."""

    node: ServiceNode
    claim: PortClaim | None
    failure: str | None


class _Built(msgspec.Struct, frozen=True):
    """A service of the mesh, and its configuration."""

    draft: _Draft
    configuration: ServiceConfiguration


class Engine:
    """Holds the snapshot and everything that is built from it."""

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._callbacks: list[Callable[[], None]] = []
        self._built_callbacks: list[Callable[[Iterable[ObjectKey]], None]] = []
        self._reports = ObjectReports(parts.snapshot, parts.kinds, parts.checkers, parts.rules)
        types = [kind.type for kind in parts.kinds]
        self._unlisted = {(source, type_) for source in parts.sources for type_ in types}
        self._is_ready = False
        self._dependencies: DependencyIndex[ObjectKey] = DependencyIndex()
        self._built: dict[ObjectKey, _Built] = {}
        self._failures: dict[ObjectKey, str] = {}
        self._failing: set[ObjectKey] = set()  # in this rebuild
        self._rebuilt_count = 0
        self._topology: bytes | None = None
        self._services: bytes | None = None

    def __repr__(self) -> str:
        state = "ready" if self._is_ready else f"{len(self._unlisted)} lists missing"
        return f"<Engine {state} services={len(self._built)} revision={self.revision}>"

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
        return self._rebuilt_count

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
    def dependencies(self) -> DependencyIndex[ObjectKey]:
        """The reads of each service."""
        return self._dependencies

    def count_objects(self) -> dict[str, int]:
        """Count the objects in the snapshot, by kind."""
        return {kind.name: self._parts.snapshot.count(kind.type) for kind in self._parts.kinds}

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
            keys = self._dependencies.find_readers(affected) | self._find_new(events)
            self._rebuild(keys, remapped=remapped, affected=affected)
            return
        self._unlisted -= {(source, event.type) for event in events if isinstance(event, Replaced)}
        if not self._unlisted:
            self._rebuild(set(self._parts.snapshot.keys(Service)), is_everything=True)
            self._is_ready = True
            self._notify_revision()
        else:
            self._reports.update()

    def render_configuration(self, since: str | None) -> bytes | None:
        """Render the configuration, or its changes since a revision; None if there are none."""
        return self._parts.revisions.render(since)

    def render_topology(self) -> bytes:
        """Render `/api/topology/current`."""
        if self._topology is None:
            document = render_topology(
                [built.draft.node for built in self._built.values()],
                errors={key: self._list_errors(key) for key in self._built},
                notices={key: built.configuration.notices for key, built in self._built.items()},
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

    def list_reports(self) -> list[ServiceReport]:
        """Report each service that the mesh knows, sorted by namespace and name."""
        return [_report(self._built[key], self._list_errors(key)) for key in sorted(self._built)]

    def find_service_node(self, key: ObjectKey) -> ServiceNode | None:
        """Find the node of a service; None if there is no such service."""
        built = self._built.get(key)
        return None if built is None else built.draft.node

    def list_described(self) -> list[tuple[ServiceNode, tuple[str, ...], tuple[str, ...]]]:
        """List the node, errors and notices of each service, sorted by namespace and name."""
        return [
            (built.draft.node, self._list_errors(key), built.configuration.notices)
            for key, built in sorted(self._built.items())
        ]

    def set_leading(self, *, is_leading: bool) -> None:
        """Start or stop assigning entrypoints that no shadow service has yet."""
        self._rebuild(set(), remapped=self._parts.ports.set_allocating(is_allocating=is_leading))

    def find_desired_shadow(self, key: ObjectKey) -> DesiredShadowService | None:
        """Compute the desired shadow service of a service; None if there should be none.

        Raises UndecidedShadowError if the traffic type is not supported.
        """
        built, service = self._built.get(key), self._parts.snapshot.get(Service, key)
        if built is None or service is None:
            return None
        node = built.draft.node
        if not self._is_supported(node):
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
        return sorted(self._built)

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
        return (*self._built[key].configuration.errors, *self._reports.list_outside(key))

    def _apply_shadows(self, events: Sequence[Event]) -> set[ObjectKey]:
        """Apply the entrypoints in shadow services; return the services whose own may differ now."""
        reader = self._parts.shadow_reader
        if reader is None:
            return set()
        concerned: set[ObjectKey] = set()
        for key, written in reader.read(events).items():
            concerned |= self._parts.ports.apply_written(key, written) | {key}
        return concerned

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
        return {key for key in reported if key not in self._dependencies}

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
        self._failing.clear()
        drafts = {key: self._draft(key) for key in sorted(keys)}
        version = parts.ports.version
        claims = {key: draft.claim if draft else None for key, draft in drafts.items()}
        # A service that was waiting for an entrypoint keeps its node and gets a new configuration.
        for key in (*parts.ports.apply_claims(claims, is_everything=is_everything), *remapped):
            if key not in drafts and key in self._built:
                drafts[key] = self._built[key].draft
        if parts.shadow_reader is None and (is_everything or parts.ports.version != version):
            parts.mapping_file.save(parts.ports.list_assigned())
        changes = {key: self._configure(key, draft) for key, draft in sorted(drafts.items())}
        has_changed = self._publish(changes)
        for key in drafts.keys() - self._failing:
            self._failures.pop(key, None)
        if drafts:
            self._topology = self._services = None
        for key in drafts:
            self._report_service(key)
        self._reports.update(affected, is_everything=is_everything)
        for callback in self._built_callbacks:
            callback({*drafts, *remapped})
        if has_changed and self._is_ready:
            self._notify_revision()

    def _report_service(self, key: ObjectKey) -> None:
        built, logged = self._built.get(key), self._failures.get(key)
        if built is None:
            self._reports.forget_service(key)
            return
        configuration = built.configuration
        notices = tuple(text for text in configuration.notices if not text.endswith(WAITING))
        own = Findings(errors=configuration.errors, notices=notices)
        self._reports.set_service(key, own, built.draft.node.objects, logged=(logged,) if logged else ())

    def _draft(self, key: ObjectKey) -> _Draft | None:
        """Build a service's node and record its reads, even after an error; None if it is gone or ignored."""
        parts = self._parts
        self._rebuilt_count += 1
        view = parts.snapshot.view()
        draft, failure = None, None
        for builders in (parts.builders, ()):
            try:
                node = build_service_node(view, key, rules=parts.rules, builders=builders)
                draft = _Draft(node, self._build_claim(node), failure) if node else None
                break
            except Exception as error:  # a plugin's builder may raise anything: only this service is affected
                failure = self._describe_failure(key, "topology", error)
        else:
            node = ServiceNode(key=key, traffic_type=None)
            draft = _Draft(node, self._build_claim(node), failure)
        if parts.snapshot.get(Service, key) is None:
            self._dependencies.forget(key)
            return None
        self._dependencies.set_reads(key, view.reads)
        return draft

    def _build_claim(self, node: ServiceNode) -> PortClaim | None:
        """Compute a service's claim; if its traffic type is unknown, it keeps its current one."""
        tables, traffic_type = self._parts.ports, node.traffic_type
        has_shadow = self._parts.shadow_reader is not None
        if traffic_type is None or (has_shadow and not self._is_supported(node)):
            return tables.find_claim(node.key) or tables.find_written(node.key)
        if not tables.is_exclusive(traffic_type):
            return None
        ports = plan_claims(node, self._parts.catalogue)
        return PortClaim(traffic_type, tuple(port.number for port in ports))

    def _is_supported(self, node: ServiceNode) -> bool:
        return node.traffic_type in self._parts.catalogue.traffic_types

    def _configure(self, key: ObjectKey, draft: _Draft | None) -> ServiceConfiguration | None:
        if draft is None:
            self._built.pop(key, None)
            return None
        configuration = self._build_configuration(draft)
        self._built[key] = _Built(draft, configuration)
        return configuration

    def _build_configuration(self, draft: _Draft) -> ServiceConfiguration:
        """Build a service's configuration; if that fails its closed form, and if that fails, only the error."""
        parts, key = self._parts, draft.node.key
        entrypoints = parts.ports.find_entrypoints(key)
        pending = parts.ports.find_pending(key)
        errors = (draft.failure,) if draft.failure else ()
        for _ in range(2):
            try:
                return build_service_configuration(
                    draft.node, catalogue=parts.catalogue, entrypoints=entrypoints, pending=pending, errors=errors
                )
            except Exception as error:  # a plugin's code may raise anything: only this service is affected
                failure = self._describe_failure(key, "configuration", error)
                errors = errors if failure in errors else (*errors, failure)
        return ServiceConfiguration(errors=errors)

    def _publish(self, changes: Mapping[ObjectKey, ServiceConfiguration | None]) -> bool:
        """Publish the changes as one revision; return whether anything differs.

        The store applies all changes or none. If a plugin returned something that cannot be sent, every service is
        published separately.
        """
        store = self._parts.revisions
        try:
            return store.apply(changes)
        except Exception:  # the service is determined and logged below
            outcomes = [self._publish_alone(key, configuration) for key, configuration in changes.items()]
            return any(outcomes)

    def _publish_alone(self, key: ObjectKey, configuration: ServiceConfiguration | None) -> bool:
        store = self._parts.revisions
        try:
            return store.apply({key: configuration})
        except Exception as error:  # a plugin's traffic type may return anything: only this service is affected
            failure = self._describe_failure(key, "configuration", error)
            errors = (*(configuration.errors if configuration else ()), failure)
            emptied = ServiceConfiguration(errors=errors)
            self._built[key] = _Built(self._built[key].draft, emptied)
            return store.apply({key: emptied})

    def _describe_failure(self, key: ObjectKey, stage: str, error: Exception) -> str:
        """Describe an unexpected exception; its traceback is logged once for as long as it lasts."""
        cause = " ".join(str(error).split())
        text = f"the {stage} of this service could not be built: {type(error).__name__}: {cause}"
        if self._failures.get(key) != text:
            _log.error("service %s: %s", key, text, exc_info=error)
        self._failures[key] = text
        self._failing.add(key)
        return text


def _report(built: _Built, errors: tuple[str, ...]) -> ServiceReport:
    node = built.draft.node
    return ServiceReport(
        namespace=node.key.namespace,
        name=node.key.name,
        host=f"{node.key.name}.{node.key.namespace}.maesh",
        traffic_type=node.traffic_type,
        ports=built.configuration.ports,
        errors=errors,
        notices=built.configuration.notices,
    )
