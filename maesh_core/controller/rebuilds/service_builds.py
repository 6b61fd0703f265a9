"""Builds single services: first the node and its claim on entrypoints, then the configuration, which it publishes.

Takes the keys of services and the engine's parts; keeps what it built last, and what each service has read. The engine
decides which services are built and assigns their entrypoints in between. A plugin's exception, or a result that cannot
be sent, affects only its service.
"""

import logging
from collections.abc import Iterable, Mapping

import msgspec

from maesh_core.controller.configuration.builder import build_service_configuration
from maesh_core.controller.configuration.port_plan import claim_entrypoints, find_unsupported_types, list_groups
from maesh_core.controller.configuration.revisions import EntryChanges
from maesh_core.controller.ports.assignment import PortClaim
from maesh_core.controller.rebuilds.dependencies import DependencyIndex
from maesh_core.controller.rebuilds.engine_parts import EngineParts
from maesh_core.controller.topology.builder import build_service_node
from maesh_core.model.configuration import ServiceConfiguration
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service
from maesh_core.model.topology import ServiceNode

_log = logging.getLogger(__name__)


class Draft(msgspec.Struct, frozen=True):
    """A service before it has entrypoints: its node, its claims, and the failure so far."""

    node: ServiceNode
    claims: tuple[PortClaim, ...]
    failure: str | None


class Built(msgspec.Struct, frozen=True):
    """A service of the mesh, and its configuration."""

    draft: Draft
    configuration: ServiceConfiguration


class ServiceBuilds:
    """The services of the mesh, as they were built last. `count` is the number of builds of single services so far."""

    __slots__ = ("_failing", "_failures", "_parts", "built", "count", "dependencies")

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._failures: dict[ObjectKey, str] = {}
        self._failing: set[ObjectKey] = set()  # in this rebuild
        self.built: dict[ObjectKey, Built] = {}
        self.dependencies: DependencyIndex[ObjectKey] = DependencyIndex()
        self.count = 0

    def __repr__(self) -> str:
        return f"<ServiceBuilds of {len(self.built)} services, {len(self._failures)} failed>"

    def draft(self, keys: Iterable[ObjectKey]) -> dict[ObjectKey, Draft | None]:
        """Build the nodes of these services, in order; None for a service that is gone or ignored."""
        self._failing.clear()
        return {key: self._draft(key) for key in sorted(keys)}

    def publish(self, drafts: Mapping[ObjectKey, Draft | None], entries: EntryChanges) -> bool:
        """Build the configuration of these services, and publish it together with changed entries of other sections.

        Returns whether anything differs.
        """
        changes = {key: self._configure(key, draft) for key, draft in sorted(drafts.items())}
        has_changed = self._publish_together(changes, entries)
        for key in drafts.keys() - self._failing:
            self._failures.pop(key, None)
        return has_changed

    def find_failure(self, key: ObjectKey) -> str | None:
        """Return the description of a service's unexpected exception, which is in the log; None if there was none."""
        return self._failures.get(key)

    def _draft(self, key: ObjectKey) -> Draft | None:
        """Build a service's node and record its reads, even after an error; None if it is gone or ignored."""
        parts = self._parts
        self.count += 1
        view = parts.snapshot.view()
        draft, failure = None, None
        for builders in (parts.builders, ()):
            try:
                node = build_service_node(view, key, rules=parts.rules, builders=builders)
                draft = Draft(node, self._build_claims(node), failure) if node else None
                break
            except Exception as error:  # a plugin's builder may raise anything: only this service is affected
                failure = self._describe_failure(key, "topology", error)
        else:
            node = ServiceNode(key=key, traffic_type=None)
            draft = Draft(node, self._build_claims(node), failure)
        if parts.snapshot.get(Service, key) is None:
            self.dependencies.forget(key)
            return None
        self.dependencies.set_reads(key, view.reads)
        return draft

    def _build_claims(self, node: ServiceNode) -> tuple[PortClaim, ...]:
        """Compute a service's claims; if a traffic type is unknown, it keeps its current ones."""
        tables, groups = self._parts.ports, list_groups(node, self._parts.catalogue)
        unsupported = find_unsupported_types(groups)
        has_shadow = self._parts.shadow_reader is not None
        if None in unsupported or (has_shadow and unsupported):
            return tables.find_claims(node.key) or tables.find_written(node.key)
        return tuple(PortClaim(name, numbers) for name, numbers in claim_entrypoints(node, groups).items())

    def is_supported(self, node: ServiceNode) -> bool:
        """Whether the traffic types of a service's ports are those of the core or of enabled plugins."""
        return not find_unsupported_types(list_groups(node, self._parts.catalogue))

    def _configure(self, key: ObjectKey, draft: Draft | None) -> ServiceConfiguration | None:
        if draft is None:
            self.built.pop(key, None)
            return None
        configuration = self._build_configuration(draft)
        self.built[key] = Built(draft, configuration)
        return configuration

    def find_finished(self, key: ObjectKey) -> ServiceNode | None:
        """Return the node of a service with all problems of its rules; None if there is no such service."""
        built = self.built.get(key)
        if built is None:
            return None
        node, problems = built.draft.node, built.configuration.rule_problems
        return msgspec.structs.replace(node, rule_problems=(*node.rule_problems, *problems)) if problems else node

    def _build_configuration(self, draft: Draft) -> ServiceConfiguration:
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

    def _publish_together(
        self, changes: Mapping[ObjectKey, ServiceConfiguration | None], entries: EntryChanges
    ) -> bool:
        """Publish the changes as one revision; return whether anything differs.

        The store applies all changes or none. If a plugin returned something that cannot be sent, every service is
        published separately.
        """
        store = self._parts.revisions
        try:
            return store.apply(changes, entries=entries)
        except Exception:  # the service is determined and logged below
            outcomes = [self._publish_alone(key, configuration) for key, configuration in changes.items()]
            return any([store.apply({}, entries=entries), *outcomes])

    def _publish_alone(self, key: ObjectKey, configuration: ServiceConfiguration | None) -> bool:
        store = self._parts.revisions
        try:
            return store.apply({key: configuration})
        except Exception as error:  # a plugin's traffic type may return anything: only this service is affected
            failure = self._describe_failure(key, "configuration", error)
            errors = (*(configuration.errors if configuration else ()), failure)
            emptied = ServiceConfiguration(errors=errors)
            self.built[key] = Built(self.built[key].draft, emptied)
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
