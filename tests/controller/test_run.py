import asyncio
import gc
import json
import socket

import aiohttp
import pytest

from maesh_core.controller import building, run
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.run import run_controller
from maesh_core.errors import ConfigurationError, PluginError, StartupError
from maesh_core.model.events import Replaced
from maesh_core.model.metrics import MetricFamily
from maesh_core.plugin_system.hookspecs import POD_NAMES, OptionalSection
from maesh_core.plugin_system.pages import PageResponse
from maesh_core.plugin_system.protocols import PortRange
from maesh_core.settings import ControllerSettings
from maesh_testing.api_server import ApiServer

from .rebuilds.engine_setup import FakeTransport

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

    def collect(self, hook_name, **arguments):
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


NODES = """
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {mesh.traefik.io/encryption: strict}}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {nodeName: n1}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: maesh-mesh-1, namespace: maesh, labels: {maesh.io/tunnel: "15008"}}
spec: {nodeName: n1}
status: {podIP: 10.0.0.9}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {ports: [{port: 80}], selector: {app: web}}
"""


async def test_with_a_transport_manifests_have_nodes_and_modes(settings, manifests):
    (manifests / "a.yaml").write_text(NODES)
    running = await start(ControllerSettings(**settings), FakePlugins(maesh_transport_rules=[FakeTransport()]))
    await running.controller.wait_ready()
    _, configuration = await get(running.url + "/api/configuration/current")
    service = configuration["http"]["services"]["shop/web:80"]
    assert service["encryption"] == "strict"
    assert [each["node"] for each in service["servers"]] == ["n1"]
    assert configuration["transport"] == {"nodes": {"n1": {"addresses": ["10.0.0.9"]}}, "clients": {}}
    assert [each.encryption for each in running.controller.service_reports()] == ["strict"]
    await running.end()


async def test_with_a_plugin_that_asks_manifests_have_names_of_pods(settings, manifests):
    (manifests / "a.yaml").write_text(NODES)
    running = await start(ControllerSettings(**settings), FakePlugins(maesh_optional_sections=[POD_NAMES]))
    await running.controller.wait_ready()
    _, configuration = await get(running.url + "/api/configuration/current")
    assert configuration["pods"] == {"addresses": {"10.0.0.1": "shop/web-1", "10.0.0.9": "maesh/maesh-mesh-1"}}
    (manifests / "a.yaml").write_text(NODES.replace("maesh-mesh-1", "maesh-mesh-2"))
    _, delta = await get(f"{running.url}/api/configuration/current?since={configuration['revision']}&wait=30")
    assert (delta["full"], delta["pods"]) == (False, {"addresses": {"10.0.0.9": "maesh/maesh-mesh-2"}})
    await running.end()


async def test_a_section_that_does_not_exist_is_an_error_at_the_start(settings):
    plugins = FakePlugins(maesh_optional_sections=[OptionalSection("nodes")])
    with pytest.raises(PluginError, match="plugin of OptionalSection asks for section 'nodes', which does not exist"):
        await start(ControllerSettings(**settings), plugins)


async def test_two_transports_are_an_error_at_the_start(settings):
    plugins = FakePlugins(maesh_transport_rules=[FakeTransport(), FakeTransport()])
    with pytest.raises(PluginError, match="only one transport can be enabled, and there are those of plugin of"):
        await start(ControllerSettings(**settings), plugins)


def test_namespaces_are_watched_only_with_a_transport():
    def list_watched(**more):
        return [kind.name for kind in building.collect_kinds(FakePlugins(), **more) if kind.is_watched]

    assert set(list_watched(has_transport=True)) - set(list_watched()) == {"Namespace"}


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


class CountingService:
    """A service that reports a problem, and has a metric."""

    name = "counting"

    def __init__(self, host):
        self._host = host
        self.is_running = asyncio.Event()

    async def run(self):
        self._host.report("counting", "it cannot count")
        self.is_running.set()
        await asyncio.Event().wait()

    def collect_metrics(self):
        return [MetricFamily(name="acme_counted", type="gauge", help="What was counted.", samples=(((), 3),))]


class ServicePlugins(FakePlugins):
    """A plugin with a service, which gets the controller."""

    def collect(self, hook_name, **arguments):
        if hook_name == "maesh_controller_services":
            self.service = CountingService(arguments["controller"])
            return [self.service]
        return super().collect(hook_name, **arguments)


async def test_services_of_plugins_run_and_their_problems_and_metrics_are_shown(settings):
    plugins = ServicePlugins()
    running = await start(ControllerSettings(**settings), plugins)
    await plugins.service.is_running.wait()
    _, report = await get(running.url + "/api/status/controller")
    assert report["problems"] == {"counting": "it cannot count"}
    async with aiohttp.ClientSession() as session, session.get(f"{running.url}/metrics") as response:
        assert "acme_counted 3" in await response.text()
    await running.end()


class HeldService(CountingService):
    """A service that is prepared once `is_allowed` is set; `error` stops the start. It lists objects before."""

    def __init__(self, host, error=None):
        super().__init__(host)
        self.error, self.is_preparing, self.is_allowed = error, asyncio.Event(), asyncio.Event()

    async def prepare(self):
        if self._host.cluster is not None:
            await self._host.cluster.send("GET", "/api/v1/namespaces/maesh/pods")
        self.is_preparing.set()
        await self.is_allowed.wait()
        if self.error is not None:
            raise self.error


class HeldPlugins(FakePlugins):
    """A plugin with a service that must be prepared."""

    def __init__(self, error=None, **hooks):
        super().__init__(**hooks)
        self.error, self.services = error, asyncio.Queue()

    def collect(self, hook_name, **arguments):
        if hook_name == "maesh_controller_services":
            service = HeldService(arguments["controller"], self.error)
            self.services.put_nowait(service)
            return [service]
        return super().collect(hook_name, **arguments)


def find_free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


async def test_until_services_are_prepared_only_probes_are_answered_and_nothing_is_built(settings):
    plugins, stop = HeldPlugins(), asyncio.Event()
    ready = asyncio.get_running_loop().create_future()
    settings["api_port"] = find_free_port()
    url = f"http://127.0.0.1:{settings['api_port']}"
    task = asyncio.create_task(
        run_controller(ControllerSettings(**settings), plugins, stop=stop, ready=ready.set_result)
    )
    service = await plugins.services.get()
    await service.is_preparing.wait()
    assert await get(url + "/api/status/liveness") == (200, True)
    assert await get(url + "/api/status/readiness") == (503, False)
    async with aiohttp.ClientSession() as session, session.get(f"{url}/api/configuration/current") as response:
        assert (response.status, await response.text()) == (503, "the controller starts\n")
    assert not service.is_running.is_set()
    service.is_allowed.set()
    await ready
    assert await get(url + "/api/status/readiness") == (200, True)
    await service.is_running.wait()
    stop.set()
    await task


async def test_a_controller_can_be_stopped_while_services_are_prepared(settings):
    plugins, stop = HeldPlugins(), asyncio.Event()
    task = asyncio.create_task(run_controller(ControllerSettings(**settings), plugins, stop=stop))
    service = await plugins.services.get()
    await service.is_preparing.wait()
    stop.set()
    await task
    assert not service.is_running.is_set()


async def test_a_service_that_cannot_be_prepared_leaves_nothing_open(settings, tmp_path, monkeypatch):
    closed = []

    async def close(client):
        closed.append(client)
        await close_client(client)

    close_client = KubernetesClient.close
    monkeypatch.setattr(KubernetesClient, "close", close)
    plugins = HeldPlugins(ConfigurationError("no disk"))
    with ApiServer() as server:
        kubeconfig = server.write_kubeconfig(tmp_path / "kubeconfig", token=server.token)
        settings = {**settings, "paths": (), "kubeconfig": str(kubeconfig)}
        task = asyncio.create_task(run_controller(ControllerSettings(**settings), plugins, stop=asyncio.Event()))
        (await plugins.services.get()).is_allowed.set()
        with pytest.raises(StartupError, match="counting: no disk"):
            await task
    assert len(closed) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
