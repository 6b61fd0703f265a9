"""Real Redis servers."""

import pytest

from .redis_servers import SERVER, run_redis


@pytest.fixture
def redis_server(tmp_path):
    """Run a Redis server, or skip where there is none."""
    if not SERVER:
        pytest.skip("neither redis-server nor valkey-server is installed")
    with run_redis(tmp_path) as server:
        yield server
