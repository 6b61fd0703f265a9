"""The API that commands of plugins read with `--manifests`: what a controller with these manifests would answer.

Takes the settings and paths of a command, and builds the engine once. Answers some paths of a controller's API, and
refuses all others. Raises MaeshError.
"""

import urllib.parse
from collections.abc import Callable, Mapping

import msgspec

from maesh_core.controller.building import build_with_origins
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.errors import ConfigurationError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import PodsReport
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.settings import InstalledPlugin, ManifestCommandSettings
from maesh_core.settings.states import build_controller_settings


class ManifestsApi:
    """Implements `CommandApi` with an engine that was built from manifests."""

    name = "manifests"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._documents: Mapping[str, Callable[[], bytes]] = {
            "/api/topology/current": engine.render_topology,
            "/api/configuration/current": lambda: engine.render_configuration(None) or b"{}",
            "/api/objects": engine.render_objects,
        }

    def __repr__(self) -> str:
        return f"<ManifestsApi of {self._engine!r}>"

    async def fetch(self, path: str) -> bytes:
        """Answer a path. Raises ConfigurationError for one that needs a controller."""
        plain, _, query = path.partition("?")
        if plain == "/api/pods":
            return msgspec.json.encode(self._find_pods(dict(urllib.parse.parse_qsl(query))))
        render = self._documents.get(plain)
        if render is None:
            raise ConfigurationError(f"manifests do not have {plain}: only a running controller has it")
        return render()

    async def post(self, path: str, body: bytes) -> bytes:
        """Refuse to change anything. Raises ConfigurationError."""
        raise ConfigurationError(f"manifests cannot be changed by {path}: only a running controller can")

    def _find_pods(self, query: Mapping[str, str]) -> PodsReport:
        if "address" in query:
            return self._engine.pods.find_by_address(query["address"])
        return self._engine.pods.find_by_name(ObjectKey(query.get("namespace", ""), query.get("name", "")))


async def build_manifests_api(
    settings: ManifestCommandSettings, paths: tuple[str, ...], plugin: InstalledPlugin | None = None
) -> ManifestsApi:
    """Build the engine from manifests, with the enabled plugins and `plugin`, the one that has the command.

    Workloads count as pods, because manifests that are kept in a repository have no Pods.
    """
    enabled = settings.plugins
    if plugin is not None and plugin.name not in {each.name for each in enabled}:
        enabled = (*enabled, plugin)
    controller = build_controller_settings(settings, paths, enabled)
    plugins = load_plugins("controller", enabled, settings.plugin_settings, origins=settings.origins)
    engine, _ = await build_with_origins(controller, plugins, makes_pods=True)
    return ManifestsApi(engine)
