"""`maesh acl suggest`, with manifests and with controllers that a test scripts."""

import json
from typing import Any

import msgspec
import pytest
import yaml
from maesh_acl.denials.report import REPORT_PATH, ClientAccount, Denial, DenialReport
from maesh_acl.suggesting.command import TOPOLOGY_PATH, SuggestCommand, parse_service

from maesh_core.cli.manifests_api import build_manifests_api
from maesh_core.controller.topology.rendering import render_topology
from maesh_core.plugin import ConfigurationError, ControllerUnreachableError
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings import ManifestCommandSettings

from .conftest import Cluster, build_object, build_pod, build_service
from .test_acl_suggesting_reading import build_line

OBJECTS = [build_service("api"), build_pod("api-1", "10.0.0.1", "api", app="api")]
CLIENTS = [build_pod("web-1", "10.1.0.1", "web"), build_pod("batch-1", "10.1.0.2", "batch")]


def build_denial(**changes):
    fields: dict[str, Any] = {
        "mode": "audit",
        "service": "shop/api:80",
        "destinations": ("api@shop",),
        "client": ClientAccount(namespace="shop", service_account="web"),
        "address": "10.1.0.1",
        "traffic_type": "http",
        "method": "GET",
        "path": "/a",
        "is_path_cut": False,
        "route": "",
        "reason": "client",
        "count": 3,
        "first": "2026-01-01T10:00:00Z",
        "last": "2026-01-01T11:00:00Z",
    }
    return Denial(**{**fields, **changes})


class Api:
    """The API of a controller with these documents by path."""

    name = "one"

    def __init__(self, *denials, complete=True, objects=OBJECTS, error=None, pods=()):
        self.error, self.asked = error, []
        topology = render_topology([Cluster(*objects).build_node("api")])
        report = DenialReport(since="2026-01-01T09:00:00Z", complete=complete, denials=denials)
        self.documents = {TOPOLOGY_PATH: topology, REPORT_PATH: report}
        self.pods = {f"/api/pods?namespace=shop&name={name}": found for name, found in dict(pods).items()}

    async def fetch(self, path):
        self.asked.append(path)
        if self.error is not None:
            raise self.error
        found = self.documents.get(path) or self.pods.get(path) or {"pods": []}
        return found if isinstance(found, bytes) else msgspec.json.encode(found)


async def run(*apis, **values):
    given = {"exact": "", "denied": "", "from": (), "template": (), "service": (), **values}
    return await SuggestCommand().run(apis, given)


def list_targets(result):
    return [each for each in yaml.safe_load_all(result.text) if each and each["kind"] == "TrafficTarget"]


# --- the report of a controller


async def test_the_report_of_the_controller_becomes_targets():
    result = await run(Api(build_denial(), build_denial(mode="enforce", path="/b", count=2)))
    assert result.status == 0
    (target,) = list_targets(result)
    assert target["spec"]["sources"] == [{"kind": "ServiceAccount", "name": "web", "namespace": "shop"}]
    assert "pathRegex: /a$" in result.text
    assert "/b" not in result.text
    assert "# denied, and not considered: 2; --denied suggests rules for them, too" in result.text
    assert result.document["suggestions"][0]["count"] == 3


async def test_what_was_denied_is_considered_if_it_is_asked_for():
    result = await run(Api(build_denial(mode="enforce", path="/b")), denied=True)
    assert "pathRegex: /b$" in result.text


async def test_an_incomplete_report_is_remarked():
    result = await run(Api(build_denial(), complete=False))
    assert "# the report is incomplete" in result.text
    assert result.document["remarks"] == [
        "the report is incomplete: proxies did not answer, or have recorded more than they keep"
    ]


async def test_what_no_rule_can_allow_changes_the_exit_status():
    result = await run(Api(build_denial(client=None)))
    assert result.status == 3
    assert "left out: 3 requests: the client has no service account that the mesh knows" in result.text


async def test_the_next_controller_is_asked_for_everything_if_one_cannot_be_reached():
    gone, here = Api(error=ControllerUnreachableError("gone")), Api(build_denial())
    assert list_targets(await run(gone, here))
    assert here.asked == [TOPOLOGY_PATH, REPORT_PATH]


async def test_only_calls_of_the_named_services_are_considered():
    for name in ("api.shop", "shop/api", "api@shop"):
        assert len(list_targets(await run(Api(build_denial()), service=(name,)))) == 1
        assert list_targets(await run(Api(build_denial()), service=(name.replace("api", "web"),))) == []
    with pytest.raises(ConfigurationError, match=r"--service: 'api' is not name\.namespace"):
        await run(Api(), service=("api",))


async def test_paths_are_written_with_templates_or_exactly():
    denials = [build_denial(path=f"/users/{number}") for number in range(9)]
    assert "/users/[0-9]+$" in (await run(Api(*denials))).text
    assert "[0-9]+" not in (await run(Api(*denials), exact=True)).text
    assert "/users/[^/]+$" in (await run(Api(denials[0]), template=("/users/{id}",))).text


async def test_without_access_control_the_command_says_how_to_enable_it():
    api = Api(build_denial())
    api.documents[TOPOLOGY_PATH] = {"services": {"api@shop": {"additions": {}}}, "pods": {}}
    with pytest.raises(ConfigurationError, match=r"--set acl\.mode=audit"):
        await run(api)


@pytest.mark.parametrize("body", [b"no", b"[]", b'{"services": {"a": 3}, "pods": {}}', b'{"services": 3}'])
async def test_an_answer_that_is_no_topology_is_an_error(body):
    api = Api()
    api.documents[TOPOLOGY_PATH] = body
    with pytest.raises(ConfigurationError, match="not a topology"):
        await run(api)


# --- files


async def test_a_file_has_a_report_or_a_log(tmp_path):
    report, log = tmp_path / "report.json", tmp_path / "access.log"
    content = msgspec.json.encode(DenialReport(since="", complete=True, denials=(build_denial(path="/reported"),)))
    report.write_bytes(b"\n" + msgspec.json.format(content, indent=2))
    log.write_bytes(b"\n" + build_line(RequestPath="/logged") + b"\nno record\n")
    known = {"web-1": {"pods": [{"namespace": "shop", "name": "web-1", "serviceAccount": "web"}]}}
    result = await run(Api(pods=known), **{"from": (str(report), str(log))})
    paths = {each["pathRegex"] for found in result.document["suggestions"] for each in found["requests"]}
    assert paths == {"/reported$", "/logged$"}
    assert "# lines that are no records of an access log in JSON, and were ignored: 1" in result.text


async def test_a_pod_that_has_ended_is_found_by_the_similar_names_of_its_deployment(tmp_path):
    (tmp_path / "access.log").write_bytes(build_line(ClientPod="shop/web-5c4d9b8f7-zzzzz"))
    name = "web-6f9d8c7b5d-abcde"
    pods = {
        "web-5c4d9b8f7-zzzzz": {"pods": [], "nearest": [f"shop/{name}"]},
        name: {"pods": [{"namespace": "shop", "name": name, "serviceAccount": "web"}]},
    }
    assert list_targets(await run(Api(pods=pods), **{"from": (str(tmp_path / "access.log"),)}))


async def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="gone: No such file or directory"):
        await run(Api(), **{"from": (str(tmp_path / "gone"),)})
    (tmp_path / "bad").write_text('{"denials": 3}')
    with pytest.raises(ConfigurationError, match="bad: it is not a report of denials"):
        await run(Api(), **{"from": (str(tmp_path / "bad"),)})


# --- manifests, with the whole engine


@pytest.fixture
def build_api(tmp_path):
    async def build(*objects):
        (tmp_path / "mesh.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        plugins = {plugin.name: plugin for plugin in list_installed()}
        settings = ManifestCommandSettings(plugins=(plugins["gateway"], plugins["smi"], plugins["rewrite"]))
        return await build_manifests_api(settings, (str(tmp_path / "mesh.json"),), plugins["acl"])

    return build


async def test_manifests_need_a_file_with_what_was_observed(build_api):
    with pytest.raises(ConfigurationError, match="--from must name what was observed"):
        await run(await build_api(*OBJECTS))


def build_route(*rules):
    parents = [{"kind": "Service", "group": "", "name": "api", "port": 80}]
    return build_object(
        "HTTPRoute", "api", "gateway.networking.k8s.io/v1", spec={"parentRefs": parents, "rules": rules}
    )


def build_backends(*names):
    return [{"name": name, "port": 80} for name in names]


async def test_a_log_that_names_one_backend_opens_every_backend_of_the_rule(build_api, tmp_path):
    """Access control asks for all backends of a rule, and an access log names the one that was picked."""
    admin = {
        "matches": [{"path": {"type": "PathPrefix", "value": "/admin"}}],
        "backendRefs": build_backends("v2", "v3"),
    }
    other = {"backendRefs": build_backends("v1", "v2")}
    objects = [*OBJECTS, *CLIENTS, build_route(admin, other)]
    for number, name in enumerate(("v1", "v2", "v3")):
        objects += [build_service(name), build_pod(f"{name}-1", f"10.0.1.{number}", name, app=name)]
    api = await build_api(*objects)
    part = "shop/api:80/backend/shop/v2:80"
    lines = [
        build_line(ServiceName=part),
        build_line(ServiceName=part, RequestPath="/admin/x", ClientPod="shop/batch-1"),
    ]
    (tmp_path / "access.log").write_bytes(b"\n".join(lines))
    result = await run(api, **{"from": (str(tmp_path / "access.log"),)})
    opened = {
        (found["clients"][0]["serviceAccount"], found["destination"]["serviceAccount"], found["requests"][0]["path"])
        for found in result.document["suggestions"]
    }
    assert opened == {
        ("web", "v1", "/a"),
        ("web", "v2", "/a"),
        ("batch", "v2", "/admin/x"),
        ("batch", "v3", "/admin/x"),
    }


@pytest.mark.parametrize("text", ["api.shop", "shop/api", "api@shop", "api.shop.maesh", "api.shop.svc.cluster.local"])
def test_a_service_can_be_written_as_elsewhere(text):
    assert parse_service(text) == "shop/api"
