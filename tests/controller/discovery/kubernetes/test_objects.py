import copy
import json
from contextlib import suppress
from typing import Any, cast

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.discovery.kubernetes.objects import Change, ChangeType, Fault, ObjectDecoder, Page
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.errors import KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import EndpointSlice, Namespace, Resource, ResourceKind, Service

SERVICES, SLICES, ENDPOINTS, PODS, NAMESPACES, _ = CORE_KINDS

# As API servers write them, with what the mesh does not read.
SERVICE = {
    "metadata": {
        "name": "web",
        "namespace": "apps",
        "uid": "0a7c",
        "resourceVersion": "17",
        "creationTimestamp": "2026-01-05T10:00:00Z",
        "labels": {"app": "web"},
        "annotations": {"maesh.containo.us/retry-attempts": "2"},
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {"f:ports": {}}}}],
    },
    "spec": {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.7",
        "clusterIPs": ["10.96.0.7"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web"}],
        "selector": {"app": "web"},
        "sessionAffinity": "None",
        "ipFamilies": ["IPv4"],
        "ipFamilyPolicy": "SingleStack",
        "internalTrafficPolicy": "Cluster",
    },
    "status": {"loadBalancer": {}},
}
SLICE = {
    "metadata": {
        "name": "web-x7k2p",
        "namespace": "apps",
        "uid": "1b",
        "resourceVersion": "18",
        "labels": {"kubernetes.io/service-name": "web"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "web", "uid": "0a7c", "controller": True}],
    },
    "addressType": "IPv4",
    "endpoints": [
        {
            "addresses": ["10.1.0.4"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "apps", "name": "web-1", "uid": "2c"},
            "nodeName": "n1",
        }
    ],
    "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
}
POD = {
    "metadata": {"name": "web-1", "namespace": "apps", "uid": "2c", "resourceVersion": "19", "labels": {"app": "web"}},
    "spec": {
        "serviceAccountName": "web",
        "containers": [{"name": "web", "image": "web:1", "ports": [{"name": "web", "containerPort": 8080}]}],
    },
    "status": {
        "phase": "Running",
        "podIP": "10.1.0.4",
        "podIPs": [{"ip": "10.1.0.4"}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-05T10:00:00Z"}],
    },
}
SAMPLES: dict[str, tuple[ResourceKind, dict[str, Any]]] = {
    "Service": (SERVICES, SERVICE),
    "EndpointSlice": (SLICES, SLICE),
    "Pod": (PODS, POD),
}
DEEP = b"[" * 100_000 + b"]" * 100_000


def render_page(*items, version="30", **metadata):
    metadata = {"resourceVersion": version} | metadata
    return json.dumps({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": list(items)}).encode()


def render_line(kind, value):
    return json.dumps({"type": kind, "object": value}).encode()


def change(value, *path, to):
    """Copy an object with one field set."""
    value = copy.deepcopy(value)
    owner = value
    for step in path[:-1]:
        owner = owner[step]
    owner[path[-1]] = to
    return value


def rename(value, name):
    return change(value, "metadata", "name", to=name)


def decode_one(kind, value):
    page = ObjectDecoder(kind).decode_page(render_page(value))
    assert page.faults == []
    (resource,) = page.resources
    return resource


# --- pages ---------------------------------------------------------------------------------------------------------


def test_a_page_gives_its_objects_its_version_and_where_the_next_is():
    page = ObjectDecoder(SERVICES).decode_page(render_page(SERVICE, rename(SERVICE, "api"), **{"continue": "t0"}))
    assert [resource.key for resource in page.resources] == [("apps", "web"), ("apps", "api")]
    assert (page.resource_version, page.next, page.faults) == ("30", "t0", [])
    (web, *_) = page.resources
    assert isinstance(web, Service)
    assert web.metadata.annotations == {"maesh.containo.us/retry-attempts": "2"}
    assert (web.spec.cluster_ip, web.spec.ports[0].target_port) == ("10.96.0.7", "web")


@pytest.mark.parametrize("app_protocol", ["kubernetes.io/h2c", None, ""])
def test_the_app_protocol_of_a_services_port_is_read(app_protocol):
    service = change(SERVICE, "spec", "ports", 0, "appProtocol", to=app_protocol)
    (decoded,) = ObjectDecoder(SERVICES).decode_page(render_page(service)).resources
    assert isinstance(decoded, Service)
    assert decoded.spec.ports[0].app_protocol == (app_protocol or "")
    result = ObjectDecoder(SERVICES).decode_line(render_line("MODIFIED", service)).result
    assert result == decoded


@pytest.mark.parametrize("items", ["null", "[]", None])
def test_a_list_of_nothing_is_empty(items):
    rest = "" if items is None else f',"items":{items}'
    body = f'{{"metadata":{{"resourceVersion":"5"}}{rest}}}'.encode()
    assert ObjectDecoder(SERVICES).decode_page(body) == Page([], [], "5", "")


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (change(SERVICE, "spec", "ports", 0, "port", to="http"), "Expected `int`, got `str` - at `$.spec.ports"),
        (change(SERVICE, "spec", "ports", 0, "port", to=0), "spec.ports[0].port: 0 is not in 1 to 65535"),
        (change(SERVICE, "spec", "ports", 0, "port", to=10**30), "is not in 1 to 65535"),
        (change(SERVICE, "spec", to=[]), "Expected `object`, got `array`"),
        (change(SERVICE, "spec", "clusterIP", to="none of it"), "neither an IP address nor None"),
        (change(SERVICE, "metadata", "labels", to=["a"]), "Expected `object`, got `array`"),
    ],
)
def test_one_bad_object_harms_itself_alone(bad, text):
    bad = rename(bad, "bad")
    decoder = ObjectDecoder(SERVICES)
    page = decoder.decode_page(render_page(SERVICE, bad, rename(SERVICE, "api")))
    assert [resource.key.name for resource in page.resources] == ["web", "api"]
    (fault,) = page.faults
    assert fault.key == ("apps", "bad")
    assert fault.text.startswith("Service bad@apps cannot be")
    assert text in fault.text
    told = decoder.decode_line(render_line("MODIFIED", bad))
    assert (told.key, told.result) == (fault.key, fault)


@pytest.mark.parametrize("item", [7, None, [], {"metadata": {"name": 7}}, {"metadata": None}, {}])
def test_an_item_that_does_not_say_its_name_is_known_by_its_number(item):
    page = ObjectDecoder(PODS).decode_page(render_page(POD, item))
    assert [resource.key.name for resource in page.resources] == ["web-1"]
    assert len(page.faults) == 1
    assert page.faults[0].key.name in ("number 1", "")


def test_an_object_that_is_bytes_of_no_text_harms_itself_alone():
    body = render_page(SERVICE, rename(SERVICE, "MARK")).replace(b'"app": "web"', b'"app": "\xff\xfe"', 1)
    page = ObjectDecoder(SERVICES).decode_page(body.replace(b"MARK", b"api"))
    assert [resource.key.name for resource in page.resources] == ["api"]
    assert [fault.key.name for fault in page.faults] == ["web"]


@pytest.mark.parametrize("number", [b"9" * 5000, b"1e999", b"-0.5", b"1e400"])
def test_a_number_beyond_all_measure_harms_its_object_alone(number):
    body = render_page(SERVICE, rename(SERVICE, "api")).replace(b'"port": 80', b'"port": ' + number, 1)
    page = ObjectDecoder(SERVICES).decode_page(body)
    assert [resource.key.name for resource in page.resources] == ["api"]
    assert [fault.key.name for fault in page.faults] == ["web"]


@pytest.mark.parametrize(
    ("kind", "value", "field"),
    [
        (SLICES, SLICE, ("endpoints",)),
        (SLICES, SLICE, ("ports",)),
        (SLICES, SLICE, ("endpoints", 0, "conditions")),
        (SLICES, SLICE, ("endpoints", 0, "targetRef")),
        (SERVICES, SERVICE, ("spec", "ports")),
        (SERVICES, SERVICE, ("spec", "selector")),
        (SERVICES, SERVICE, ("metadata", "annotations")),
        (PODS, POD, ("spec", "containers")),
        (PODS, POD, ("spec", "containers", 0, "ports")),
        (PODS, POD, ("status", "conditions")),
        (PODS, POD, ("status", "podIPs")),
    ],
)
def test_a_null_is_as_if_the_field_were_not_there(kind, value, field):
    with_null = change(value, *field, to=None)
    without = copy.deepcopy(with_null)
    owner = without
    for step in field[:-1]:
        owner = owner[step]
    del owner[field[-1]]
    assert decode_one(kind, with_null) == decode_one(kind, without)
    decoder = ObjectDecoder(kind)
    assert decoder.decode_line(render_line("ADDED", with_null)).result == decode_one(kind, without)


def test_a_null_in_one_object_leaves_the_others_of_its_page_as_they_are():
    empty = rename(change(SLICE, "endpoints", to=None), "empty")
    page = ObjectDecoder(SLICES).decode_page(render_page(SLICE, empty))
    assert [resource.key.name for resource in page.resources] == ["web-x7k2p", "empty"]
    assert [len(cast("EndpointSlice", resource).endpoints) for resource in page.resources] == [1, 0]


def test_a_kind_without_namespace_has_none_and_one_with_has_the_default():
    item = {"metadata": {"name": "apps", "namespace": "stray", "resourceVersion": "3"}}
    for kind, namespace in ((NAMESPACES, ""), (SERVICES, "stray")):
        decoder = ObjectDecoder(kind)
        (resource,) = decoder.decode_page(render_page(item)).resources
        told = decoder.decode_line(render_line("DELETED", item))
        assert resource.key == told.key == (namespace, "apps")
    nameless = {"metadata": {"name": "apps", "resourceVersion": "3"}}
    assert ObjectDecoder(SERVICES).decode_line(render_line("DELETED", nameless)).key == ("default", "apps")
    assert ObjectDecoder(NAMESPACES).decode_line(render_line("ADDED", nameless)).result == Namespace(
        metadata=decode_one(NAMESPACES, nameless).metadata
    )


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"null", b"[]", b"7", b"<html>503</html>", b"\xff\xfe", b'{"metadata":7}', b'{"items":{}}', DEEP),
        *(b'{"metadata":{"resourceVersion":7}}', b'{"metadata":null}', b'{"items":[' + DEEP + b"]}", b'{"items":[1'),
    ],
)
def test_what_is_no_page_is_refused(body):
    with pytest.raises(KubernetesError, match="the list of services is malformed"):
        ObjectDecoder(SERVICES).decode_page(body)


# --- lines ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED"])
def test_a_line_gives_its_object_as_a_page_does(kind):
    told = ObjectDecoder(SERVICES).decode_line(render_line(kind, SERVICE))
    assert told == Change(ChangeType[kind], ObjectKey("apps", "web"), "17", decode_one(SERVICES, SERVICE))


def test_a_deletion_needs_no_more_than_a_name():
    broken = change(SERVICE, "spec", to="gone")
    told = ObjectDecoder(SERVICES).decode_line(render_line("DELETED", broken))
    assert told == Change(ChangeType.DELETED, ObjectKey("apps", "web"), "17", None)


def test_a_bookmark_has_a_version():
    bookmark = {
        "kind": "Service",
        "apiVersion": "v1",
        "metadata": {"resourceVersion": "99", "creationTimestamp": None},
        "spec": {},
        "status": {"loadBalancer": {}},
    }
    told = ObjectDecoder(SERVICES).decode_line(render_line("BOOKMARK", bookmark))
    assert (told.type, told.resource_version, told.result) == (ChangeType.BOOKMARK, "99", None)


def test_an_error_line_is_raised_with_code_and_reason():
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "too old\nresource version: 1 (7)",
        "reason": "Expired",
        "code": 410,
    }
    with pytest.raises(KubernetesError) as caught:
        ObjectDecoder(SERVICES).decode_line(render_line("ERROR", status))
    assert (caught.value.status, caught.value.reason) == (410, "Expired")
    assert str(caught.value) == "the watch of services ended: too old resource version: 1 (7)"


def test_a_long_message_of_an_error_line_is_cut():
    with pytest.raises(KubernetesError) as caught:
        ObjectDecoder(SERVICES).decode_line(render_line("ERROR", {"message": "x" * 10_000}))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "line",
    [
        *(b"{", b"null", b"7", b"<html>", b"\xff\xfe", b'{"type":"ADDED"}', b'{"object":{}}', DEEP),
        *(b'{"type":"OTHER","object":{}}', b'{"type":"ADDED","object":7}', b'{"type":"ERROR","object":{"code":1e99}}'),
        *(b'{"type":"ADDED","object":{"metadata":{"name":7}}}', b'{"type":"ADDED","object":' + DEEP + b"}"),
        *(b'{"type":"ADDED","object":{"metadata":{"name":"\xff"}}}', b'{"type":"ADDED","object":{"metadata":{}}} x'),
    ],
)
def test_what_is_no_line_is_refused(line):
    with pytest.raises(KubernetesError, match="sent a line that is not an event"):
        ObjectDecoder(SERVICES).decode_line(line)


# --- as the manifest reader --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLES)
def test_an_object_reads_the_same_as_from_a_manifest(load_one, name):
    kind, value = SAMPLES[name]
    document = {"apiVersion": kind.api_versions[0], "kind": name} | value
    assert decode_one(kind, value) == load_one(json.dumps(document)) == load_one(yaml.safe_dump(document))


def test_loose_objects_read_the_same_as_from_a_manifest(load_one):
    loose = {
        "metadata": {"name": "web", "annotations": {"maesh.containo.us/retry-attempts": 2}, "labels": None},
        "spec": {"type": "", "ports": [{"port": 80, "protocol": "", "targetPort": 0}], "selector": None},
    }
    document = {"apiVersion": "v1", "kind": "Service"} | loose
    assert decode_one(SERVICES, loose) == load_one(json.dumps(document))


def test_a_plugins_kind_is_held_to_its_name_alone():
    class Thing(Resource, frozen=True):
        level: int = 0

    kind = ResourceKind(name="Thing", plural="things", api_versions=("acme.example/v1",), type=Thing)
    good = {"metadata": {"name": "a.b", "namespace": "apps"}, "level": 3}
    assert decode_one(kind, good).level == 3
    page = ObjectDecoder(kind).decode_page(render_page(good, rename(good, "A_B")))
    assert [fault.key.name for fault in page.faults] == ["A_B"]


# --- whatever comes ----------------------------------------------------------------------------------------------


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([10**40, 1e308, -1, 65536]),
    st.text(max_size=5),
    st.sampled_from(["", "10.1.0.4", "::1", "web", "a" * 300, "\x00", "../x"]),
    st.lists(st.none(), max_size=2),
    st.dictionaries(st.sampled_from(["name", "metadata", "port"]), st.none(), max_size=2),
)


def list_places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, item in items:
        yield from list_places(item, (*path, step))


@st.composite
def mutants(draw):
    """An object of which some fields hold what they should not."""
    kind, value = SAMPLES[draw(st.sampled_from(sorted(SAMPLES)))]
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([path for path in list_places(value) if path]))
        value = change(value, *path, to=draw(ODD))
    return kind, value


@given(mutants())
def test_an_object_with_odd_fields_is_a_resource_or_a_fault_and_the_same_in_page_and_line(mutant):
    kind, value = mutant
    decoder = ObjectDecoder(kind)
    good = rename(SAMPLES[kind.name][1], "good")
    page = decoder.decode_page(render_page(good, value))
    assert page.resources[0].key.name == "good"
    assert len(page.resources) + len(page.faults) == 2
    try:
        told = decoder.decode_line(render_line("MODIFIED", value))
    except KubernetesError:
        assert len(page.faults) == 1
        return
    assert [told.result] == [*page.resources[1:], *page.faults]
    if isinstance(told.result, Resource):
        assert told.key == told.result.key
        assert decode_one(kind, value) == told.result
    else:
        assert told.key == told.result.key


@st.composite
def broken(draw):
    """Bytes of a real page or line that were cut, turned over or put together wrongly."""
    kind, value = SAMPLES[draw(st.sampled_from(sorted(SAMPLES)))]
    text = bytearray(draw(st.sampled_from([render_page(value, value), render_line("ADDED", value)])))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(text)))
        length = draw(st.integers(0, 20))
        odd = draw(st.one_of(st.binary(max_size=8), st.sampled_from([b'"', b"{", b"null", b"9"])))
        text[place : place + length] = odd
    return kind, bytes(text)


@given(broken())
def test_broken_bytes_are_refused_or_read_and_nothing_else(made):
    kind, content = made
    read_or_refuse(kind, content)


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(content):
    read_or_refuse(PODS, content)


def read_or_refuse(kind, content):
    decoder = ObjectDecoder(kind)
    for decode in (decoder.decode_page, decoder.decode_line):
        with suppress(KubernetesError):
            assert isinstance(decode(content), Page | Change)


def test_a_fault_is_plain_text_on_one_line():
    hostile = rename(SERVICE, "a\nb" + "x" * 5000)
    (fault,) = ObjectDecoder(SERVICES).decode_page(render_page(hostile)).faults
    assert isinstance(fault, Fault)
    assert "\n" not in fault.text
    assert len(msgspec.json.encode(fault.text)) < 1000
