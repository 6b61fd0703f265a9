"""Connects a controller to the cluster that its settings name.

Imported only if there is a cluster, because the client loads aiohttp: 13 MB that a controller of manifests does not
need.
"""

from collections.abc import Callable

from maesh_core.controller.cluster.cluster_api import PluginCluster
from maesh_core.controller.cluster.membership import Cluster
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access
from maesh_core.controller.sources import Pause
from maesh_core.errors import KubernetesError, StartupError
from maesh_core.settings import ControllerSettings


def open_client(settings: ControllerSettings) -> KubernetesClient | None:
    """Create a client of the cluster from settings or environment; None if there is none. Raises StartupError."""
    credentials = find_access(settings.kubeconfig, settings.master_url)
    return KubernetesClient(credentials) if credentials else None


async def join_cluster(
    settings: ControllerSettings, client: KubernetesClient, identity: str, *, clock: Callable[[], float], pause: Pause
) -> Cluster:
    """Load the credentials, so that an error in them ends the command, and return the cluster. Raises StartupError."""
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


def open_plugin_cluster(client: KubernetesClient, *, clock: Callable[[], float], pause: Pause) -> PluginCluster:
    """Return the cluster as plugins see it."""
    return PluginCluster(client, clock=clock, pause=pause)
