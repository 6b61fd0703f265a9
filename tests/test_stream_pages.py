"""docs/tcp-services.md and docs/udp-services.md say what the code does: remarks, settings and metrics."""

import re
from pathlib import Path

import msgspec
import pytest
from maesh_udp import UdpSettings
from maesh_udp.controller import UdpTrafficType
from maesh_udp.proxy import UdpHandler

from maesh_core.controller.configuration.builder import build_service_configuration
from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.http import HttpTrafficType
from maesh_core.controller.configuration.port_plan import plan_ports
from maesh_core.controller.configuration.tcp import TcpTrafficType
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import PortNode, ServiceNode
from maesh_core.plugin_system.hookspecs import Stage
from maesh_core.plugin_system.protocols import PortRange
from maesh_core.proxy.tcp.handler import TcpHandler
from maesh_core.settings import MeshSettings, ProxySettings
from maesh_core.settings.fields import list_fields
from maesh_core.values.parsing import parse_value
from maesh_testing import FakeNode

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = {name: (DOCS / f"{name}-services.md").read_text() for name in ("tcp", "udp")}
FLAGS = {field.flag: field for class_ in (MeshSettings, ProxySettings) for field in list_fields(class_)}
TCP_SETTINGS, UDP_SETTINGS = MeshSettings(), UdpSettings()
HTTP = HttpTrafficType(PortRange(first=5000, limit=100, is_exclusive=False))
TCP = TcpTrafficType(PortRange(first=TCP_SETTINGS.tcp_port, limit=TCP_SETTINGS.limit_tcp_port, is_exclusive=True))
UDP = UdpTrafficType(PortRange(first=UDP_SETTINGS.port, limit=UDP_SETTINGS.limit, is_exclusive=True))


class Limiter:
    """A middleware that services ask for with the annotations that the pages name."""

    kind = "limiter"
    stage = Stage.LIMIT
    annotations = ("retry-attempts", "ratelimit-burst")

    def build_settings(self, annotations, service):
        return dict(annotations) or None


def list_rows(page, heading):
    """List the cells of a section's tables, without their heads."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:1] == "|"]
    return [row for row in rows[1:] if not row[0].startswith("---")]


def list_remarks(traffic_types, *ports, entrypoints=None, **fields):
    """List what the operator is told of a service."""
    catalogue = Catalogue(traffic_types, [Limiter()])
    node = ServiceNode(key=ObjectKey("test", "app"), ports=ports, **fields)
    if entrypoints is None:
        entrypoints = {
            each.name: {port.number: 30000 for port in plan_ports(node, catalogue)} for each in traffic_types
        }
    built = build_service_configuration(node, catalogue=catalogue, entrypoints=entrypoints)
    return {f"error `{text}`" for text in built.errors} | {f"notice `{text}`" for text in built.notices}


@pytest.mark.parametrize(
    ("name", "number", "middleware"), [("tcp", 6379, "retry-attempts"), ("udp", 53, "ratelimit-burst")]
)
def test_what_cannot_be_carried_is_reported_as_the_page_says(name, number, middleware):
    known = (HTTP, TCP, UDP)
    suitable = PortNode(number=number, protocol=name.upper())
    other = PortNode(number=53, protocol={"tcp": "UDP", "udp": "TCP"}[name])
    annotations = {"load-balancer": "fastest", middleware: "2"}
    told = list_remarks(known, other, traffic_type=name)
    told |= list_remarks(known, suitable, traffic_type=name, is_headless=True)
    told |= list_remarks(known, suitable, traffic_type=name, entrypoints={})
    for key, text in annotations.items():
        told |= list_remarks(known, suitable, traffic_type=name, annotations={f"maesh.containo.us/{key}": text})
    for scheme in ("https", "tls"):
        told |= list_remarks(known, suitable, traffic_type=name, annotations={"maesh.containo.us/scheme": scheme})
    if name == "udp":
        told |= list_remarks((HTTP, TCP), suitable, traffic_type=name)
    rows = list_rows(PAGES[name], "Services that cannot be carried")
    assert {re.match(r"(error|notice) `[^`]+`", row[1]).group() for row in rows} == told


@pytest.mark.parametrize(("name", "build"), [("tcp", TcpHandler), ("udp", lambda node: UdpHandler(UDP_SETTINGS, node))])
async def test_every_metric_is_on_its_page_and_no_other(name, build):
    node = FakeNode(settings=ProxySettings())
    families = build(node).collect_metrics()
    node.close()
    rows = list_rows(PAGES[name], "What is counted and logged")
    endings = {"counter": "_total", "gauge": ""}
    assert sorted(row[0] for row in rows) == sorted(f"`{family.name}{endings[family.type]}`" for family in families)
    without = {f"`{family.name}_total`" for family in families if not family.labels}
    assert {row[0] for row in rows if "without label" in row[1]} == without


def test_settings_of_tcp_have_the_defaults_that_its_page_says():
    rows = list_rows(PAGES["tcp"], "Limits and time-outs")
    assert {row[0].strip("`") for row in rows} >= {"--connect-timeout", "--tunnel-timeout", "--connection-limit"}
    assert [(row[0], row[1]) for row in rows] == [
        (row[0], FLAGS[row[0].strip("`")].default_text) for row in rows if row[0].strip("`") in FLAGS
    ]


def test_settings_of_udp_are_all_on_its_page_with_their_defaults():
    rows = list_rows(PAGES["udp"], "Limits")
    fields = {field.name.replace("_", "-"): field for field in msgspec.structs.fields(UdpSettings)}
    said = {re.search(r"udp\.([a-z-]+)=", row[0]).group(1): row[1] for row in rows}
    assert said.keys() == fields.keys()
    assert {key: parse_value(text, fields[key].type) for key, text in said.items()} == {
        key: field.default for key, field in fields.items()
    }


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_pages_name_flags_and_pages_that_exist(page):
    switches = {f"--no-{name.removeprefix('--')}" for name in FLAGS} | {"--set", "--no-udp"}
    assert set(re.findall(r"--[a-z][a-z-]+", page)) <= FLAGS.keys() | switches
    links = re.findall(r"\]\(([^)#]+)(?:#([^)]+))?\)", page)
    for path, anchor in links:
        text = (DOCS / path).resolve().read_text()
        headings = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}
        assert not anchor or anchor in headings
