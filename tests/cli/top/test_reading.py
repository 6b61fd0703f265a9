"""Reports are read from the controller that is named, and failures have a reason."""

import queue

import pytest

from maesh_core.cli.top import reading
from maesh_core.cli.top.reading import Reader, parse_report, read_first, read_once
from maesh_core.controller.api.outgoing import peer_client
from maesh_core.controller.traffic import proxies
from maesh_core.errors import MaeshError, SettingsError, StartupError
from maesh_core.settings.traffic import TopSettings

from .sample import TrafficServer, build_report


@pytest.fixture
def server():
    server = TrafficServer(build_report())
    yield server
    server.close()


async def test_a_report_is_read_from_the_named_controller(server):
    for path in ("/", "/api/configuration/current"):
        assert await read_once(TopSettings(endpoint=server.url + path)) == (server.url, build_report())


async def test_a_controller_that_does_not_answer_is_an_error(server):
    with pytest.raises(StartupError, match=r"no controller answers at http://127.0.0.1:1: Connection refused"):
        await read_once(TopSettings(endpoint="http://127.0.0.1:1"))
    server.report = None
    with pytest.raises(StartupError, match="/api/traffic: 503 not ready"):
        await read_once(TopSettings(endpoint=server.url))
    with pytest.raises(SettingsError, match="--endpoint: 'here' is not the URL of a controller"):
        await read_once(TopSettings(endpoint="here"))


async def test_the_first_controller_that_answers_counts(server):
    async def fail(path):
        raise MaeshError("gone")

    async def answer(path):
        return b'{"at": "now", "services": []}'

    name, report = await read_first([("a", fail), ("b", answer)])
    assert (name, report.at) == ("b", "now")
    with pytest.raises(MaeshError, match="gone"):
        await read_first([("a", fail)])


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"at": 1}', b"[" * 100_000, b"<html>"])
def test_what_is_no_report_is_refused(body):
    with pytest.raises(MaeshError, match="what answered is no controller"):
        parse_report(body)


def test_the_reader_reports_when_the_controller_is_lost_and_when_it_is_back(server):
    found = queue.SimpleQueue()
    settings = TopSettings(endpoint=server.url, interval=0.1)
    reader = Reader(settings, on_report=lambda _, report: found.put(report), on_failure=found.put)
    reader.start()
    try:
        assert found.get(timeout=60) == build_report()
        server.report = None
        while not isinstance(failure := found.get(timeout=60), str):
            pass
        assert "503" in failure
        server.report = build_report()
        while isinstance(found.get(timeout=60), str):
            pass
    finally:
        reader.close()
    reader.close()


def test_a_controller_that_waits_for_others_as_long_as_it_may_is_in_time():
    assert peer_client.TIMEOUT_S + proxies.DEADLINE_S + 1.0 < reading.TIMEOUT_S
