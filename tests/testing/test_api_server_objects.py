"""Create, get, update, patch and delete, as the API conventions of Kubernetes have them."""

import re

import pytest

MAPS = "/api/v1/namespaces/default/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
PODS = "/api/v1/namespaces/default/pods"
MERGE = "application/merge-patch+json"
ITEM = {"metadata": {"name": "a"}, "data": {"x": "1"}}


async def test_a_created_object_gets_what_the_server_gives(raw):
    status, found = await raw("POST", MAPS, ITEM)
    assert status == 201
    assert (found["apiVersion"], found["kind"], found["data"]) == ("v1", "ConfigMap", {"x": "1"})
    metadata = found["metadata"]
    assert metadata["namespace"] == "default"
    assert metadata["resourceVersion"].isdecimal()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", metadata["creationTimestamp"])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", metadata["uid"])
    assert metadata["managedFields"][0]["manager"]
    assert await raw("GET", f"{MAPS}/a") == (200, found)


async def test_a_second_object_of_a_name_already_exists(raw):
    await raw("POST", MAPS, ITEM)
    status, found = await raw("POST", MAPS, ITEM)
    assert status == 409
    assert found == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'configmaps "a" already exists',
        "reason": "AlreadyExists",
        "details": {"name": "a", "kind": "configmaps"},
        "code": 409,
    }


async def test_a_name_is_made_up_where_only_its_beginning_is_given(raw):
    names = {(await raw("POST", MAPS, {"metadata": {"generateName": "a-"}}))[1]["metadata"]["name"] for _ in range(5)}
    assert len(names) == 5
    assert all(re.fullmatch(r"a-[a-z0-9]{5}", name) for name in names)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"{", 400, "BadRequest"),
        (b"[]", 400, "BadRequest"),
        (b"\xff", 400, "BadRequest"),
        (b"", 400, "BadRequest"),
        ({"kind": "Secret", "metadata": {"name": "a"}}, 400, "BadRequest"),
        ({"apiVersion": "apps/v1", "metadata": {"name": "a"}}, 400, "BadRequest"),
        ({"metadata": {"name": "a", "namespace": "other"}}, 400, "BadRequest"),
        ({"metadata": {}}, 422, "Invalid"),
        ({"metadata": {"name": "A_b"}}, 422, "Invalid"),
        ({"metadata": {"name": "a" * 254}}, 422, "Invalid"),
        ({"metadata": {"name": "a", "labels": {"x": "y" * 64}}}, 422, "Invalid"),
        ({"metadata": {"name": "a", "labels": {"x": "y z"}}}, 422, "Invalid"),
        ({"metadata": {"name": "a", "labels": {"x": 1}}}, 400, "BadRequest"),
        ({"metadata": {"name": "a", "annotations": {"x": "y" * 262144}}}, 422, "Invalid"),
        ({"metadata": {"name": "a", "resourceVersion": "7"}}, 500, None),
        ({"metadata": {"name": "a"}, "data": {"x": "y" * (3 * 2**20)}}, 413, "RequestEntityTooLarge"),
    ],
)
async def test_what_is_no_object_of_this_kind_is_refused(raw, body, status, reason):
    found = await raw("POST", MAPS, body)
    assert (found[0], found[1].get("reason")) == (status, reason)


async def test_nothing_can_be_created_in_a_namespace_that_is_not_there(raw):
    status, found = await raw("POST", MAPS.replace("default", "nowhere"), ITEM)
    assert (status, found["message"]) == (404, 'namespaces "nowhere" not found')


async def test_an_update_of_what_was_changed_meanwhile_is_a_conflict(raw):
    _, first = await raw("POST", MAPS, ITEM)
    status, second = await raw("PUT", f"{MAPS}/a", first | {"data": {"x": "2"}})
    assert status == 200
    assert int(second["metadata"]["resourceVersion"]) > int(first["metadata"]["resourceVersion"])
    status, found = await raw("PUT", f"{MAPS}/a", first | {"data": {"x": "3"}})
    assert (status, found["reason"]) == (409, "Conflict")
    assert found["message"] == (
        'Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to '
        "the latest version and try again"
    )


async def test_an_update_that_changes_nothing_keeps_the_version(raw):
    _, first = await raw("POST", MAPS, ITEM)
    assert await raw("PUT", f"{MAPS}/a", first) == (200, first)
    assert await raw("PATCH", f"{MAPS}/a", {"data": {"x": "1"}}, content_type=MERGE) == (200, first)
    assert await raw("PUT", f"{MAPS}/a", ITEM) == (200, first)


async def test_an_update_of_an_object_that_was_made_anew_is_a_conflict(raw):
    _, first = await raw("POST", MAPS, ITEM)
    await raw("DELETE", f"{MAPS}/a")
    await raw("POST", MAPS, ITEM)
    del first["metadata"]["resourceVersion"]
    status, found = await raw("PUT", f"{MAPS}/a", first | {"data": {}})
    assert (status, found["reason"]) == (409, "Conflict")
    assert "Precondition failed: UID in precondition" in found["message"]


async def test_what_is_not_there_is_not_found(raw):
    for method, body in (("GET", None), ("PUT", ITEM), ("DELETE", None)):
        status, found = await raw(method, f"{MAPS}/a", body)
        assert (status, found["reason"], found["message"]) == (404, "NotFound", 'configmaps "a" not found')
    status, found = await raw("PATCH", f"{MAPS}/a", {}, content_type=MERGE)
    assert (status, found["reason"]) == (404, "NotFound")


async def test_an_update_names_the_object_that_it_is_sent_to(raw):
    await raw("POST", MAPS, ITEM)
    status, found = await raw("PUT", f"{MAPS}/a", {"metadata": {"name": "b"}})
    assert (status, found["message"]) == (
        400,
        "the name of the object (b) does not match the name on the URL (a)",
    )


async def test_some_kinds_take_no_update_without_a_version_and_some_create_what_is_missing(raw):
    assert (await raw("PUT", f"{LEASES}/a", {"metadata": {"name": "a"}, "spec": {}}))[0] == 201
    status, found = await raw("PUT", f"{LEASES}/a", {"metadata": {"name": "a"}, "spec": {"holderIdentity": "x"}})
    assert (status, found["details"]["causes"][0]["field"]) == (422, "metadata.resourceVersion")
    _, lease = await raw("GET", f"{LEASES}/a")
    await raw("DELETE", f"{LEASES}/a")
    status, found = await raw("PUT", f"{LEASES}/a", lease)
    assert (status, found["reason"]) == (409, "Conflict")


async def test_a_merge_patch_replaces_adds_and_removes(raw):
    await raw("POST", MAPS, {"metadata": {"name": "a", "labels": {"k": "v"}}, "data": {"x": "1", "y": "2"}})
    patch = {"data": {"x": None, "z": "3"}, "metadata": {"labels": None, "annotations": {"n": "1"}}}
    status, found = await raw("PATCH", f"{MAPS}/a", patch, content_type=MERGE)
    assert (status, found["data"], found["metadata"]["annotations"]) == (200, {"y": "2", "z": "3"}, {"n": "1"})
    assert "labels" not in found["metadata"]


async def test_a_patch_conflicts_only_where_it_names_a_version(raw):
    _, first = await raw("POST", MAPS, ITEM)
    await raw("PATCH", f"{MAPS}/a", {"data": {"x": "2"}}, content_type=MERGE)
    version = {"metadata": {"resourceVersion": first["metadata"]["resourceVersion"]}}
    status, found = await raw("PATCH", f"{MAPS}/a", version | {"data": {"x": "3"}}, content_type=MERGE)
    assert (status, found["reason"]) == (409, "Conflict")


async def test_a_patch_of_unknown_format_is_refused(raw):
    await raw("POST", MAPS, ITEM)
    status, found = await raw("PATCH", f"{MAPS}/a", {}, content_type="text/plain")
    assert (status, found["reason"]) == (415, "UnsupportedMediaType")


async def test_a_client_changes_no_field_of_the_server(raw):
    _, first = await raw("POST", MAPS, ITEM)
    patch = {"metadata": {"creationTimestamp": "2001-01-01T00:00:00Z", "deletionTimestamp": "2001-01-01T00:00:00Z"}}
    assert await raw("PATCH", f"{MAPS}/a", patch, content_type=MERGE) == (200, first)


async def test_status_is_changed_through_its_subresource_alone(raw):
    base = "/apis/apps/v1/namespaces/default/deployments"
    _, found = await raw("POST", base, {"metadata": {"name": "a"}, "spec": {"replicas": 1}, "status": {"replicas": 9}})
    assert "status" not in found
    assert found["metadata"]["generation"] == 1
    change = {"spec": {"replicas": 2}, "status": {"replicas": 2}}
    _, found = await raw("PATCH", f"{base}/a/status", change, content_type=MERGE)
    assert (found["spec"], found["status"], found["metadata"]["generation"]) == ({"replicas": 1}, {"replicas": 2}, 1)
    _, found = await raw("PATCH", f"{base}/a", {"spec": {"replicas": 3}, "status": {"replicas": 3}}, content_type=MERGE)
    assert (found["spec"], found["status"], found["metadata"]["generation"]) == ({"replicas": 3}, {"replicas": 2}, 2)
    assert (await raw("PATCH", f"{MAPS}/a/status", {}, content_type=MERGE))[0] == 404


async def test_a_deletion_says_what_it_deleted(raw):
    _, found = await raw("POST", MAPS, ITEM)
    details = {"name": "a", "kind": "configmaps", "uid": found["metadata"]["uid"]}
    status, answer = await raw("DELETE", f"{MAPS}/a")
    assert (status, answer["status"], answer["details"]) == (200, "Success", details)
    assert (await raw("GET", f"{MAPS}/a"))[0] == 404


async def test_a_deletion_may_insist_on_the_object_that_was_seen(raw):
    _, found = await raw("POST", MAPS, ITEM)
    for preconditions in ({"uid": "another"}, {"resourceVersion": "1"}):
        status, answer = await raw("DELETE", f"{MAPS}/a", {"preconditions": preconditions})
        assert (status, answer["reason"]) == (409, "Conflict")
    wanted = {key: found["metadata"][key] for key in ("uid", "resourceVersion")}
    assert (await raw("DELETE", f"{MAPS}/a", {"preconditions": wanted}))[0] == 200


async def test_a_finalizer_keeps_a_deleted_object_until_it_is_taken_away(raw):
    await raw("POST", MAPS, {"metadata": {"name": "a", "finalizers": ["acme.com/x"]}})
    status, found = await raw("DELETE", f"{MAPS}/a")
    assert status == 200
    assert found["metadata"]["deletionTimestamp"]
    await raw("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": None}}, content_type=MERGE)
    assert (await raw("GET", f"{MAPS}/a"))[0] == 404


async def test_a_pod_that_runs_is_given_time_to_end(raw, api_server):
    pod = {"metadata": {"name": "a"}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 5}}
    await raw("POST", PODS, pod)
    _, found = await raw("DELETE", f"{PODS}/a")
    assert found["metadata"]["deletionGracePeriodSeconds"] == 5
    assert (await raw("DELETE", f"{PODS}/a"))[1] == found
    assert (await raw("GET", f"{PODS}/a"))[1] == found
    api_server.finish_deletion("pods", "a", "default")
    assert (await raw("GET", f"{PODS}/a"))[0] == 404
    await raw("POST", PODS, pod)
    await raw("DELETE", f"{PODS}/a?gracePeriodSeconds=0")
    assert (await raw("GET", f"{PODS}/a"))[0] == 404
    await raw("POST", PODS, {"metadata": {"name": "a"}, "spec": {}})
    await raw("DELETE", f"{PODS}/a")
    assert (await raw("GET", f"{PODS}/a"))[0] == 404


async def test_a_namespace_goes_with_all_that_is_in_it(raw, api_server):
    api_server.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}})
    async with raw.watch("/api/v1/namespaces?resourceVersion=" + str(api_server.version)) as read:
        await raw("DELETE", "/api/v1/namespaces/shop")
        event = await read()
        assert (event["type"], event["object"]["status"]["phase"]) == ("MODIFIED", "Terminating")
        assert (await read())["type"] == "DELETED"
    assert api_server.list("configmaps") == []


async def test_all_of_a_selection_can_be_deleted(raw, api_server):
    for name, tier in (("a", "x"), ("b", "x"), ("c", "y")):
        await raw("POST", MAPS, {"metadata": {"name": name, "labels": {"tier": tier}}})
    assert (await raw("DELETE", f"{MAPS}?labelSelector=tier%3Dx"))[0] == 200
    assert [each["metadata"]["name"] for each in api_server.list("configmaps")] == ["c"]


@pytest.mark.parametrize("time", ["2024-01-01T00:00:00Z", "2024-01-01T00:00:00.123Z", "now"])
async def test_a_lease_takes_times_of_six_digits_alone_as_go_reads_them(raw, time):
    body = {"metadata": {"name": "a"}, "spec": {"renewTime": time}}
    assert (await raw("POST", LEASES, body))[0] == 400
    body["spec"]["renewTime"] = "2024-01-01T00:00:00.123456Z"
    assert (await raw("POST", LEASES, body))[0] == 201


async def test_a_lease_lasts_for_some_time(raw):
    body = {"metadata": {"name": "a"}, "spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}
    status, found = await raw("POST", LEASES, body)
    assert status == 422
    fields = [cause["field"] for cause in found["details"]["causes"]]
    assert fields == ["spec.leaseDurationSeconds", "spec.leaseTransitions"]


async def test_an_event_of_either_group_is_the_same_object(raw):
    event = {
        "metadata": {"name": "a.1"},
        "eventTime": "2024-01-01T00:00:00.123456Z",
        "reportingController": "acme.com/x",
        "reportingInstance": "x-1",
        "action": "Write",
        "reason": "Refused",
        "type": "Warning",
        "note": "no",
        "regarding": {"kind": "Service", "namespace": "default", "name": "app"},
    }
    status, found = await raw("POST", "/apis/events.k8s.io/v1/namespaces/default/events", event)
    assert (status, found["note"], found["apiVersion"]) == (201, "no", "events.k8s.io/v1")
    _, found = await raw("GET", "/api/v1/namespaces/default/events/a.1")
    assert (found["message"], found["involvedObject"]["name"], found["apiVersion"]) == ("no", "app", "v1")


async def test_an_event_says_what_events_must_say(raw):
    base = "/apis/events.k8s.io/v1/namespaces/default/events"
    event = {"metadata": {"name": "a"}, "eventTime": "2024-01-01T00:00:00.123456Z", "reason": "x" * 129}
    event["regarding"] = {"namespace": "default"}
    status, found = await raw("POST", base, event)
    assert status == 422
    fields = {cause["field"] for cause in found["details"]["causes"]}
    assert fields == {"reportingController", "reportingInstance", "action", "reason", "type"}
    status, found = await raw("POST", base, event | {"regarding": {"namespace": "other"}})
    assert found["details"]["causes"][0]["field"] == "involvedObject.namespace"


async def test_methods_and_paths_that_are_none_are_refused(raw):
    for path in (
        "/api/v1/nothing",
        "/apis/acme.com/v1/things",
        "/api/v2/pods",
        "/api/v1/namespaces/a/nodes",
        "/nowhere",
    ):
        status, found = await raw("GET", path)
        assert (status, found["reason"]) == (404, "NotFound"), path
    assert (await raw("PUT", MAPS, ITEM))[0] == 405
    assert (await raw("POST", f"{MAPS}/a", ITEM))[0] == 405
