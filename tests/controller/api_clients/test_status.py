import json
from typing import Any

import msgspec
import pytest

from maesh_core.controller.api.server import to_response
from maesh_core.controller.api_clients import controllers as controllers_module
from maesh_core.controller.api_clients.encryption_status import ServiceMode
from maesh_core.controller.api_clients.status import ask_controllers, ask_mesh
from maesh_core.errors import MaeshError, SettingsError, StartupError
from maesh_core.settings import StatusSettings


def build_controller(
    *, name="one", leads=True, ready=True, proxies=(), services=(), ports=(), objects=(), conditions=()
):
    """Build what a controller's API says, by path."""
    report = {"name": name, "ready": ready, "leads": leads, "leader": "one", "revision": "e.1", "problems": {}}
    nodes = [
        {"name": proxy, "ip": "10.0.0.1", "ready": True, "revision": "e.1", "lastSeen": seen} for proxy, seen in proxies
    ]
    reports = [
        {"namespace": "n", "name": service, "errors": errors, "ports": list(ports)} for service, errors in services
    ]
    return {
        "/api/status/controller": json.dumps(report).encode(),
        "/api/status/nodes": json.dumps(nodes).encode(),
        "/api/services": json.dumps(reports).encode(),
        "/api/objects": json.dumps(list(objects)).encode(),
        "/api/conditions": json.dumps(list(conditions)).encode(),
    }


def answer_with(answers):
    async def fetch(path):
        if isinstance(answers, Exception):
            raise answers
        return answers[path]

    return fetch


async def test_the_proxies_of_all_controllers_are_shown_each_as_it_was_seen_last():
    one = build_controller(proxies=[("a", "2026-01-01T00:00:00.000Z"), ("b", "2026-01-01T00:00:09.000Z")])
    two = build_controller(name="two", leads=False, proxies=[("a", "2026-01-01T00:00:05.000Z")])
    status = await ask_controllers([("one", answer_with(one)), ("two", answer_with(two))])
    assert [(each.name, each.last_seen[17:19]) for each in status.proxies] == [("a", "05"), ("b", "09")]


async def test_the_leader_reports_services_and_those_with_errors_are_shown():
    follower = build_controller(leads=False, services=[("stale", ["old"])])
    leader = build_controller(name="two", services=[("well", []), ("ill", ["too long"])])
    status = await ask_controllers([("one", answer_with(follower)), ("two", answer_with(leader))])
    assert status.service_count == 2
    assert [(each.name, each.errors) for each in status.failing_services] == [("ill", ("too long",))]


async def test_ports_without_a_server_and_objects_are_those_that_the_leader_knows():
    split = {"kind": "TrafficSplit", "namespace": "n", "name": "canary", "errors": ["no such service"], "notices": []}
    ports = [{"name": "p", "port": 80, "protocol": "TCP", "entrypoint": 5000, "unserved": "not ready: a"}, {"port": 81}]
    leader = build_controller(services=[("web", [])], ports=ports, objects=[split])
    status = await ask_controllers([("one", answer_with(leader))])
    assert [(each.name, each.port, each.reason) for each in status.unserved_ports] == [("web", 80, "not ready: a")]
    assert [(each.kind, each.name, each.errors) for each in status.objects] == [
        ("TrafficSplit", "canary", ("no such service",))
    ]


async def test_what_plugins_say_about_the_mesh_is_what_the_leader_answers():
    condition = {"id": "access-enforced", "title": "it denies", "hint": "Enforce it."}
    follower = build_controller(leads=False, conditions=[{**condition, "problems": ["stale"]}])
    leader = build_controller(name="two", conditions=[{**condition, "problems": ["nothing is denied"]}])
    status = await ask_controllers([("one", answer_with(follower)), ("two", answer_with(leader))])
    assert [each.problems for each in status.conditions] == [("nothing is denied",)]


async def test_a_controller_of_an_earlier_version_knows_of_no_objects():
    answers = build_controller(services=[("web", [])])

    async def fetch(path):
        if path == "/api/objects":
            raise MaeshError("404")
        return answers[path]

    status = await ask_controllers([("old", fetch)])
    assert (status.controllers[0].error, status.service_count, status.objects) == (None, 1, ())


async def test_a_controller_that_does_not_answer_is_shown_with_its_reason_beside_the_others():
    status = await ask_controllers(
        [("gone", answer_with(MaeshError("no answer"))), ("one", answer_with(build_controller()))]
    )
    assert [(each.name, each.error) for each in status.controllers] == [("gone", "no answer"), ("one", None)]
    assert status.service_count == 0


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"name": 1}', b"\xff", b""])
async def test_an_answer_of_something_else_is_reported_as_no_controller(body):
    answers = dict.fromkeys(build_controller(), body)
    status = await ask_controllers([("odd", answer_with(answers))])
    assert "no controller" in status.controllers[0].error
    assert status.service_count is None


async def test_all_controllers_of_a_cluster_are_asked_through_its_api_server(api_server, tmp_path):
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
    kubeconfig = api_server.write_kubeconfig(tmp_path / "kubeconfig")
    settings = StatusSettings(kubeconfig=str(kubeconfig))
    with pytest.raises(StartupError, match="no pod in namespace maesh is labelled app=maesh,component=controller"):
        await ask_mesh(settings)
    pod: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "c-1", "namespace": "maesh", "labels": {"app": "maesh", "component": "controller"}},
        "spec": {"containers": [{"name": "controller", "image": "maesh"}]},
    }
    api_server.apply([pod, {**pod, "metadata": {**pod["metadata"], "name": "evicted"}, "status": {"phase": "Failed"}}])
    status = await ask_mesh(settings)
    # The API server of the tests does not know where this pod is: it tells what is asked, and that a refusal is shown.
    assert [each.name for each in status.controllers] == ["c-1"]
    assert "/api/v1/namespaces/maesh/pods/c-1:9000/proxy/api/status/controller: 503" in status.controllers[0].error


async def test_an_endpoint_that_is_no_url_and_a_cluster_that_is_not_named_are_errors(monkeypatch, tmp_path):
    for endpoint in ("localhost", "http://", "http:///api"):
        with pytest.raises(SettingsError, match=f"'{endpoint}' is not the URL"):
            await ask_mesh(StatusSettings(endpoint=endpoint))
    leave_cluster(monkeypatch, tmp_path)
    monkeypatch.setattr(controllers_module, "LOCAL_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(StartupError, match=r"no controller answers at http://127.0.0.1:1: .*--endpoint.*--kubeconfig"):
        await ask_mesh(StatusSettings())


def leave_cluster(monkeypatch, folder):
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))


async def test_without_a_cluster_the_controller_of_this_machine_is_asked(monkeypatch, tmp_path, serve):
    leave_cluster(monkeypatch, tmp_path)
    answers = build_controller(services=[("web", [])])

    async def handle(request):
        return to_response(200, body=answers[request.target.decode()], content_type="application/json")

    url, _ = await serve(handle)
    monkeypatch.setattr(controllers_module, "LOCAL_ENDPOINT", url)
    status = await ask_mesh(StatusSettings())
    assert [(each.name, each.report.name) for each in status.controllers] == [(url, "one")]
    assert status.service_count == 1


async def test_services_have_modes_if_their_controller_has_a_transport():
    services = json.dumps(
        [
            {"namespace": "n", "name": "web", "ports": [], "encryption": "strict"},
            {"namespace": "n", "name": "old", "ports": []},
        ]
    )
    answers = {**build_controller(), "/api/services": services.encode(), "/api/traffic": b"{}"}
    status = await ask_controllers([("one", answer_with(answers))])
    assert status.modes == (ServiceMode(namespace="n", name="web", encryption="strict"),)
    status = await ask_controllers([("one", answer_with(build_controller(services=[("web", [])])))])
    assert status.modes is msgspec.UNSET


async def test_what_services_with_a_mode_have_sent_is_asked_of_the_controller_that_reports_them():
    services = json.dumps([{"namespace": "n", "name": "web", "ports": [], "encryption": "strict"}]).encode()
    counted = {"key": "n/web:80", "namespace": "n", "name": "web", "total": {"paths": {"encrypted": 3}}}
    answers = {**build_controller(), "/api/services": services}
    traffic = {**answers, "/api/traffic": json.dumps({"services": [counted]}).encode()}
    status = await ask_controllers([("one", answer_with(traffic))])
    assert status.encryption is not msgspec.UNSET
    (found,) = status.encryption.services
    assert (found.key, found.encryption, found.total.paths) == ("n/web:80", "strict", {"encrypted": 3})
    status = await ask_controllers([("one", answer_with({**traffic, "/api/traffic": b"?"}))])
    assert status.encryption is not msgspec.UNSET
    assert status.encryption.error.startswith("what answered is no controller")
    status = await ask_controllers([("one", answer_with(build_controller(services=[("web", [])])))])
    assert status.encryption is msgspec.UNSET
