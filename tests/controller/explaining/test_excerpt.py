import json
from pathlib import Path

import msgspec
import pytest

from maesh_core.controller.building import build_once
from maesh_core.controller.explaining.excerpt import answer_question, collect_excerpt
from maesh_core.controller.explaining.explanation import ExplainedRequest, Explainer
from maesh_core.controller.explaining.sources import read_engine
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.errors import ConfigurationError
from maesh_core.model.events import Applied, Deleted
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod, Service
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings import ControllerSettings

EXAMPLES = Path(__file__).parents[3] / "examples"


async def build_example(name: str) -> Engine:
    names = ("acl", "smi") if name == "acl" else ("smi",)
    installed = tuple(plugin for plugin in list_installed() if plugin.name in names)
    settings = ControllerSettings(paths=(str(EXAMPLES / name / f"{name}.yaml"),), plugins=installed)
    return await build_once(settings, load_plugins("controller", installed, {}))


def explain_everything(engine: Engine, asked: ExplainedRequest) -> bytes:
    """Explain with the documents of the whole mesh, as the command does."""
    sources = read_engine(engine)
    builders = {builder.kind: builder for builder in engine.middleware_builders}
    explainer = Explainer(
        sources.topology,
        sources.update,
        builders,
        pods=sources.pods,
        objects=sources.objects,
        problems=sources.problems,
    )
    return msgspec.json.encode(explainer.explain(asked))


def ask(service: str, client: str = "127.0.0.1") -> ExplainedRequest:
    return ExplainedRequest(client=client, service=service)


@pytest.mark.parametrize("example", ["acl", "canary", "whoami"])
async def test_an_excerpt_gives_the_same_answer_as_the_whole_mesh(example: str) -> None:
    engine = await build_example(example)
    clients = {f"{key.name}.{key.namespace}" for key in engine.objects.keys(Pod)} | {"127.9.9.9"}
    asked_count = 0
    for service in engine.list_services():
        for client in clients:
            asked = ExplainedRequest(
                client=client,
                service=f"{service.name}.{service.namespace}",
                method="POST" if asked_count % 2 else "GET",
                headers=(("x-group", "beta"),) if asked_count % 3 else (),
            )
            found = answer_question(asked, collect_excerpt(asked, engine))
            assert json.loads(found) == json.loads(explain_everything(engine, asked))
            asked_count += 1
    assert asked_count > 1


async def test_an_unknown_service_gets_the_hint_that_the_whole_mesh_gives() -> None:
    engine = await build_example("canary")
    asked = ExplainedRequest(client="127.0.0.1", service="wbe.canary")
    with pytest.raises(ConfigurationError) as whole:
        explain_everything(engine, asked)
    with pytest.raises(ConfigurationError) as caught:
        answer_question(asked, collect_excerpt(asked, engine))
    assert str(caught.value) == str(whole.value)
    assert "did you mean web" in str(caught.value)


@pytest.mark.parametrize("address", ["10.96.0.7", "[fd00::7]", "10.96.0.8"])
async def test_a_cluster_address_gets_the_answer_that_the_whole_mesh_gives(address: str) -> None:
    engine = await build_example("canary")
    service = engine.find_service(ObjectKey("canary", "web"))
    assert service is not None
    spec = msgspec.structs.replace(service.spec, cluster_ip="10.96.0.7", cluster_ips=("10.96.0.7", "FD00::7"))
    engine.apply([Applied(msgspec.structs.replace(service, spec=spec))], source="manifests")
    asked = ExplainedRequest(client="127.0.0.1", service=address)
    if address == "10.96.0.8":
        with pytest.raises(ConfigurationError, match="not a cluster address"):
            explain_everything(engine, asked)
        with pytest.raises(ConfigurationError, match="not a cluster address"):
            answer_question(asked, collect_excerpt(asked, engine))
        return
    found = answer_question(asked, collect_excerpt(asked, engine))
    assert json.loads(found) == json.loads(explain_everything(engine, asked))
    assert json.loads(found)["service"] == "canary/web"


async def test_a_name_alone_gets_the_answer_that_the_whole_mesh_gives_by_the_clients_namespace() -> None:
    engine = await build_example("canary")
    client = next(f"{key.name}.{key.namespace}" for key in engine.objects.keys(Pod))
    asked = ask("web", client)
    found = json.loads(answer_question(asked, collect_excerpt(asked, engine)))
    assert found == json.loads(explain_everything(engine, asked))
    assert found["service"] == "canary/web"
    assert "web alone means the service of the client's namespace, canary" in found["steps"]
    stranger = ask("web", "127.9.9.9")
    with pytest.raises(ConfigurationError, match=r"no service web in namespace default; did you mean web\.canary\?"):
        answer_question(stranger, collect_excerpt(stranger, engine))


async def test_an_excerpt_does_not_change_with_the_mesh() -> None:
    engine = await build_example("canary")
    asked = ExplainedRequest(client="127.0.0.1", service="web.canary")
    excerpt = collect_excerpt(asked, engine)
    before = answer_question(asked, excerpt)
    engine.apply([Deleted(Service, key) for key in engine.list_services()], source="manifests")
    assert answer_question(asked, excerpt) == before
    with pytest.raises(ConfigurationError):
        answer_question(asked, collect_excerpt(asked, engine))


async def test_an_excerpt_has_only_the_services_that_a_request_may_reach() -> None:
    engine = await build_example("canary")
    reached = {node.key.name for node, _, _ in collect_excerpt(ask("web-v1.canary"), engine).reached}
    assert reached == {"web-v1"}
    reached = {node.key.name for node, _, _ in collect_excerpt(ask("web.canary"), engine).reached}
    assert reached == {"web", "web-v1", "web-v2", "web-v2-blue", "web-v2-green"}
