"""Clients of an API server, closed at the end."""

import asyncio
from typing import Any, cast

import pytest

from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials, find_access
from maesh_testing.api_server import ApiServer


async def see_transports_end():
    """Let the loop run until TLS has said goodbye on connections that were left in the middle of an answer."""
    for _ in range(1000):
        if all(transport._sock is None for transport in cast("Any", asyncio.get_running_loop())._transports.values()):
            return
        await asyncio.sleep(0.005)


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
    await see_transports_end()


@pytest.fixture
def client(connect, api_server):
    return connect(Access(server=api_server.url, headers={"Authorization": f"Bearer {api_server.token}"}))


@pytest.fixture(scope="module")
def shared_secure_server():
    with ApiServer(tls=True) as server:
        yield server


@pytest.fixture
def secure_server(shared_secure_server):
    shared_secure_server.calls.clear()
    return shared_secure_server
