import pytest

from maesh_core.controller.http_server import open_socket, start_server


@pytest.fixture
async def serve():
    """Serve a handler on a loopback port; gives its base URL. Stopped at the end, if the test did not."""
    servers = []

    async def start(handler):
        sock = open_socket("127.0.0.1", 0, flag="--api-port")
        port = sock.getsockname()[1]
        server = await start_server(handler, sock)
        servers.append(server)
        return f"http://127.0.0.1:{port}", server

    yield start
    for server in servers:
        await server.cleanup()
