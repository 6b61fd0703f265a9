"""One state of a mesh, built once: its documents, the clients that it knows, and an explainer for many questions.

Takes an engine and the plugins that built it. Each service port gets an explainer of its own that only sees what
concerns the port, because an explanation reads the rules of the whole topology it is given.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from maesh_core.controller.building import Plugins
from maesh_core.controller.explaining.explanation import ExplainedRequest, Explainer, Explanation
from maesh_core.controller.explaining.objects import follow_splits
from maesh_core.controller.explaining.sources import read_engine
from maesh_core.controller.mesh_states.clients import Account, IndexedPods, add_clients, find_client_pod
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.errors import ConfigurationError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import Update
from maesh_core.plugin_system.interfaces import Verdict

TARGETS = "serviceTrafficTargets"
"""The section of the topology with the rules of access control, which grows with the mesh."""


class GuardedPlugins(Plugins, Protocol):
    """The enabled plugins, and which of them decide who may reach services (plugin_system/loading.py)."""

    def is_guard(self, provided: object) -> bool:
        """Whether the plugin that returned an object from a hook decides who may reach services."""


class MeshState:
    """What manifests or a cluster make of the mesh. `label` names the source for people.

    `folder` is a temporary one that has the manifests: problems name `label` in its place.
    """

    def __init__(self, engine: Engine, plugins: GuardedPlugins, *, label: str = "", folder: str = "") -> None:
        self.label = label
        self._folder = folder
        self.engine = engine
        self.builders: Mapping[str, Any] = {each.kind: each for each in engine.middleware_builders}
        self.guards = frozenset(kind for kind, each in self.builders.items() if plugins.is_guard(each))
        self._pods = IndexedPods(engine)
        self._read()

    def __repr__(self) -> str:
        return f"<MeshState {self.label} of {len(self.topology['services'])} services>"

    def _read(self) -> None:
        sources = read_engine(self.engine)
        self.topology: Mapping[str, Any] = sources.topology
        self.update: Update = sources.update
        self.problems: Mapping[str, str] = {
            self._rename(origin): self._rename(text) for origin, text in sources.problems.items()
        }
        self._targets: dict[str, dict[str, Any]] = {}
        for name, target in self.topology.get(TARGETS, {}).items():
            self._targets.setdefault(str(target.get("service")), {})[name] = target

    def _rename(self, text: str) -> str:
        return text.replace(self._folder, self.label) if self._folder else text

    def add_clients(self, accounts: Iterable[Account]) -> None:
        """Make sure that each of these service accounts has a pod."""
        if add_clients(self.engine, accounts):
            self._read()

    def find_account(self, address: str) -> str:
        """Find the service account, `namespace/name`, of the pods at an address; empty if there is none or several."""
        pods = self._pods.find_by_address(address).pods
        accounts = {f"{pod.namespace}/{pod.service_account}" for pod in pods}
        return accounts.pop() if len(accounts) == 1 else ""

    def name_client(self, account: Account) -> str:
        """Name a pod of an account as an explainer expects it; empty if no pod identifies the account."""
        key = find_client_pod(self.engine, account)
        return "" if key is None else f"{key.namespace}/{key.name}"

    def build_explainer(self, service: ObjectKey, *, is_open: bool = False) -> Explainer:
        """Build an explainer of requests to one service; with `is_open`, one that ignores access control."""
        reached, _ = follow_splits(self.topology, str(service))
        targets = {name: each for key in reached for name, each in self._targets.get(key, {}).items()}
        topology = {**self.topology, "services": reached, TARGETS: targets}
        hidden = self.guards if is_open else frozenset()
        builders = {kind: _Silent() if kind in hidden else each for kind, each in self.builders.items()}
        return Explainer(
            topology, self.update, builders, pods=self._pods, problems=self.problems, services=self.list_services()
        )

    def list_services(self) -> Sequence[ObjectKey]:
        """List the services of the mesh."""
        return self.engine.list_services()

    def explain(self, request: ExplainedRequest, explainer: Explainer | None = None) -> Explanation | None:
        """Explain a request; None if the service or its port does not exist, or there is no such client."""
        key = ObjectKey(*request.service.split("/"))
        try:
            return (explainer or self.build_explainer(key)).explain(request)
        except ConfigurationError:
            return None


class _Silent:
    """Replaces the builder of a guard where access control is ignored: admits every request, and describes nothing."""

    def describe(self, settings: Mapping[str, object]) -> Sequence[str]:
        return ()

    def explain(self, settings: Mapping[str, object], question: object) -> Verdict:
        return Verdict(is_admitted=True)
