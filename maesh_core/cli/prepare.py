"""`maesh prepare`: has the cluster's DNS answer for the mesh's zones. May be run again at any time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from maesh_core.cli.cluster_dns import run_plan
from maesh_core.cli.flag_groups import GroupedCommand
from maesh_core.cli.options import build_command
from maesh_core.settings import InstalledPlugin, PrepareSettings

if TYPE_CHECKING:
    from maesh_core.controller.dns.patching import ClusterDns
    from maesh_core.controller.dns.plan import Plan


def add_command(application: typer.Typer, installed: Sequence[InstalledPlugin]) -> None:
    """Add the command to the application."""
    command = build_command(PrepareSettings, run, installed=installed)
    application.command("prepare", cls=GroupedCommand)(command)


def run(settings: PrepareSettings) -> None:
    """Have the cluster's DNS answer for the mesh's names.

    Patches the ConfigMap of CoreDNS or kube-dns, and restarts it if anything changed.
    """
    run_plan(settings, _plan, cluster_domain=settings.cluster_domain)


async def _plan(dns: "ClusterDns") -> "Plan":
    return await dns.plan()
