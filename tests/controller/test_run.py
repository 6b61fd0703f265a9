"""A running controller serves what it reads, and stops in every state without leaving anything behind."""

import asyncio
import gc
import socket

import aiohttp
import pytest

from maesh_core.controller import building, run
from maesh_core.controller.run import run_controller
from maesh_core.plugin_system.hookspecs import POD_NAMES
from maesh_core.settings import ControllerSettings

from .rebuilds.engine_setup import FakeTransport
from .running_controller import SERVICE, FakePlugins, ListedSource, Page, SilentSource, get, start


async def test_a_controller_without_any_object_is_ready(settings):
    running = await start(ControllerSettings(**settings))
    assert await get(running.url + "/api/status/readiness") == (200, True)
    _, configuration = await get(running.url + "/api/configuration/current")
    assert configuration["full"] is True
    assert configuration["plugins"] == ["acl"]
    await running.end()


async def test_manifests_become_a_configuration_and_changes_answer_a_held_pull(settings, manifest_folder):
    (manifest_folder / "a.yaml").write_text(SERVICE.replace("NAME", "web"))
    running = await start(ControllerSettings(**settings))
    await running.controller.wait_ready()
    assert [report.host for report in running.controller.service_reports()] == ["web.shop.maesh"]
    current = running.url + "/api/configuration/current"
    _, configuration = await get(current)
    (manifest_folder / "b.yaml").write_text(SERVICE.replace("NAME", "db"))
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


async def test_with_a_transport_manifests_have_nodes_and_modes(settings, manifest_folder):
    (manifest_folder / "a.yaml").write_text(NODES)
    running = await start(ControllerSettings(**settings), FakePlugins(maesh_transport_rules=[FakeTransport()]))
    await running.controller.wait_ready()
    _, configuration = await get(running.url + "/api/configuration/current")
    service = configuration["http"]["services"]["shop/web:80"]
    assert service["encryption"] == "strict"
    assert [each["node"] for each in service["servers"]] == ["n1"]
    assert configuration["transport"] == {"nodes": {"n1": {"addresses": ["10.0.0.9"]}}, "clients": {}}
    assert [each.encryption for each in running.controller.service_reports()] == ["strict"]
    await running.end()


async def test_with_a_plugin_that_asks_manifests_have_names_of_pods(settings, manifest_folder):
    (manifest_folder / "a.yaml").write_text(NODES)
    running = await start(ControllerSettings(**settings), FakePlugins(maesh_optional_sections=[POD_NAMES]))
    await running.controller.wait_ready()
    _, configuration = await get(running.url + "/api/configuration/current")
    assert configuration["pods"] == {"addresses": {"10.0.0.1": "shop/web-1", "10.0.0.9": "maesh/maesh-mesh-1"}}
    (manifest_folder / "a.yaml").write_text(NODES.replace("maesh-mesh-1", "maesh-mesh-2"))
    _, delta = await get(f"{running.url}/api/configuration/current?since={configuration['revision']}&wait=30")
    assert (delta["full"], delta["pods"]) == (False, {"addresses": {"10.0.0.9": "maesh/maesh-mesh-2"}})
    await running.end()


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


async def test_a_broken_document_is_logged_once_and_the_rest_is_served(settings, manifest_folder, caplog):
    (manifest_folder / "a.yaml").write_text(SERVICE.replace("NAME", "web") + "---\nkind: [\n")
    (manifest_folder / "b.yaml").write_text(SERVICE.replace("NAME", "db"))
    running = await start(ControllerSettings(**settings))
    assert "db.shop.maesh" in [report.host for report in running.controller.service_reports()]
    assert [record.levelname for record in caplog.records if "a.yaml" in record.getMessage()] == ["ERROR"]
    await running.end()


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
