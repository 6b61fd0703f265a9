"""A limit in a real mesh, over two workers, with requests that run until the test lets them end."""

import socket

import pytest

from maesh_testing import wait_until

pytestmark = pytest.mark.integration

ANNOTATIONS = {"limit-concurrency": "2"}


def read_running(mesh):
    """Read how many requests run, of all workers."""
    lines = [line for line in mesh.read_metrics().splitlines() if line.startswith("maesh_concurrency_running{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_requests_run_up_to_the_limit_and_those_above_are_refused(start_mesh):
    mesh = start_mesh("--workers", "2", annotations=ANNOTATIONS)
    head = b"POST / HTTP/1.1\r\nHost: app.test.maesh\r\nContent-Length: 1\r\n\r\n"
    waiting = [socket.create_connection(("127.0.0.1", mesh.http_port), timeout=60) for _ in range(2)]
    try:
        for each in waiting:
            each.sendall(head)
        wait_until(lambda: read_running(mesh) == 2, "two running requests")
        refused = mesh.get("/")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert refused.headers["X-Maesh-Reason"] == "the service has too many running requests"
        for each in waiting:
            each.sendall(b"x")
            assert each.recv(4096).startswith(b"HTTP/1.1 200 ")
        wait_until(lambda: read_running(mesh) == 0, "no running request")
        assert mesh.get("/").status == 200
    finally:
        for each in waiting:
            each.close()
    assert 'maesh_concurrency_refused_total{service="test/app:80"} 1.0' in mesh.read_metrics()
