"""`maesh prepare`: configures the cluster's DNS to answer for the mesh's zones. Can be run repeatedly."""

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
    """Configure the cluster's DNS to answer for the mesh's names.

    Changes the ConfigMap of CoreDNS or kube-dns, and restarts its pods if anything changed.
    """
    run_plan(settings, _plan, cluster_domain=settings.cluster_domain)


async def _plan(dns: "ClusterDns") -> "Plan":
    return await dns.plan()
