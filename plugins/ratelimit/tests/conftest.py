"""Real Redis servers, and time to connect to them."""

import pytest
from maesh_ratelimit.redis_store import connection

from .redis_servers import SERVER, run_redis


@pytest.fixture(autouse=True)
def connect_patiently(monkeypatch):
    """Extend the time-out of connections, for a busy machine."""
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 30.0)


@pytest.fixture
def redis_server(tmp_path):
    """Run a Redis server, or skip where there is none."""
    if not SERVER:
        pytest.skip("neither redis-server nor valkey-server is installed")
    with run_redis(tmp_path) as server:
        yield server
