"""The chart's CustomResourceDefinitions are valid, serve what the plugins read, and forbid nothing of it."""

import importlib.util
from pathlib import Path
from typing import Any, cast

import jsonschema
import kubernetes_validate
import pytest
import yaml
from maesh_acl.kinds import KINDS as ACL_KINDS
from maesh_smi.kinds import KINDS as SMI_KINDS

from maesh_core.model.resources import CheckedResource

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "charts" / "maesh" / "crds").glob("*.yaml"))
CRDS = {path.stem: yaml.safe_load(path.read_text()) for path in PATHS}
KINDS = {kind.name: kind for kind in (*SMI_KINDS, *ACL_KINDS)}
KUBERNETES = "1.33"
OPEN = "x-kubernetes-preserve-unknown-fields"
EITHER = "x-kubernetes-int-or-string"


def list_served():
    return {
        (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]): version
        for crd in CRDS.values()
        for version in crd["spec"]["versions"]
    }


SERVED = list_served()


def get_schema(api_version, kind):
    return SERVED[api_version, kind]["schema"]["openAPIV3Schema"]


def list_nodes(schema, path="$"):
    """List a schema and all within it."""
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from list_nodes(below, f"{path}.{name}")
    if "items" in schema:
        yield from list_nodes(schema["items"], f"{path}[]")


def translate(schema):
    """Write Kubernetes' own word for "number or text" as JSON Schema."""
    found = {key: value for key, value in schema.items() if not key.startswith("x-kubernetes")}
    if schema.get(EITHER):
        found["type"] = ["integer", "string"]
    if "properties" in schema:
        found["properties"] = {name: translate(below) for name, below in schema["properties"].items()}
    if "items" in schema:
        found["items"] = translate(schema["items"])
    return found


def fits(document):
    validator = jsonschema.Draft202012Validator(translate(get_schema(document["apiVersion"], document["kind"])))
    return validator.is_valid(document)


@pytest.mark.parametrize("crd", CRDS.values(), ids=CRDS)
def test_a_definition_is_valid_for_kubernetes(crd):
    kubernetes_validate.validate(crd, KUBERNETES, strict=True)


@pytest.mark.parametrize("crd", CRDS.values(), ids=CRDS)
def test_a_definition_is_named_as_kubernetes_asks_and_stores_its_latest_version_alone(crd):
    spec, versions = crd["spec"], crd["spec"]["versions"]
    assert crd["metadata"]["name"] == f"{spec['names']['plural']}.{spec['group']}"
    assert spec["scope"] == "Namespaced"
    assert all(version["served"] for version in versions)
    assert [version["name"] for version in versions if version["storage"]] == [max(each["name"] for each in versions)]


@pytest.mark.parametrize("version", SERVED.values(), ids=map(" ".join, SERVED))
def test_a_schema_is_structural_and_keeps_unknown_fields_at_every_level(version):
    for path, node in list_nodes(version["schema"]["openAPIV3Schema"]):
        assert ("type" in node) is not (EITHER in node or (OPEN in node and "type" not in node)), path
        assert node.get("type") != "object" or node.get(OPEN) is True, path
        assert ("items" in node) is (node.get("type") == "array"), path


def test_every_kind_and_version_that_is_read_is_served_and_no_other():
    read = {(version, kind.name): kind.plural for kind in KINDS.values() for version in kind.api_versions}
    plurals = {crd["spec"]["names"]["kind"]: crd["spec"]["names"]["plural"] for crd in CRDS.values()}
    assert SERVED.keys() == read.keys()
    assert plurals == {kind.name: kind.plural for kind in KINDS.values()}


def load_builders(path):
    spec = importlib.util.spec_from_file_location(f"builders_{path.parts[-3]}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def list_objects():
    """List what the plugins' tests, their pages and the examples are made of."""
    smi = load_builders(ROOT / "plugins/smi/tests/conftest.py")
    acl = load_builders(ROOT / "plugins/acl/tests/conftest.py")
    for number in range(1, 5):
        text = smi.write_split("s", "web", {"a": 90, "b": "500m", "c": 0.25}, matches=["g"], version=f"v1alpha{number}")
        yield yaml.safe_load(text)
    yield acl.build_split("s", "web", {"a": 1}, ["g"])
    for port in (None, 8080, "8080"):
        yield acl.build_target("t", "server", ["caller"], [("HTTPRouteGroup", "g", "m"), ("TCPRoute", "r")], port=port)
    yield acl.build_group("g", {"name": "m", "pathRegex": "/", "methods": ["GET"], "headers": [{"a": "b"}]})
    for kind in ("TCPRoute", "UDPRoute"):
        yield acl.build_route(kind, "r")
        yield acl.build_route(kind, "r", (8080, 9090))
    pages = [block.partition("```")[0] for path in ROOT.glob("plugins/*/README.md") for block in read_blocks(path)]
    pages += [path.read_text() for path in ROOT.glob("examples/*/*.yaml")]
    for page in pages:
        for document in yaml.safe_load_all(page):
            if (document or {}).get("apiVersion", "").split("/")[0].endswith("smi-spec.io"):
                yield document


def read_blocks(path):
    return path.read_text().split("```yaml\n")[1:]


OBJECTS = [*list_objects()]
MATCH = {"name": "m", "pathRegex": "/api", "methods": ["GET"], "headers": {"a": "b"}}
ACCOUNT = {"kind": "ServiceAccount", "name": "a", "namespace": "n"}
RULE = {"kind": "HTTPRouteGroup", "name": "g", "matches": ["m"]}
SHAPES: dict[str, Any] = {
    "HTTPRouteGroup": [
        {"matches": [MATCH]},
        {"spec": {"matches": [{**MATCH, "headers": [{"a": "b"}, {"c": "d"}]}]}},
        {},
    ],
    "TCPRoute": [
        {},
        {"spec": {"matches": {"name": "m", "ports": [1]}}},
        {"spec": {"matches": [{"ports": [1]}, {"ports": [2]}]}},
    ],
    "TrafficTarget": [
        {"destination": {**ACCOUNT, "port": "80"}, "sources": [ACCOUNT], "specs": [RULE]},
        {"spec": {"destination": {**ACCOUNT, "port": 80}, "sources": [ACCOUNT], "rules": [RULE]}},
    ],
    "TrafficSplit": [
        {"spec": {"service": "s", "backends": [{"service": "a", "weight": weight}, {"service": "b"}]}}
        for weight in (1, "1", "500m", 0.5)
    ],
}
SHAPES["UDPRoute"] = SHAPES["TCPRoute"]


@pytest.mark.parametrize("document", OBJECTS, ids=lambda document: document["kind"])
def test_objects_of_tests_pages_and_examples_fit(document):
    assert fits(document)


@pytest.mark.parametrize(("api_version", "kind"), SERVED)
def test_every_shape_that_is_read_fits_every_version(api_version, kind):
    for fields in SHAPES[kind]:
        document = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "n"}, **fields}
        assert not cast("CheckedResource", KINDS[kind].decode(document)).faults
        assert fits(document)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("TrafficSplit", {"spec": {"service": 1}}),
        ("TrafficSplit", {"spec": {"service": "s", "backends": [{"weight": 1}]}}),
        ("HTTPRouteGroup", {"spec": {"matches": [{"methods": "GET"}]}}),
        ("TrafficTarget", {"spec": {"destination": "a"}}),
        ("TrafficTarget", {"spec": {"destination": {**ACCOUNT, "port": [80]}}}),
    ],
)
def test_what_no_plugin_could_read_is_refused_by_the_api_server_too(kind, fields):
    document = {"apiVersion": KINDS[kind].api_versions[0], "kind": kind, "metadata": {"name": "x"}, **fields}
    assert cast("CheckedResource", KINDS[kind].decode(document)).faults
    assert not fits(document)
