"""Runs the scenario files of `maesh simulate`: reads them, builds the states that they name, and runs their cases.

Takes settings and paths; returns results in the order of the files. Files with the same manifests and plugins share one
state. Raises MaeshError for what cannot be read.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from maesh_core.controller.discovery.manifests.files import read_content
from maesh_core.controller.mesh_states.reading import build_manifest_state
from maesh_core.controller.simulating.results import ScenarioResult
from maesh_core.controller.simulating.scenarios import Scenario, parse_scenario
from maesh_core.controller.simulating.simulation import Simulation
from maesh_core.errors import ManifestError, PluginError, SettingsError, StartupError
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings import InstalledPlugin
from maesh_core.settings.states import SimulateSettings, build_controller_settings
from maesh_core.values.spelling import suggest

SUFFIXES = (".yaml", ".yml")
_StateName = tuple[tuple[str, ...], tuple[InstalledPlugin, ...]]


async def run_scenarios(
    settings: SimulateSettings, paths: Sequence[str], manifests: tuple[str, ...] = ()
) -> list[ScenarioResult]:
    """Run the scenarios at these paths; `manifests` replace those that they name."""
    simulations: dict[_StateName, Simulation] = {}
    results = []
    for path in _list_files(paths):
        scenario = _read(path)
        name = (manifests or _find_manifests(scenario), _find_plugins(scenario, settings))
        if name not in simulations:
            simulations[name] = await _build(settings, *name)
        results.append(simulations[name].run(scenario))
    return results


def _list_files(paths: Sequence[str]) -> Iterator[Path]:
    """List the files at these paths; a folder has the files that end in .yaml or .yml. Raises StartupError."""
    for text in paths:
        path = Path(text)
        if not path.is_dir():
            yield path
            continue
        found = sorted(each for each in path.iterdir() if each.suffix in SUFFIXES and each.is_file())
        if not found:
            raise StartupError(f"{text}: no file in it ends in {' or '.join(SUFFIXES)}")
        yield from found


def _read(path: Path) -> Scenario:
    try:
        _, content = read_content(str(path), str(path))
    except FileNotFoundError as error:
        raise StartupError(f"{path}: no such file or folder") from error
    try:
        return parse_scenario(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise ManifestError(str(path), "not UTF-8") from error


def _find_manifests(scenario: Scenario) -> tuple[str, ...]:
    """Find the paths of the manifests, which are relative to the file. Raises SettingsError."""
    if not scenario.manifests:
        raise SettingsError(f"{scenario.path} names no manifests: add them to it, or use --manifests")
    folder = Path(scenario.path).parent
    return tuple(str(folder / each) for each in scenario.manifests)


def _find_plugins(scenario: Scenario, settings: SimulateSettings) -> tuple[InstalledPlugin, ...]:
    """Find the enabled plugins and those that the file adds. Raises PluginError."""
    enabled = {each.name: each for each in settings.plugins}
    installed = {each.name: each for each in list_installed()}
    for name in scenario.plugins:
        if name not in installed:
            raise PluginError(f"{scenario.path}: plugin {name!r} is not installed{suggest(name, installed)}")
        enabled.setdefault(name, installed[name])
    return tuple(enabled[name] for name in sorted(enabled))


async def _build(
    settings: SimulateSettings, manifests: tuple[str, ...], plugins: tuple[InstalledPlugin, ...]
) -> Simulation:
    controller = build_controller_settings(settings, manifests, plugins)
    loaded = load_plugins("controller", plugins, settings.plugin_settings, origins=settings.origins)
    return Simulation(await build_manifest_state(controller, loaded, ", ".join(manifests)))
