"""One controller after the other is asked, and an event loop runs only for that."""

from contextlib import asynccontextmanager

import pytest

from maesh_core.cli.explain.blocking_api import BlockingApi
from maesh_core.errors import ApiRefusedError, MaeshError, StartupError


class Api:
    """Answers, or raises an error."""

    def __init__(self, error=None):
        self.error, self.asked = error, []

    async def fetch(self, path):
        self.asked.append(path)
        if self.error:
            raise self.error
        return path.encode()


def open_blocking(*apis, closed=None):
    @asynccontextmanager
    async def open_apis():
        yield list(apis)
        if closed is not None:
            closed.append(True)

    return BlockingApi(open_apis)


def test_the_controller_that_has_answered_is_asked_again():
    closed, lost, good = [], Api(MaeshError("lost")), Api()
    with open_blocking(lost, good, closed=closed) as api:
        assert [api.fetch("/a"), api.fetch("/b")] == [b"/a", b"/b"]
    assert (lost.asked, good.asked, closed) == (["/a"], ["/a", "/b"], [True])


def test_a_refusal_is_an_answer():
    refusing, other = Api(ApiRefusedError("no", status=403)), Api()
    with open_blocking(refusing, other) as api, pytest.raises(ApiRefusedError, match="no"):
        api.fetch("/a")
    assert other.asked == []


def test_the_first_reason_is_reported_if_none_answers():
    apis = (Api(MaeshError("first")), Api(MaeshError("second")))
    with open_blocking(*apis) as api, pytest.raises(MaeshError, match="first"):
        api.fetch("/a")
    with open_blocking() as api, pytest.raises(MaeshError, match="there is no controller"):
        api.fetch("/a")


def test_controllers_that_cannot_be_found_are_an_error():
    @asynccontextmanager
    async def open_apis():
        raise StartupError("no pod")
        yield []

    with pytest.raises(StartupError, match="no pod"), BlockingApi(open_apis):
        pass
