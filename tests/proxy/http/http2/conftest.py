"""Fixtures for the tests of HTTP/2."""

import pytest


@pytest.fixture
def open_h2c(open_world):
    """Open a world by `async with open_h2c() as world`, whose servers speak HTTP/2."""

    def open_it(**arguments):
        return open_world(scheme="h2c", **arguments)

    return open_it


@pytest.fixture
async def h2c(open_world):
    """Return a world whose server speaks HTTP/2."""
    async with open_world(scheme="h2c") as world:
        yield world
