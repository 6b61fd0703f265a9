"""Server-side apply of custom resources, as the reference of Kubernetes has it."""

from pathlib import Path

import pytest

CRDS = Path(__file__).resolve().parents[1] / "conformance" / "data" / "crds"
PARENTS = [{"name": "a", "group": "", "kind": "Service"}]
ROUTE = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "HTTPRoute",
    "metadata": {"name": "r", "namespace": "default"},
    "spec": {"parentRefs": PARENTS},
}
PATH = "/apis/gateway.networking.k8s.io/v1/namespaces/default/httproutes/r"
APPLY = "application/apply-patch+yaml"


@pytest.fixture
def server(api_server):
    api_server.add_crds(CRDS)
    api_server.apply(ROUTE)
    return api_server


def entry(controller, *types):
    conditions = [
        {
            "type": each,
            "status": "True",
            "reason": "Fine",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for each in types or ("Accepted",)
    ]
    parent = {"name": "a", "group": "", "kind": "Service"}
    return {"controllerName": f"example.org/{controller}", "parentRef": parent, "conditions": conditions}


def build(*entries, **metadata):
    body = {key: ROUTE[key] for key in ("apiVersion", "kind")}
    return body | {"metadata": {"name": "r", **metadata}, "status": {"parents": list(entries)}}


async def send(raw, body, manager="m", *, force=False, path=f"{PATH}/status"):
    query = f"?fieldManager={manager}{'&force=true' * force}"
    return await raw("PATCH", path + query, body, content_type=APPLY)


async def test_an_applied_status_replaces_an_atomic_list_and_leaves_the_rest(raw, server):
    status, found = await send(raw, build(entry("one", "Accepted")))
    assert status == 200
    assert found["spec"] == ROUTE["spec"]
    assert found["status"]["parents"] == [entry("one", "Accepted")]
    assert found["metadata"]["generation"] == 1
    owned = [each for each in found["metadata"]["managedFields"] if each["operation"] == "Apply"]
    assert [(each["manager"], each["subresource"], each["fieldsV1"]) for each in owned] == [
        ("m", "status", {"f:status": {"f:parents": {}}})
    ]
    status, found = await send(raw, build(entry("two", "Accepted")))
    assert found["status"]["parents"] == [entry("two", "Accepted")]


async def test_applying_the_same_again_changes_no_version(raw, server):
    _, first = await send(raw, build(entry("one")))
    assert await send(raw, build(entry("one"))) == (200, first)


async def test_fields_of_another_manager_conflict_unless_forced(raw, server):
    await send(raw, build(entry("one")))
    status, found = await send(raw, build(entry("two")), "n")
    assert (status, found["reason"]) == (409, "Conflict")
    assert found["details"]["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "m"', "field": ".status.parents"}
    ]
    status, found = await send(raw, build(entry("two")), "n", force=True)
    assert status == 200
    assert [each["manager"] for each in found["metadata"]["managedFields"] if each["operation"] == "Apply"] == ["n"]


async def test_what_several_apply_alike_belongs_to_all_and_stays_until_the_last_leaves(raw, server):
    await send(raw, build(entry("one")))
    _, found = await send(raw, build(entry("one")), "n")
    assert [each["manager"] for each in found["metadata"]["managedFields"] if each["operation"] == "Apply"] == [
        "m",
        "n",
    ]


async def test_an_update_takes_a_field_from_who_applied_it(raw, server):
    await send(raw, build(entry("one")))
    server.patch("httproutes", "r", {"status": {"parents": [entry("two")]}}, "default")
    status, found = await send(raw, build(entry("three")), "n")
    assert status == 200
    assert found["status"]["parents"] == [entry("three")]


async def test_a_version_or_an_identity_that_is_not_the_object_s_is_a_conflict(raw, server):
    version = server.get("httproutes", "r", "default")["metadata"]["resourceVersion"]
    assert (await send(raw, build(entry("one"), resourceVersion="1")))[0] == 409
    assert (await send(raw, build(entry("one"), uid="other")))[0] == 409
    assert (await send(raw, build(entry("one"), resourceVersion=version)))[0] == 200


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"metadata": {"name": "r", "managedFields": [{}]}}, 400),
        ({"apiVersion": "gateway.networking.k8s.io/v1beta1"}, 400),
        ({"kind": ""}, 400),
        ({"status": {"parents": [{"controllerName": "x"}]}}, 422),
    ],
)
async def test_what_cannot_be_applied_is_refused(raw, server, change, status):
    assert (await send(raw, build(entry("one")) | change))[0] == status


async def test_a_manager_must_have_a_name(raw, server):
    assert (await raw("PATCH", f"{PATH}/status", build(), content_type=APPLY))[0] == 400


async def test_the_status_of_an_object_that_is_not_there_cannot_be_applied(raw, server):
    path = PATH.removesuffix("/r") + "/none/status"
    body = build(entry("one"), name="none")
    assert (await send(raw, body | {"metadata": {"name": "none"}}, path=path))[0] == 404


async def test_an_applied_object_is_created_and_loses_what_is_no_longer_applied(raw, server):
    path, body = PATH.removesuffix("/r") + "/s", {**ROUTE, "metadata": {"name": "s", "namespace": "default"}}
    first = {**body, "spec": {"parentRefs": PARENTS, "hostnames": ["a.example"]}}
    status, found = await send(raw, first, path=path)
    assert (status, found["spec"]) == (201, first["spec"])
    status, found = await send(raw, body, path=path)
    assert (status, found["spec"], found["metadata"]["generation"]) == (200, body["spec"], 2)
