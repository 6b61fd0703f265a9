"""Clients of an API server, closed at the end."""

import pytest

from maesh_core.kubernetes.client import KubernetesClient
from maesh_core.kubernetes.credentials import Access, Credentials, find_access


@pytest.fixture
async def connect():
    """Connect with a kubeconfig, or with an access that is as it is."""
    clients = []

    def make(found, master_url="", environment=()):
        if isinstance(found, Access):

            async def load():
                return found

            credentials = Credentials(load)
        else:
            credentials = find_access(str(found or ""), master_url, dict(environment))
        clients.append(KubernetesClient(credentials))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


@pytest.fixture
def client(connect, api_server):
    return connect(Access(server=api_server.url, headers={"Authorization": f"Bearer {api_server.token}"}))
