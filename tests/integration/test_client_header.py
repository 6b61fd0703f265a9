"""`--client-header` in a mesh: servers get the service account of each client, whatever the client sends."""

import socket

import pytest

from maesh_testing import build_pod

from .test_plugins_over_http2 import ask

pytestmark = pytest.mark.integration
CLIENT, OTHER = "127.0.41.1", "127.0.41.2"


@pytest.fixture
def mesh(start_mesh):
    return start_mesh("--client-header")


def find_accounts(upstream):
    return [request.headers.get("x-maesh-client") for request in upstream.requests]


def test_servers_get_the_account_of_a_client_in_every_protocol(mesh):
    mesh.manifests.write("client.json", [build_pod("client", CLIENT, "web")])
    (upstream,) = mesh.upstreams
    mesh.wait_until(lambda: mesh.get(client=CLIENT).status == 200 and find_accounts(upstream)[-1], "the account")
    before = len(upstream.requests)
    claim = {"X-Maesh-Client": "test/admin"}
    for client in (CLIENT, OTHER):
        assert mesh.get(client=client, headers=claim).status == 200
        ask(mesh.http_port, "/", client=client)
        ask(mesh.http_port, "/", client=client, is_grpc=True)
    assert find_accounts(upstream)[before:] == ["test/web"] * 3 + [None] * 3


def test_the_account_of_a_client_that_is_replaced_changes_on_its_connection(mesh):
    mesh.manifests.write("client.json", [build_pod("client", CLIENT, "web")])
    (upstream,) = mesh.upstreams
    request = b"GET / HTTP/1.1\r\nHost: app.test.maesh\r\nX-Maesh-Client: test/admin\r\n\r\n"
    with socket.create_connection(("127.0.0.1", mesh.http_port), 60, source_address=(CLIENT, 0)) as sock:

        def find():
            sock.sendall(request)
            assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
            return find_accounts(upstream)[-1]

        mesh.wait_until(lambda: find() == "test/web", "the first account")
        mesh.manifests.write("client.json", [build_pod("client", CLIENT, "api")])
        mesh.wait_until(lambda: find() == "test/api", "the second account")
        mesh.manifests.write("client.json", [])
        mesh.wait_until(lambda: find() is None, "no account")
