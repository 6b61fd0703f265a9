"""A mesh on one machine: ready when the proxy is, and nothing is left of it however it ends."""

import asyncio
import dataclasses
import os
import signal
from functools import partial
from typing import Any

import pytest

from maesh_core.cli.local_mesh.findings import HeldFindings
from maesh_core.cli.local_mesh.running import Mesh, ask_ready, build_controller_settings, build_proxy_settings
from maesh_core.errors import StartupError
from maesh_core.settings import ControllerSettings, InstalledPlugin, ProxySettings, UpSettings

SETTINGS = UpSettings(api_port=0, admin_port=0, drain_timeout=0.5, paths=("manifests",))


class FakeController:
    api_port = 9000
    has_web_page = False

    def service_reports(self):
        return []

    def object_reports(self):
        return []

    async def check_conditions(self):
        return []


def tell_ready(ready, text):
    ready.set()


class FakeChild:
    def __init__(self):
        self.exited = asyncio.get_running_loop().create_future()
        self.stopped = 0
        self.has_printed_wait = False
        self.reopened = asyncio.Event()

    def explain(self):
        return "the child's last words"

    async def stop(self, timeout_s, *, number):
        self.stopped += 1
        self.number = number

    def kill(self):
        self.stopped += 1

    def reopen_files(self):
        self.reopened.set()


@pytest.fixture
def parts(monkeypatch):
    """Take the place of controller, child and admin port."""

    class Parts:
        child: Any = None
        printed: list[str]
        started: asyncio.Event
        end_controller: asyncio.Event
        is_controller_stopped = False
        is_proxy_ready = True
        controller_error = None
        is_controller_ready = True

    parts = Parts()
    parts.printed = []
    parts.started = asyncio.Event()

    async def run_controller(settings, plugins, *, ready, stop):
        parts.end_controller = asyncio.Event()
        if parts.is_controller_ready:
            ready(FakeController())
        done = [asyncio.create_task(event.wait()) for event in (stop, parts.end_controller)]
        await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
        parts.is_controller_stopped = stop.is_set()
        for task in done:
            task.cancel()
        if parts.controller_error is not None:
            raise parts.controller_error

    async def start_child(settings):
        parts.child = FakeChild()
        parts.started.set()
        return parts.child

    async def answer_ready(host, port):
        return parts.is_proxy_ready

    monkeypatch.setattr("maesh_core.cli.local_mesh.running.run_controller", run_controller)
    monkeypatch.setattr("maesh_core.cli.local_mesh.running.ProxyChild.start", start_child)
    monkeypatch.setattr("maesh_core.cli.local_mesh.running.ask_ready", answer_ready)
    monkeypatch.setattr("maesh_core.cli.local_mesh.running._POLL_PAUSE_S", 0)
    return parts


async def run_mesh(parts, act=None, settings=SETTINGS):
    """Run a mesh; `act` gets the event that stops it, once there is a report."""
    stop = asyncio.Event()

    def print_(text):
        parts.printed.append(text)
        if act is not None:
            act(stop)

    async with asyncio.timeout(60):
        await Mesh(settings, None, print_).run(stop)


async def test_mesh_reports_once_and_ends_when_asked(parts):
    await run_mesh(parts, lambda stop: stop.set())
    assert parts.printed == ["No services in these manifests.\n\nPress Ctrl-C to stop."]
    assert parts.child.stopped == 1
    assert parts.is_controller_stopped


async def test_ctrl_c_reaches_the_child_as_ctrl_c_so_that_it_says_what_it_waits_for(parts):
    for is_ready, is_interrupt in ((True, False), (False, True), (True, True)):
        parts.is_proxy_ready = is_ready
        stop, ready = asyncio.Event(), asyncio.Event()
        mesh = Mesh(SETTINGS, None, partial(tell_ready, ready))
        assert mesh.describe_wait() == "waiting for the controller to end"
        parts.started.clear()
        task = asyncio.create_task(mesh.run(stop))
        await (ready if is_ready else parts.started).wait()
        if is_interrupt:
            mesh.note_interrupt()
        stop.set()
        await task
        number = signal.SIGINT if is_ready and is_interrupt else signal.SIGTERM  # one that starts has nothing to say
        assert parts.child.number == number
        assert mesh.describe_wait() == "waiting up to 4.5 s for the proxy to end"
        parts.child.has_printed_wait = True
        assert mesh.describe_wait() == ""


async def test_sigusr1_is_passed_on_to_a_child_that_is_ready_and_ends_nothing(parts):
    for is_ready in (False, True):
        parts.is_proxy_ready = is_ready
        stop, ready = asyncio.Event(), asyncio.Event()
        parts.started.clear()
        task = asyncio.create_task(Mesh(SETTINGS, None, partial(tell_ready, ready)).run(stop))
        await (ready if is_ready else parts.started).wait()
        os.kill(os.getpid(), signal.SIGUSR1)
        if is_ready:
            await parts.child.reopened.wait()
        stop.set()
        await task
        assert parts.child.reopened.is_set() is is_ready


async def test_json_report_is_one_line(parts):
    await run_mesh(parts, lambda stop: stop.set(), dataclasses.replace(SETTINGS, json=True))
    assert parts.printed == ["[]"]


@pytest.mark.parametrize("json", [False, True])
async def test_findings_that_the_report_shows_are_not_logged_again(parts, json):
    calls = []

    class Findings(HeldFindings):
        def drop(self):
            calls.append("drop")

        def release(self):
            calls.append("release")

    stop = asyncio.Event()
    settings = dataclasses.replace(SETTINGS, json=json)
    async with asyncio.timeout(60):
        await Mesh(settings, None, lambda text: stop.set(), findings=Findings()).run(stop)
    assert calls == (["release"] if json else ["drop", "release"])


async def test_child_that_ends_is_the_error_and_the_controller_is_stopped(parts):
    with pytest.raises(StartupError, match="the child's last words"):
        await run_mesh(parts, lambda stop: parts.child.exited.set_result(None))
    assert parts.is_controller_stopped


async def test_child_that_ends_before_it_is_ready_is_the_error(parts):
    parts.is_proxy_ready = False
    task = asyncio.create_task(run_mesh(parts))
    await parts.started.wait()
    parts.child.exited.set_result(None)
    with pytest.raises(StartupError, match="the child's last words"):
        await task
    assert parts.printed == []
    assert parts.is_controller_stopped


async def test_controller_that_fails_is_the_error_and_the_child_is_stopped(parts):
    parts.controller_error = StartupError("the cluster is gone")
    with pytest.raises(StartupError, match="the cluster is gone"):
        await run_mesh(parts, lambda stop: parts.end_controller.set())
    assert parts.child.stopped == 1


async def test_controller_that_ends_by_itself_is_an_error(parts):
    with pytest.raises(StartupError, match="the controller ended unexpectedly"):
        await run_mesh(parts, lambda stop: parts.end_controller.set())


async def test_stop_before_the_controller_is_ready_starts_no_child(parts):
    parts.is_controller_ready = False
    stop = asyncio.Event()
    stop.set()
    async with asyncio.timeout(60):
        await Mesh(SETTINGS, None, parts.printed.append).run(stop)
    assert parts.child is None
    assert parts.is_controller_stopped


async def test_stop_before_the_proxy_is_ready_ends_everything(parts):
    parts.is_proxy_ready = False
    stop = asyncio.Event()
    task = asyncio.create_task(Mesh(SETTINGS, None, parts.printed.append).run(stop))
    await parts.started.wait()
    stop.set()
    async with asyncio.timeout(60):
        await task
    assert (parts.child.stopped, parts.printed) == (1, [])
    assert parts.is_controller_stopped


async def test_abort_ends_the_child_at_once(parts):
    mesh = Mesh(SETTINGS, None, parts.printed.append)
    mesh.abort()
    stop = asyncio.Event()
    task = asyncio.create_task(mesh.run(stop))
    await parts.started.wait()
    await asyncio.sleep(0)
    mesh.abort()
    assert parts.child.stopped == 1
    stop.set()
    await task


@pytest.mark.parametrize(
    ("answer", "is_ready"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", False),
        (b"", False),
        (b"garbage", False),
        (b"x" * 100_000, False),
    ],
)
async def test_only_status_200_means_ready(answer, is_ready):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        assert await ask_ready("127.0.0.1", server.sockets[0].getsockname()[1]) is is_ready


async def test_without_a_listener_it_is_not_ready(unused_tcp_port):
    assert await ask_ready("127.0.0.1", unused_tcp_port) is False


STAMP = InstalledPlugin(
    name="stamp", distribution="acme-stamp", version="1", summary="", is_default=False, path="stamping:PLUGIN"
)


def test_settings_of_both_parts_are_those_of_up():
    settings = UpSettings(bind="::", namespace="mesh", idle_timeout=7.0, plugins=(STAMP,), paths=("a",))
    controller = build_controller_settings(settings)
    proxy = build_proxy_settings(settings, api_port=1234, admin_port=5678)
    assert (controller.api_host, controller.namespace, controller.paths) == ("::", "mesh", ("a",))
    assert (proxy.bind, proxy.admin_host, proxy.admin_port) == ("::", "::", 5678)
    assert (proxy.endpoint, proxy.idle_timeout) == ("http://[::1]:1234", 7.0)
    assert controller.plugins == proxy.plugins == (STAMP,)


def test_no_setting_of_a_part_is_lost_on_the_way():
    shared = {field.name for field in dataclasses.fields(UpSettings)}
    missing = {field.name for class_ in (ControllerSettings, ProxySettings) for field in dataclasses.fields(class_)}
    assert missing - shared == {
        *("api_host", "admin_host", "endpoint", "configuration_cache"),
        *("kubeconfig", "master_url", "cluster_domain"),  # it never touches a cluster
        *("api_cert", "api_key", "api_tokens", "api_open", "admin_open"),  # only this machine reaches its API
        *("api_clear", "admin_clear"),  # both are set
        *("root_ca_controller", "controller_token"),
        "prometheus",  # it has one proxy, which can be asked
    }
