"""The whole policy as checkers see it."""

from maesh_core.controller.checking.policy import EnginePolicy
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.resources import Pod, Service
from tests.cli.check.cases import BARE, WEB, write_service

KEY = ObjectKey("shop", "web")
SHOWN = write_service('maesh.containo.us/retry-attempts: "3", other.example/a: b')
IGNORED = BARE.replace("namespace: shop", "namespace: lab")


async def test_nodes_have_annotations_without_prefix(engine_of):
    policy = await engine_of(SHOWN)
    assert list(policy.nodes) == [KEY]
    shown = policy.nodes[KEY].annotations
    assert (shown["retry-attempts"], shown["other.example/a"]) == ("3", "b")
    assert [server.address for server in policy.nodes[KEY].ports[0].servers] == ["10.0.0.1"]


async def test_objects_that_the_mesh_ignores_are_not_listed(engine_of):
    policy = await engine_of(WEB + IGNORED, ignore_namespaces=("lab",))
    assert [each.key for each in policy.list_objects(Service)] == [KEY]
    assert policy.get(Service, ObjectKey("lab", "bare")) is not None


async def test_a_checker_can_find_objects_and_compare_matches(engine_of):
    policy = await engine_of(WEB)
    assert [each.key for each in policy.find(Pod, "account", KEY)] == [KEY]
    assert policy.build_service(KEY).key == KEY
    assert policy.list_services("shop") == [KEY]
    assert not policy.has_filter("CORS")
    assert policy.covers(HttpMatch(), HttpMatch(exact_path="/a"))
    assert policy.find_impossible(HttpMatch(paths=("a",)))
    assert [code for code, _ in policy.find_weight_problems(())] == ["MSH305"]
    assert repr(policy) == "<EnginePolicy 1 services>"


async def test_comparisons_are_limited(engine_of, monkeypatch):
    monkeypatch.setattr("maesh_core.controller.checking.policy.COMPARISONS_LIMIT", 2)
    policy = await engine_of(WEB)
    assert [policy.covers(HttpMatch(), HttpMatch()) for _ in range(3)] == [True, True, False]


async def test_a_policy_without_services_is_empty(engine_of):
    assert isinstance(await engine_of("kind: [\n"), EnginePolicy)
