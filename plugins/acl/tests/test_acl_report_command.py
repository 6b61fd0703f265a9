"""`maesh acl report`, with controllers that a test scripts."""

from typing import Any
from unittest.mock import AsyncMock

import msgspec
import pytest
from maesh_acl.denials.command import ReportCommand, render_report, select_denials
from maesh_acl.denials.report import DenialReport, ReportingNode

from maesh_core.plugin import ConfigurationError

from .test_acl_suggest_command import Api, build_denial

DEFAULTS: dict[str, Any] = {"would-deny": False, "targets": False, "service": ""}


def build_report(*denials, **changes):
    return msgspec.structs.replace(
        DenialReport(since="2026-01-01T00:00:00Z", complete=True, denials=denials), **changes
    )


class Controller:
    name = "one"

    def __init__(self, report):
        self.report = report

    async def fetch(self, path):
        topology = {"services": {"api@shop": {"additions": {"acl": {}}}}}
        return msgspec.json.encode({"/api/acl/denials": self.report, "/api/topology/current": topology}[path])

    async def post(self, path, body):
        raise AssertionError


async def run(report, **values):
    return await ReportCommand().run([Controller(report)], {**DEFAULTS, **values})


async def test_it_shows_who_would_be_denied_where_how_often_and_since_when():
    found = await run(build_report(build_denial(), build_denial(mode="enforce", reason="path", client=None)))
    lines = found.text.splitlines()
    assert lines[0].split() == ["SERVICE", "CLIENT", "REQUEST", "COUNT", "FIRST", "LAST", "RESULT"]
    assert lines[1].split()[:4] == ["shop/api:80", "web@shop", "GET", "/a"]
    assert lines[1].endswith("would deny: no rule allows this client")
    assert lines[2].split()[1] == "10.1.0.1"
    assert lines[2].endswith("denied: the path is ambiguous")
    assert "all proxies have recorded since 2026-01-01T00:00:00Z" in found.text
    assert found.status == 3
    assert found.document["denials"][0]["client"] == {"namespace": "shop", "serviceAccount": "web"}


async def test_it_names_the_targets_that_allow_the_client_other_requests():
    changes = {"reason": "request", "mode": "enforce"}
    one = build_denial(traffic_targets=("read@shop",), **changes)
    two = build_denial(traffic_targets=("read@shop", "list@shop"), service="shop/api:81", **changes)
    lines = (await run(build_report(one, two))).text.splitlines()
    assert lines[1].endswith("no rule allows this request of the client: TrafficTarget read@shop does not")
    assert lines[2].endswith("no rule allows this request of the client: TrafficTargets read@shop, list@shop do not")


async def test_the_exit_status_says_whether_anything_would_be_denied():
    assert (await run(build_report())).status == 0
    assert (await run(build_report(build_denial(mode="enforce")))).status == 0
    incomplete = await run(build_report(complete=False, nodes=(ReportingNode(name="a", error="no route"),)))
    assert incomplete.status == 3
    assert "proxy a: no route" in incomplete.text


async def test_a_service_that_the_mesh_does_not_have_is_an_error():
    assert (await run(build_report(), service="api.shop")).status == 0
    assert (await run(build_report(build_denial(service="shop/gone:80")), service="gone.shop")).status == 3
    with pytest.raises(ConfigurationError, match=r"the mesh has no service apy\.shop"):
        await run(build_report(build_denial()), service="apy.shop")


async def test_without_access_control_it_says_how_to_enable_it():
    controller: Any = Controller(build_report())
    controller.fetch = AsyncMock(return_value=b'{"services": {"api@shop": {"additions": {}}}}')
    with pytest.raises(ConfigurationError, match="access control is disabled in the controller"):
        await ReportCommand().run([controller], DEFAULTS)


async def test_it_prints_the_targets_that_would_allow_it():
    apis: Any = [Api(build_denial())]
    found = await ReportCommand().run(apis, {**DEFAULTS, "targets": True})
    assert "kind: TrafficTarget" in found.text
    assert len(found.document["suggestions"]) == 1


def test_one_service_can_be_selected_and_what_was_denied_left_out():
    report = build_report(
        build_denial(), build_denial(service="shop/api-2:80"), build_denial(mode="enforce", service="shop/api:81")
    )
    assert [each.service for each in select_denials(report, service="api.shop").denials] == [
        "shop/api:80",
        "shop/api:81",
    ]
    assert [each.mode for each in select_denials(report, service="shop/api", only_audit=True).denials] == ["audit"]
    with pytest.raises(ConfigurationError, match=r"is not name\.namespace"):
        select_denials(report, service="api")


def test_what_a_proxy_reports_never_begins_a_line():
    forged = "x\nshop/api:80  web@shop\u2028y"
    denials = (build_denial(path=forged), build_denial(service=forged, method=forged))
    report = build_report(*denials, complete=False, nodes=(ReportingNode(name=forged, error=forged),))
    lines = render_report(report).splitlines()
    assert len(lines) == 7
    assert not any(line.startswith(("shop/api:80  web", "y")) for line in lines)


def test_streams_cut_paths_and_other_services_are_described():
    report = build_report(
        build_denial(traffic_type="tcp", method="", path=""),
        build_denial(path="/long", is_path_cut=True, method="", destinations=("v1@shop", "api@shop")),
    )
    text = render_report(report)
    assert "TCP connection" in text
    assert "any method /long..." in text
    assert text.count("(v1@shop)") == 1
    assert render_report(build_report(since="")).splitlines()[-1] == "no proxy has answered"
