import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.discovery.documents.parsing import MAX_ERRORS, KindTable, parse_manifest
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.errors import ManifestError, PluginError
from maesh_core.model.resources import EndpointSlice, Pod, Resource, ResourceKind, Service
from maesh_core.plugin_system.shipped import find_kind_switches

TABLE = KindTable(CORE_KINDS)
SOME_SMI_KIND = ResourceKind(
    name="HTTPRouteGroup", plural="groups", api_versions=("specs.smi-spec.io/v1alpha4",), type=Resource
)

# As printed in the announcement of 1.2: annotation values that are numbers, a port without targetPort.
ANNOUNCED = """
apiVersion: v1
kind: Service
metadata:
  name: udp-service
  namespace: test
  labels:
    app: my-udp-service
  annotations:
    maesh.containo.us/retry-attempts: 2
    maesh.containo.us/ratelimit-burst: 200
spec:
  type: ClusterIP
  ports:
    - port: 8080
      name: udp-port
      protocol: UDP
  selector:
    app: my-udp-service
"""


def names(manifest):
    return [item.resource.metadata.name for item in manifest.resources]


def test_a_service_is_read_with_its_defaults(load_one):
    service = load_one("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}")
    assert service.key == ("default", "web")
    (port,) = service.spec.ports
    assert (port.port, port.protocol, port.target_port) == (80, "TCP", None)


def test_annotations_that_are_numbers_become_text(load_one):
    assert load_one(ANNOUNCED).metadata.annotations == {
        "maesh.containo.us/retry-attempts": "2",
        "maesh.containo.us/ratelimit-burst": "200",
    }


def test_the_same_object_reads_the_same_from_json_and_from_yaml(load_one):
    value = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "apps", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
    }
    from_json = load_one(json.dumps(value), "f.json")
    assert isinstance(from_json, EndpointSlice)
    assert from_json == load_one(json.dumps(value), "f.yaml")
    assert from_json == load_one(json.dumps(value, indent=1).replace('"endpoints"', "endpoints"), "f.yaml")


def test_the_origin_names_file_document_and_line(parse):
    manifest = parse("---\n# first\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: Namespace\n")
    assert [item.origin for item in manifest.resources] == ["f.yaml document 1 line 3"]
    assert [str(error) for error in manifest.errors] == [
        "f.yaml document 2 line 7: is not a Kubernetes object: apiVersion is missing"
    ]


@pytest.mark.parametrize("text", ["just text\n", "- a\n- b\n", "7\n", "true\n"])
def test_a_document_without_fields_is_reported_as_no_object(parse, text):
    (error,) = parse(text).errors
    assert str(error) == (
        "f.yaml document 1 line 1: is not a Kubernetes object, which has fields such as apiVersion and kind"
    )


def test_lists_are_taken_apart_and_their_items_stand_alone(parse):
    good = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}
    bad = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "A"}}
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": [bad, good]})
    for path in ("f.json", "f.yaml"):
        manifest = parse(document, path)
        assert names(manifest) == ["a"]
        (error,) = manifest.errors
        assert error.origin == f"{path} document 1 line 1 items[0]"


def test_items_of_a_typed_list_need_not_say_their_kind(parse):
    document = {"apiVersion": "v1", "kind": "NamespaceList", "items": [{"metadata": {"name": "a"}}]}
    assert names(parse(json.dumps(document), "f.json")) == ["a"]
    assert names(parse("apiVersion: v1\nkind: PodList\nitems:\n- metadata: {name: p}\n")) == ["p"]


def test_items_of_a_plain_list_must_say_their_kind(find_fault):
    assert "missing" in find_fault("apiVersion: v1\nkind: List\nitems:\n- metadata: {name: p}\n")


@pytest.mark.parametrize("items", ["items: []", "items: ~", "other: 1"])
def test_an_empty_list_holds_nothing(parse, items):
    manifest = parse(f"apiVersion: v1\nkind: List\n{items}\n")
    assert (manifest.resources, manifest.errors) == ((), ())


def test_lists_in_lists_are_read_but_not_without_end(parse):
    document: dict[str, object] = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}}
    for _ in range(4):
        document = {"apiVersion": "v1", "kind": "List", "items": [document]}
    assert names(parse(json.dumps(document))) == ["a"]
    document = {"apiVersion": "v1", "kind": "List", "items": [document]}
    assert "lists are nested more than" in parse(json.dumps(document)).errors[0].text


def test_kinds_that_nobody_reads_are_named_once_and_are_no_error(parse):
    deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {template: {spec: 1}}\n"
    manifest = parse(f"{deployment}---\n{deployment}---\napiVersion: batch/v1\nkind: Job\n")
    assert manifest.unread_kinds == ("apps/v1 Deployment", "batch/v1 Job")
    assert (manifest.errors, manifest.notices) == ((), ())


@pytest.mark.parametrize(
    ("api_version", "kind", "said"),
    [
        ("v1", "Servce", "did you mean Service?"),
        ("v1", "service", "did you mean Service?"),
        ("discovery.k8s.io/v1", "EndpointSlices", "did you mean EndpointSlice?"),
        ("discovery.k8s.io/v1", "Endpoint", "did you mean Endpoints?"),
        ("access.smi-spec.io/v1alpha3", "TraficTarget", "did you mean TrafficTarget?"),
        ("v2", "Service", "only v1 of this kind are read"),
        ("apps/v1", "Pod", "only v1 of this kind are read"),
        ("access.smi-spec.io/v1alpha3", "TrafficTarget", "plugin acl is off; --acl switches it on"),
    ],
)
def test_a_kind_that_is_nearly_one_that_is_read_is_noticed_on_its_object(api_version, kind, said):
    table = KindTable((*CORE_KINDS, SOME_SMI_KIND), find_kind_switches({"smi"}))
    text = f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n"
    manifest = parse_manifest(text.encode(), table, path="f.yaml")
    (notice,) = manifest.notices
    assert notice.origin == "f.yaml document 1 line 1"
    assert notice.text == f"skipped, because nothing reads {api_version} {kind}: {said}"
    assert (notice.kind, notice.key) == (kind, ("default", "a"))
    assert (manifest.errors, manifest.unread_kinds) == ((), ())


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("gateway.networking.k8s.io/v1", "Gateway"),
        ("gateway.networking.k8s.io/v1alpha2", "TLSRoute"),
        ("networking.istio.io/v1", "ServiceEntry"),
        ("monitoring.coreos.com/v1", "ServiceMonitor"),
        ("v1", "ConfigMap"),
        ("v1", "Secret"),
        ("apps/v1", "ReplicaSet"),
    ],
)
def test_a_kind_of_another_project_is_not_treated_as_a_mistake(api_version, kind):
    table = KindTable((*CORE_KINDS, SOME_SMI_KIND), find_kind_switches({"smi"}))
    text = f"apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: a}}\n"
    manifest = parse_manifest(text.encode(), table, path="f.yaml")
    assert (manifest.notices, manifest.unread_kinds) == ((), (f"{api_version} {kind}",))


def test_an_error_names_its_object(parse):
    manifest = parse("apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: apps}\nspec: {ports: 1}\n")
    assert [(error.kind, error.key) for error in manifest.errors] == [("Service", ("apps", "a"))]
    manifest = parse("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 0}]}\n")
    assert [(error.kind, error.key) for error in manifest.errors] == [("Service", ("default", "a"))]
    manifest = parse("apiVersion: v1\nkind: Service\nmetadata: 5\n")
    assert [(error.kind, error.key) for error in manifest.errors] == [("Service", None)]


def test_a_name_that_none_can_have_is_shown_without_harm(parse):
    (notice,) = parse('apiVersion: v1\nkind: Servce\nmetadata: {name: "a\\n\\e[31m"}\n').notices
    assert notice.key == ("default", "'a\\n\\x1b[31m'")


def test_a_value_that_does_not_fit_is_named_by_its_path(find_fault):
    text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n  - port: eighty\n"
    assert find_fault(text) == "Service: Expected `int`, got `str` - at `$.spec.ports[0].port`"


@pytest.mark.parametrize("name", ["1", "true", "no", "1.5"])
def test_a_name_that_is_no_text_is_refused_as_by_kubectl(find_fault, name):
    assert "`$.metadata.name`" in find_fault(f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n")


@pytest.mark.parametrize("text", ["just text", "[1, 2]", "1", "apiVersion: 1\nkind: Service\n", "apiVersion: v1\n"])
def test_what_is_no_object_is_an_error(find_fault, text):
    find_fault(text)


def test_json_is_read_in_a_file_of_any_name(load_one):
    text = '{"apiVersion": "v1", "kind": "Namespace",\n\t"metadata": {"name": "a"}}'
    for path in ("f.json", "f.yaml", "f.txt"):
        assert load_one(text, path).metadata.name == "a"


def test_a_yaml_mapping_in_braces_is_not_mistaken_for_json(load_one):
    assert load_one("{apiVersion: v1, kind: Namespace, metadata: {name: a}}").metadata.name == "a"


def test_yaml_in_a_json_file_is_refused(parse):
    (error,) = parse("apiVersion: v1", "f.json").errors
    assert error.origin == "f.json document 1 line 1"


def test_a_byte_order_mark_is_skipped(load_one):
    assert load_one(b"\xef\xbb\xbfapiVersion: v1\nkind: Namespace\nmetadata: {name: a}").metadata.name == "a"


@pytest.mark.parametrize("path", ["f.json", "f.yaml"])
@pytest.mark.parametrize("content", [b"a: 1\nb: \xff\n", '{"a":\n1}'.encode("utf-16")])
def test_what_is_not_utf8_is_refused_with_its_line(parse, path, content):
    (error,) = parse(content, path).errors
    assert error.origin == path
    assert "not UTF-8" in error.text


def test_a_file_full_of_errors_reports_a_limited_number(parse):
    manifest = parse("--- 1\n" * (MAX_ERRORS + 50))
    assert len(manifest.errors) == MAX_ERRORS + 1
    assert "50 more" in manifest.errors[-1].text


def test_a_plugins_kind_is_held_to_its_struct_and_its_name():
    class Gadget(Resource, frozen=True):
        color: str

    kind = ResourceKind(name="Gadget", plural="gadgets", api_versions=("x.org/v1", "x.org/v2"), type=Gadget)
    text = (
        "apiVersion: x.org/v2\nkind: Gadget\nmetadata: {name: a}\ncolor: red\n"
        "---\napiVersion: x.org/v1\nkind: Gadget\nmetadata: {name: b}\n"
        "---\napiVersion: x.org/v1\nkind: Gadget\nmetadata: {name: ../b}\ncolor: red\n"
    )
    manifest = parse_manifest(text.encode(), KindTable([*CORE_KINDS, kind]), path="f.yaml")
    assert names(manifest) == ["a"]
    assert manifest.resources[0].kind is kind
    assert [error.text for error in manifest.errors] == [
        "Gadget: Object missing required field `color`",
        "Gadget '../b': metadata.name: '../b' is not a DNS subdomain (RFC 1123)",
    ]


@pytest.mark.parametrize("is_json", [False, True])
def test_a_kind_whose_reader_raises_spoils_only_its_object(is_json):
    def read(metadata, fields):
        raise TypeError("unhashable")

    kind = ResourceKind(name="Gadget", plural="gadgets", api_versions=("x.org/v1",), type=Resource, read=read)
    gadget = {"apiVersion": "x.org/v1", "kind": "Gadget", "metadata": {"name": "a"}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}}
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": [gadget, pod]})
    content = text if is_json else f"{json.dumps(gadget)}\n---\n# YAML\n{json.dumps(pod)}\n"
    manifest = parse_manifest(content.encode(), KindTable([*CORE_KINDS, kind]), path="f.yaml")
    assert names(manifest) == ["b"]
    assert [error.text for error in manifest.errors] == ["Gadget: it could not be read: TypeError: unhashable"]


def test_two_kinds_of_one_name_are_refused():
    twin = ResourceKind(name="Pod", plural="pods", api_versions=("v1",), type=Service)
    with pytest.raises(PluginError, match="v1 Pod"):
        KindTable([*CORE_KINDS, twin])


class StreamRoute(Resource, frozen=True):
    """An object of another group's kind with the same name."""


def test_kinds_of_two_groups_may_have_one_name_and_differ_in_their_labels():
    one = ResourceKind(name="TCPRoute", plural="tcproutes", api_versions=("specs.smi-spec.io/v1alpha4",), type=Resource)
    other = ResourceKind(
        name="TCPRoute",
        plural="tcproutes",
        api_versions=("gw.example/v1", "gw.example/v1alpha2"),
        type=StreamRoute,
        shown_name="TCPRoute.gw.example",
    )
    table = KindTable([one, other])
    head = "kind: TCPRoute\nmetadata: {name: "
    text = f"apiVersion: gw.example/v1\n{head}a}}\n---\napiVersion: specs.smi-spec.io/v1alpha4\n{head}../b}}\n"
    manifest = parse_manifest(text.encode(), table, path="f.yaml")
    assert [each.kind for each in manifest.resources] == [other]
    assert [error.kind for error in manifest.errors] == ["TCPRoute"]
    assert (
        table.find_mistake("gw.example/v2", "TCPRoute")
        == "only gw.example/v1 and gw.example/v1alpha2 of this kind are read"
    )
    assert (
        table.find_mistake("specs.smi-spec.io/v2", "TCPRoute")
        == "only specs.smi-spec.io/v1alpha4 of this kind are read"
    )
    off = KindTable([one], {"TCPRoute.gw.example": "plugin gateway is off"})
    assert off.find_mistake("gw.example/v1", "TCPRoute") == "plugin gateway is off"
    assert (
        off.find_mistake("specs.smi-spec.io/v2", "TCPRoute") == "only specs.smi-spec.io/v1alpha4 of this kind are read"
    )


def test_unknown_fields_are_skipped(load_one):
    pod = load_one("apiVersion: v1\nkind: Pod\nmetadata: {name: p, managedFields: [{a: 1}]}\nspec: {volumes: [1]}")
    assert isinstance(pod, Pod)


@given(st.binary(max_size=200), st.sampled_from(["f.json", "f.yaml"]))
def test_random_bytes_give_errors_and_never_raise(content, path):
    manifest = parse_manifest(content, TABLE, path=path)
    assert all(isinstance(error, ManifestError) for error in manifest.errors)
    assert manifest.resources == ()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["metadata", "name", "namespace", "labels", "spec", "ports", "port", "items", "endpoints"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    st.sampled_from(["Service", "Pod", "EndpointSlice", "Endpoints", "Namespace", "List", "PodList"]),
    st.sampled_from(["v1", "discovery.k8s.io/v1"]),
    st.dictionaries(st.sampled_from(["metadata", "spec", "items", "endpoints", "ports", "subsets"]), VALUES),
    st.sampled_from(["f.json", "f.yaml"]),
)
def test_objects_of_any_shape_give_resources_or_errors(kind, api_version, fields, path):
    content = json.dumps({"apiVersion": api_version, "kind": kind, **fields}).encode()
    manifest = parse_manifest(content, TABLE, path=path)
    for error in manifest.errors:
        assert "\n" not in str(error)
    for item in manifest.resources:
        assert item.resource.metadata.name
