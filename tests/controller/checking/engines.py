"""Engines that have run on manifests, without plugins."""

from maesh_core.controller.building import build_with_origins
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.settings import ControllerSettings


async def build_engine_of(folder, text, **options):
    """Write a file into a folder, and build everything from it; returns the engine and the origins of objects."""
    path = folder / "engine.yaml"
    path.write_text(text)
    plugins = load_plugins("controller", (), {})
    return await build_with_origins(ControllerSettings(paths=(str(path),), **options), plugins, makes_pods=True)
