"""A change of one pod concerns few services of a mesh in which every service has a target, and many a split."""

import json

import pytest
from maesh_acl import AccessSettings
from maesh_acl.controller import GrantBuilder
from maesh_smi.controller import SplitBuilder

from maesh_core.controller.configuration.revisions import RevisionStore
from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.controller.ports.assignment import PortTables
from maesh_core.controller.ports.mapping_file import PortMappingFile
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.rebuilds.engine_parts import EngineParts
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.model.events import Applied, Replaced
from maesh_core.model.resources import Pod

from .conftest import ALL_KINDS, CATALOGUE, build_group, build_pod, build_service, build_split, build_target

SERVICES, SPLITS = 2000, 500
SPACING = SERVICES // SPLITS
CALLERS = (300, 700, 1100)
"""A service's target lets in the accounts of the services so many numbers ahead."""


def get_leaves(number):
    """Get the services that a service's split leads to."""
    return {number + 1, number + 2} if number % SPACING == 0 else set()


def find_concerned(number):
    """Find the services that a pod's change concerns, by the rules: server of whom, and caller of whom."""
    targets = {number} | {each for each in range(SERVICES) if number in {(each + step) % SERVICES for step in CALLERS}}
    return targets | {each for each in range(SERVICES) if get_leaves(each) & targets}


def list_objects():
    yield build_group("api", {"name": "read", "pathRegex": "/api", "methods": ["GET"]})
    for number in range(SERVICES):
        name = f"s{number}"
        yield build_service(name)
        for pod in range(2):
            yield build_pod(f"{name}-{pod}", f"10.{pod}.{number // 250}.{number % 250}", name, app=name)
        callers = [f"s{(number + step) % SERVICES}" for step in CALLERS]
        yield build_target(name, name, callers, [("HTTPRouteGroup", "api", "read")])
        if leaves := get_leaves(number):
            yield build_split(name, name, {f"s{leaf}": leaf for leaf in leaves})


def parse(*objects):
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}).encode()
    manifest = parse_manifest(content, KindTable(ALL_KINDS), path="test.json")
    assert not manifest.errors
    return [each.resource for each in manifest.resources]


@pytest.fixture(scope="module")
def engine():
    types = tuple(kind.type for kind in ALL_KINDS)
    parts = EngineParts(
        snapshot=Snapshot(ALL_KINDS),
        rules=TopologyRules(),
        builders=(SplitBuilder(), GrantBuilder(AccessSettings())),
        catalogue=CATALOGUE,
        ports=PortTables({}, assigned={}, clock=lambda: 0.0),
        mapping_file=PortMappingFile(None),
        revisions=RevisionStore("e", ("acl", "smi")),
        sources=("s",),
        kinds=tuple(ALL_KINDS),
    )
    made = Engine(parts)
    resources = parse(*list_objects())
    made.apply([Replaced(type_, [each for each in resources if type(each) is type_]) for type_ in types], source="s")
    assert made.rebuilt_count == SERVICES
    return made


def move(engine, number, address):
    """Give a pod another address; return the services that were built again, and those whose configuration changed."""
    before, revision = engine.rebuilt_count, engine.revision
    name = f"s{number}"
    (pod,) = parse(build_pod(f"{name}-0", address, name, app=name))
    assert type(pod) is Pod
    engine.apply([Applied(pod)], source="s")
    delta = json.loads(engine.render_configuration(revision))
    assert delta["full"] is False
    keys = {key for noun in delta["http"].values() for key in noun}
    return engine.rebuilt_count - before, {key.split(":")[0].split("/")[1] for key in keys}


@pytest.mark.scale
@pytest.mark.parametrize("number", [0, 1, 2, 3, 1000, 1999])
def test_a_pods_change_builds_the_services_that_it_concerns_again_and_no_other(engine, number):
    concerned = find_concerned(number)
    assert len(concerned) <= 8
    count, changed = move(engine, number, f"10.9.{number // 250}.{number % 250}")
    assert count == len(concerned)
    assert changed == {f"s{each}" for each in concerned}


@pytest.mark.scale
def test_a_client_pod_that_is_new_concerns_those_who_let_it_in_alone(engine):
    before = engine.rebuilt_count
    engine.apply([Applied(*parse(build_pod("job", "10.8.0.1", "s7")))], source="s")
    callees = find_concerned(7) - {7} - {each for each in range(SERVICES) if 7 in get_leaves(each)}
    assert engine.rebuilt_count - before == len(callees)
