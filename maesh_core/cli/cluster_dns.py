"""The common part of `maesh prepare` and `maesh cleanup`: connect to a cluster, make a plan, and show or apply it.

Takes settings and a function that makes the plan. Prints a line for each change, or a diff; raises MaeshError. A signal
ends it between two requests. Changes that were written stay, and another run continues from there.
"""

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from maesh_core.cli.running import run_to_end
from maesh_core.errors import StartupError
from maesh_core.process.logging_setup import configure_logging
from maesh_core.settings import CleanupSettings

if TYPE_CHECKING:
    from maesh_core.controller.dns.patching import ClusterDns
    from maesh_core.controller.dns.plan import Plan
    from maesh_core.controller.kubernetes.credentials import Credentials

NOTHING = "nothing to do"

Planner = Callable[["ClusterDns"], Awaitable["Plan"]]


def run_plan(settings: CleanupSettings, make_plan: Planner, *, cluster_domain: str) -> None:
    """Make a plan, and apply or print it. Raises MaeshError."""
    configure_logging(settings.log_level, settings.log_format)
    from maesh_core.controller.kubernetes.credentials import find_access  # aiohttp, only for these commands

    credentials = find_access(settings.kubeconfig, settings.master_url)
    if credentials is None:
        raise StartupError("no cluster found: set --kubeconfig FILE or --master-url URL")

    run_to_end(
        lambda: _carry_out(settings, credentials, make_plan, cluster_domain),
        stopped="stopped before everything was done; run the command again to finish",
    )


async def _carry_out(
    settings: CleanupSettings, credentials: "Credentials", make_plan: Planner, cluster_domain: str
) -> None:
    from maesh_core.controller.dns.patching import ClusterDns
    from maesh_core.controller.kubernetes.client import KubernetesClient

    await credentials.get()  # fail at once without credentials; only an unreachable server is retried
    client = KubernetesClient(credentials)
    try:
        dns = ClusterDns(client, mesh_namespace=settings.namespace, cluster_domain=cluster_domain)
        plan = await make_plan(dns)
        for warning in plan.warnings:
            print(f"maesh: warning: {warning}", file=sys.stderr)  # noqa: T201 - a command's own output
        if settings.dry_run:
            print(plan.render_diff() or f"{NOTHING}\n", end="")  # noqa: T201
        elif not await dns.apply(plan, report=_print_line):
            _print_line(NOTHING)
    finally:
        await client.close()


def _print_line(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command's own output
