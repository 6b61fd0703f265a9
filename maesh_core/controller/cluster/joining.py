"""Joins a controller to the cluster that its settings name.

Imported where a cluster is meant, and nowhere else: its client brings aiohttp, 13 MB that a controller of
manifests does without.
"""

from collections.abc import Callable

from maesh_core.controller.cluster.membership import Cluster
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access
from maesh_core.controller.sources import Pause
from maesh_core.errors import KubernetesError, StartupError
from maesh_core.settings import ControllerSettings


def open_client(settings: ControllerSettings) -> KubernetesClient | None:
    """Make a client of the cluster that is found; None where there is none. Raises StartupError."""
    credentials = find_access(settings.kubeconfig, settings.master_url)
    return KubernetesClient(credentials) if credentials else None


async def join_cluster(
    settings: ControllerSettings, client: KubernetesClient, identity: str, *, clock: Callable[[], float], pause: Pause
) -> Cluster:
    """Load the credentials once, where what is wrong with them still ends the command, and give the cluster."""
    try:
        await client.log_in()
    except KubernetesError as error:
        raise StartupError(str(error)) from error
    return Cluster(
        client,
        mesh_namespace=settings.namespace,
        cluster_domain=settings.cluster_domain,
        identity=identity,
        clock=clock,
        pause=pause,
    )
