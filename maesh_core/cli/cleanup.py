"""`maesh cleanup`: restores the cluster's DNS, and deletes the shadow services."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from maesh_core.cli.cluster_dns import run_plan
from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_command
from maesh_core.settings import CleanupSettings, InstalledPlugin, PrepareSettings

if TYPE_CHECKING:
    from maesh_core.controller.dns.patching import ClusterDns
    from maesh_core.controller.dns.plan import Plan


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""
    command = build_command(CleanupSettings, run, installed=installed)
    application.command("cleanup", cls=GroupedCommand)(command)


def run(settings: CleanupSettings) -> None:
    """Restore the cluster's DNS, and delete the shadow services.

    Stop the controller first. Otherwise it writes both again.
    """
    run_plan(settings, _plan, cluster_domain=PrepareSettings.cluster_domain)


async def _plan(dns: "ClusterDns") -> "Plan":
    return await dns.plan_removal()
