"""Whole meshes: from resources to the topology and the configuration on file, a folder for each rule.

A case that changes is written by hand or by a scratch script, and its difference read by a person.
"""

import json
from pathlib import Path

import msgspec
import pytest

from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.controller.topology.rendering import render_topology
from maesh_core.model.messages import render_sections

CASES = sorted(path for path in (Path(__file__).parent / "data").iterdir() if path.is_dir())


def build_documents(folder, cluster_type, kinds):
    content = (folder / "resources.json").read_bytes()
    assert not parse_manifest(content, KindTable(kinds), path="resources.json").errors
    objects = json.loads(content)["items"]
    cluster = cluster_type(*objects)
    names = [each["metadata"]["name"] for each in objects if each["kind"] == "Service"]
    sections = {}
    for name in names:
        section = cluster.build_section(name)
        known = sections.setdefault(cluster.build_node(name).traffic_type, type(section)())
        merged = {noun: {**getattr(known, noun), **getattr(section, noun)} for noun in known.__struct_fields__}
        sections[cluster.build_node(name).traffic_type] = type(section)(**merged)
    topology = msgspec.json.encode(render_topology([cluster.build_node(name) for name in names]))
    return {
        "topology.json": msgspec.json.format(topology, indent=1).decode() + "\n",
        "configuration.json": msgspec.json.format(render_sections("e.1", sections, is_full=True), indent=1).decode()
        + "\n",
    }


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_resources_give_the_topology_and_the_configuration_on_file(folder):
    from .conftest import ALL_KINDS, Cluster

    for name, text in build_documents(folder, Cluster, ALL_KINDS).items():
        assert text == (folder / name).read_text(), f"{folder.name}/{name}"
