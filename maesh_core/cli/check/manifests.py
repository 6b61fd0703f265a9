"""Checks manifests: builds everything as a controller would, and prints the findings.

Takes settings; returns whether there are findings of the severity that fails a pipeline. Raises StartupError if the
check itself cannot run, as for a path that does not exist.
"""

import asyncio
import gc

from maesh_core.cli.check.rendering import render_result
from maesh_core.controller.building import Origins, build_with_origins
from maesh_core.controller.checking.collecting import collect_findings
from maesh_core.controller.checking.finding import CheckResult
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.errors import SettingsError
from maesh_core.plugin_system.loading import LoadedPlugins, load_plugins
from maesh_core.settings.check import CheckSettings
from maesh_core.settings.states import build_controller_settings


def run_manifest_check(settings: CheckSettings) -> bool:
    """Check manifests, and print the result; return whether the check has failed."""
    result = check_manifests(settings)
    print(render_result(result, "json" if settings.json else settings.format))  # noqa: T201 - what was asked for
    return result.is_failed(settings.fail_on)


def check_manifests(settings: CheckSettings) -> CheckResult:
    """Check manifests. The garbage collector pauses: it would take a third of the time, and everything is in use."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return _check(settings)
    finally:
        if was_enabled:
            gc.enable()


def _check(settings: CheckSettings) -> CheckResult:
    plugins = load_plugins("controller", settings.plugins, settings.plugin_settings, origins=settings.origins)
    engine, origins = asyncio.run(_build(settings, plugins))
    checkers = plugins.collect("maesh_policy_checkers")
    ignored = [code.upper() for code in settings.ignore_codes]
    result = collect_findings(engine, origins, checkers, ignored=ignored, describe=plugins.describe)
    unknown = set(ignored) - {kind.code for kind in result.rules}
    if unknown:
        raise SettingsError(f"--ignore-codes: no finding has the code {min(unknown)!a}")
    return result


async def _build(settings: CheckSettings, plugins: LoadedPlugins) -> tuple[Engine, Origins]:
    controller = build_controller_settings(settings, settings.paths, settings.plugins)
    return await build_with_origins(controller, plugins, makes_pods=True)
