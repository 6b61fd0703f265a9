import asyncio
import gc
import json
import socket

import aiohttp
import pytest

from maesh_core.controller import run
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.run import run_controller
from maesh_core.errors import PluginError, StartupError
from maesh_core.model.events import Replaced
from maesh_core.plugin_system.hookspecs import PortRange
from maesh_core.plugin_system.pages import PageResponse
from maesh_core.settings import ControllerSettings

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: shop}
spec: {ports: [{port: 80}]}
"""


class FakePlugins:
    names: tuple[str, ...] = ("acl",)

    def __init__(self, **hooks):
        self._hooks = hooks

    def collect(self, hook_name):
        return list(self._hooks.get(hook_name, ()))

    def describe(self, provided):
        return f"plugin of {type(provided).__name__}"


class Running:
    def __init__(self, task, stop, controller):
        self.task, self.stop, self.controller = task, stop, controller
        self.url = f"http://127.0.0.1:{controller.api_port}"

    async def end(self):
        self.stop.set()
        async with asyncio.timeout(20):
            await self.task


async def start(settings, plugins=None):
    """Run a controller until it is ready; a start that fails raises here."""
    stop = asyncio.Event()
    ready = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run_controller(settings, plugins or FakePlugins(), ready=ready.set_result, stop=stop))
    await asyncio.wait((ready, task), return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    return Running(task, stop, ready.result())


@pytest.fixture
def manifests(tmp_path):
    folder = tmp_path / "manifests"
    folder.mkdir()
    return folder


@pytest.fixture
def settings(tmp_path, manifests):
    return {
        "paths": (str(manifests),),
        "api_host": "127.0.0.1",
        "api_port": 0,
        "port_mapping": str(tmp_path / "state" / "port-mapping.json"),
    }


async def get(url):
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return response.status, json.loads(await response.read())


async def test_a_controller_without_any_object_is_ready(settings):
    running = await start(ControllerSettings(**settings))
    assert await get(running.url + "/api/status/readiness") == (200, True)
    _, configuration = await get(running.url + "/api/configuration/current")
    assert configuration["full"] is True
    assert configuration["plugins"] == ["acl"]
    await running.end()


async def test_manifests_become_a_configuration_and_changes_answer_a_held_pull(settings, manifests):
    (manifests / "a.yaml").write_text(SERVICE.replace("NAME", "web"))
    running = await start(ControllerSettings(**settings))
    await running.controller.wait_ready()
    assert [report.host for report in running.controller.service_reports()] == ["web.shop.maesh"]
    current = running.url + "/api/configuration/current"
    _, configuration = await get(current)
    (manifests / "b.yaml").write_text(SERVICE.replace("NAME", "db"))
    status, delta = await get(f"{current}?since={configuration['revision']}&wait=30")
    assert status == 200
    assert (delta["full"], list(delta["http"]["routers"])) == (False, ["shop/db:80"])
    await running.end()


async def test_each_folder_of_manifests_begins_at_the_first_port_and_moves_no_other_s(settings, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    async def find_ports(folder, *names):
        (tmp_path / folder).mkdir(exist_ok=True)
        for name in names:
            (tmp_path / folder / f"{name}.yaml").write_text(SERVICE.replace("NAME", name))
        paths = (str(tmp_path / folder),)
        running = await start(
            ControllerSettings(**settings | {"paths": paths, "port_mapping": "", "default_mode": "tcp"})
        )
        found = {report.name: report.ports[0].entrypoint for report in running.controller.service_reports()}
        await running.end()
        return found

    assert await find_ports("one", "db", "queue") == {"db": 10000, "queue": 10001}
    assert await find_ports("two", "queue") == {"queue": 10000}
    assert await find_ports("one", "cache") == {"cache": 10002, "db": 10000, "queue": 10001}
    assert await find_ports("two", "db") == {"db": 10001, "queue": 10000}


async def test_a_stopped_controller_lets_its_pulls_go_and_frees_its_port(settings):
    running = await start(ControllerSettings(**settings))
    current = running.url + "/api/configuration/current"
    _, configuration = await get(current)
    async with aiohttp.ClientSession() as session:
        pull = asyncio.create_task(session.get(f"{current}?since={configuration['revision']}&wait=60&node=n"))
        while not (await get(running.url + "/api/status/nodes"))[1]:
            pass
        await running.end()
        assert (await pull).status == 304
    socket.create_server(("127.0.0.1", running.controller.api_port)).close()


async def test_each_start_has_an_epoch_of_its_own(settings):
    epochs = set()
    for _ in range(2):
        running = await start(ControllerSettings(**settings))
        _, configuration = await get(running.url + "/api/configuration/current")
        epochs.add(configuration["revision"].partition(".")[0])
        await running.end()
    assert len(epochs) == 2


async def test_a_broken_document_is_logged_once_and_the_rest_is_served(settings, manifests, caplog):
    (manifests / "a.yaml").write_text(SERVICE.replace("NAME", "web") + "---\nkind: [\n")
    (manifests / "b.yaml").write_text(SERVICE.replace("NAME", "db"))
    running = await start(ControllerSettings(**settings))
    assert "db.shop.maesh" in [report.host for report in running.controller.service_reports()]
    assert [record.levelname for record in caplog.records if "a.yaml" in record.getMessage()] == ["ERROR"]
    await running.end()


async def test_a_taken_port_stops_the_start_with_one_line(settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError, match=f"127.0.0.1:{port}.*--api-port"):
            await start(ControllerSettings(**{**settings, "api_port": port}))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"paths": ("/no/such/file.yaml",)}, "/no/such/file.yaml"),
        ({"paths": ()}, r"nothing to read .*--kubeconfig.*manifests \(PATH\)"),
        ({"kubeconfig": "k", "paths": ("/",)}, "give one of them"),
        ({"kubeconfig": "/no/such/config", "paths": ()}, "/no/such/config: no such file"),
        ({"kubeconfig": "/dev/null", "paths": ()}, "kubeconfig /dev/null"),
        ({"default_mode": "udp"}, "--default-mode udp.*http, tcp"),
        ({"http_port": 9950, "tcp_port": 10000}, "overlap"),
    ],
)
async def test_what_cannot_work_stops_the_start(settings, wrong, said):
    with pytest.raises(StartupError, match=said):
        await start(ControllerSettings(**{**settings, **wrong}))


class ListedSource:
    """Tells of nothing but that there is nothing."""

    def __init__(self, name):
        self.name = name

    async def watch_events(self, kinds):
        yield [Replaced(kind.type, []) for kind in kinds]
        await asyncio.Event().wait()


@pytest.mark.parametrize(
    "hooks",
    [
        {"maesh_resource_kinds": [CORE_KINDS[0]]},
        {"maesh_sources": [ListedSource("manifests")]},
        {"maesh_traffic_types": [HttpTrafficType(PortRange(first=1, limit=1, is_exclusive=False))]},
    ],
)
async def test_two_claims_of_the_same_name_stop_the_start(settings, hooks):
    with pytest.raises(PluginError):
        await start(ControllerSettings(**settings), FakePlugins(**hooks))


class Page:
    path = "/"

    async def respond(self, request):
        return PageResponse(body=b"hello")


async def test_pages_of_plugins_are_served_and_the_settings_name_hosts(settings):
    running = await start(
        ControllerSettings(**settings, api_hosts=("mesh.example",)), FakePlugins(maesh_api_pages=[Page()])
    )
    assert running.controller.has_web_page
    async with aiohttp.ClientSession() as session:
        for host, status in (("mesh.example", 200), ("other.example", 421)):
            async with session.get(f"{running.url}/", headers={"Host": host}) as response:
                assert response.status == status
    await running.end()


async def test_two_pages_of_the_same_path_stop_the_start(settings):
    with pytest.raises(PluginError, match=r"^page '/' is claimed by both plugin of Page and plugin of Page$"):
        await start(ControllerSettings(**settings), FakePlugins(maesh_api_pages=[Page(), Page()]))


async def test_a_plugins_source_is_enough(settings):
    plugins = FakePlugins(maesh_sources=[ListedSource("x")])
    running = await start(ControllerSettings(**{**settings, "paths": ()}), plugins)
    assert running.controller.service_reports() == []
    await running.end()


async def test_a_ready_callback_that_raises_ends_the_controller(settings):
    def fail(controller):
        raise RuntimeError("not ready after all")

    with pytest.raises(RuntimeError, match="after all"):
        await run_controller(ControllerSettings(**settings), FakePlugins(), ready=fail, stop=asyncio.Event())


class SilentSource(ListedSource):
    """Never tells anything."""

    async def watch_events(self, kinds):
        await asyncio.Event().wait()
        yield []


async def test_a_source_that_does_not_list_is_named_in_the_log(settings, monkeypatch):
    stop = asyncio.Event()
    told = []

    def warn(text, *values):
        told.append(text % values)
        stop.set()

    monkeypatch.setattr(run, "SLOW_START_S", 0)
    monkeypatch.setattr(run._log, "warning", warn)
    plugins = FakePlugins(maesh_sources=[SilentSource("x"), ListedSource("y")])
    await run_controller(ControllerSettings(**{**settings, "paths": ()}), plugins, stop=stop)
    assert len(told) == 1
    assert "x Pod, x Service" in told[0]


async def test_a_controller_can_be_stopped_before_it_is_ready(settings):
    stop = asyncio.Event()
    calls = []
    plugins = FakePlugins(maesh_sources=[SilentSource("x")])
    stop.set()
    await run_controller(ControllerSettings(**{**settings, "paths": ()}), plugins, ready=calls.append, stop=stop)
    assert calls == []


async def test_a_cancelled_controller_leaves_nothing_running(settings):
    running = await start(ControllerSettings(**settings))
    running.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running.task
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
