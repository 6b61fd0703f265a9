"""`maesh check`: finds what is wrong with manifests, or with a mesh that runs.

With PATHs, the whole engine runs on the manifests, without a cluster (manifests.py). With --cluster, cluster.py asks
the cluster, the controllers and the proxies. The exit status is 3 if something is wrong, for use in pipelines.
"""

from collections.abc import Sequence

import typer

from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_command
from maesh_core.errors import SettingsError
from maesh_core.process.logging_setup import configure_logging
from maesh_core.settings import InstalledPlugin
from maesh_core.settings.check import CheckSettings

FOUND_STATUS = 3


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""
    command = build_command(CheckSettings, run, installed=installed, takes_paths=True)
    application.command("check", cls=GroupedCommand)(command)


def run(settings: CheckSettings) -> None:
    """Check the manifests at PATHs without a cluster: errors, objects without effect, rules that never apply.

    With --cluster, the command checks the mesh that runs in a cluster instead.
    """
    configure_logging(settings.log_level, settings.log_format)
    if settings.cluster:
        if settings.paths:
            raise SettingsError("--cluster checks the mesh that runs: omit PATH, or omit --cluster")
        from maesh_core.cli.check.cluster import run_cluster_check  # the client of a cluster, only if it is asked for

        run_cluster_check(settings)
        return
    if not settings.paths:
        raise SettingsError("nothing to check: name manifests (PATH), or use --cluster")
    from maesh_core.cli.check.manifests import run_manifest_check  # the whole engine, only if it is asked for

    if run_manifest_check(settings):
        raise typer.Exit(FOUND_STATUS)
