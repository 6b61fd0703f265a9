"""The controller's parts: reading a manifest, building a service, following one change, rendering for proxies."""

from itertools import count

import msgspec
import pytest
from scale import build_documents, render_file

from maesh_core.controller.building import build_engine
from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.model.events import Applied, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import EndpointSlice, Service
from maesh_core.settings import ControllerSettings

SERVICES, SERVERS = 5000, 10
CHANGED = ObjectKey("team-7", "service-7-slice")


class ListedSource:
    """Stands for a source whose events the benchmark gives itself."""

    name = "manifests"


def convert(document):
    """Turn a manifest's document into the resource it describes."""
    return msgspec.convert(document, EndpointSlice if document["kind"] == "EndpointSlice" else Service)


def build_replacements(number_of_services):
    """List a whole cluster, kind by kind."""
    pairs = [build_documents(number, SERVERS) for number in range(number_of_services)]
    resources = [convert(document) for pair in pairs for document in pair]
    return [
        Replaced(kind.type, [resource for resource in resources if type(resource) is kind.type]) for kind in CORE_KINDS
    ]


def start_engine(plugins, tmp_path, number_of_services):
    """Build an engine that holds the cluster."""
    settings = ControllerSettings(port_mapping=str(tmp_path / "ports.json"))
    engine = build_engine(settings, plugins, kinds=CORE_KINDS, sources=[ListedSource()])
    engine.apply(build_replacements(number_of_services), source="manifests")
    assert engine.is_ready
    return engine


@pytest.fixture(scope="module")
def engine(plugins, tmp_path_factory):
    return start_engine(plugins, tmp_path_factory.mktemp("engine"), SERVICES)


@pytest.fixture
def apply_change(engine):
    """Move all servers of one service elsewhere, each time to others."""
    numbers = count(1)

    def apply():
        document = build_documents(7, SERVERS, first=next(numbers))[1]
        engine.apply([Applied(convert(document))], source="manifests")

    return apply


@pytest.mark.parametrize("kind", ["json", "yaml"])
def test_parse_one_manifest(benchmark, kind):
    content = render_file(build_documents(7, SERVERS), kind).encode()
    kinds = KindTable(CORE_KINDS)
    manifest = benchmark(parse_manifest, content, kinds, path=f"service.{kind}")
    assert len(manifest.resources) == 2


def test_build_500_services(benchmark, plugins, tmp_path):
    engine = benchmark.pedantic(start_engine, (plugins, tmp_path, 500), rounds=5)
    assert engine.rebuilt_count == 500


def test_apply_one_change_among_5000_services(benchmark, engine, apply_change):
    before = engine.rebuilt_count
    benchmark.pedantic(apply_change, rounds=200)
    assert engine.rebuilt_count == before + 200


def test_render_the_delta_of_one_change_among_5000_services(benchmark, engine, apply_change):
    before = engine.revision
    apply_change()
    body = benchmark(engine.render_configuration, before)
    assert b"service-7:80" in body
    assert b"service-8:80" not in body


def test_render_the_whole_of_5000_services_again(benchmark, engine):
    body = benchmark(engine.render_configuration, None)
    assert len(body) > 1_000_000
