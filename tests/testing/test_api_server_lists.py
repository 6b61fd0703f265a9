"""Lists in pages, selectors, discovery documents, and what definitions of custom resources add."""

from pathlib import Path

import pytest
import yaml

CRDS = Path(__file__).parents[2] / "charts" / "maesh" / "crds"
MAPS = "/api/v1/namespaces/default/configmaps"
SPLIT = {
    "apiVersion": "split.smi-spec.io/v1alpha2",
    "kind": "TrafficSplit",
    "metadata": {"name": "a", "namespace": "default"},
    "spec": {"service": "app", "backends": [{"service": "b", "weight": "500m"}]},
}


def build_map(name, namespace="default", **labels):
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def get_names(found):
    return [each["metadata"]["name"] for each in found["items"]]


async def test_a_list_is_of_one_version_and_its_items_do_not_say_what_they_are(raw, api_server):
    api_server.apply([build_map("b"), build_map("a"), build_map("c", "other")])
    status, found = await raw("GET", "/api/v1/configmaps")
    assert (status, found["kind"], found["apiVersion"]) == (200, "ConfigMapList", "v1")
    assert found["metadata"] == {"resourceVersion": str(api_server.version)}
    assert get_names(found) == ["a", "b", "c"]
    assert not any(key in each for each in found["items"] for key in ("kind", "apiVersion"))
    assert get_names((await raw("GET", MAPS))[1]) == ["a", "b"]
    assert get_names((await raw("GET", MAPS.replace("default", "nowhere")))[1]) == []


async def test_pages_are_all_of_the_moment_of_the_first(raw, api_server):
    api_server.apply([build_map(f"a-{number}") for number in range(5)])
    _, first = await raw("GET", f"{MAPS}?limit=2")
    assert get_names(first) == ["a-0", "a-1"]
    assert first["metadata"]["remainingItemCount"] == 3
    api_server.delete("configmaps", "a-3", "default")
    api_server.apply(build_map("a-20"))
    _, second = await raw("GET", f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
    assert get_names(second) == ["a-2", "a-3"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    _, third = await raw("GET", f"{MAPS}?limit=2&continue={second['metadata']['continue']}")
    assert get_names(third) == ["a-4"]
    assert "continue" not in third["metadata"]


async def test_a_page_that_is_asked_for_too_late_has_expired_and_the_rest_can_be_had_inconsistently(raw, api_server):
    api_server.apply([build_map(f"a-{number}") for number in range(3)])
    _, first = await raw("GET", f"{MAPS}?limit=2")
    api_server.apply(build_map("a-9"))
    api_server.compact()
    status, found = await raw("GET", f"{MAPS}?limit=2&continue={first['metadata']['continue']}")
    assert (status, found["reason"], found["code"]) == (410, "Expired", 410)
    _, rest = await raw("GET", f"{MAPS}?limit=2&continue={found['metadata']['continue']}")
    assert get_names(rest) == ["a-2", "a-9"]


@pytest.mark.parametrize("query", ["continue=%21", "continue=e30", "limit=x", "resourceVersion=x"])
async def test_a_query_that_means_nothing_is_a_bad_request(raw, query):
    assert (await raw("GET", f"{MAPS}?{query}"))[0] == 400


async def test_any_version_will_do_for_a_list_without_pages(raw, api_server):
    api_server.apply([build_map("a"), build_map("b")])
    _, found = await raw("GET", f"{MAPS}?limit=1&resourceVersion=0")
    assert get_names(found) == ["a", "b"]
    status, found = await raw("GET", f"{MAPS}?resourceVersion={api_server.version + 100}")
    assert (status, found["reason"], found["details"]["retryAfterSeconds"]) == (504, "Timeout", 1)


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("tier=x", ["a"]),
        ("tier==x", ["a"]),
        ("tier!=x", ["b", "c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier in (x,y)", ["a", "b"]),
        ("tier in (x, y),zone=1", ["b"]),
        ("tier notin (x)", ["b", "c"]),
        ("tier=x,tier=y", []),
        ("", ["a", "b", "c"]),
    ],
)
async def test_labels_select(raw, api_server, selector, names):
    api_server.apply([build_map("a", tier="x"), build_map("b", tier="y", zone="1"), build_map("c")])
    _, found, _ = await raw.send("GET", f"{MAPS}?labelSelector={selector.replace(' ', '%20').replace('!', '%21')}")
    assert get_names(found) == names


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("metadata.name=a", ["a"]),
        ("metadata.name!=a", ["b", "c"]),
        ("metadata.namespace=other", ["c"]),
        ("metadata.namespace=default,metadata.name=b", ["b"]),
    ],
)
async def test_fields_select(raw, api_server, selector, names):
    api_server.apply([build_map("a"), build_map("b"), build_map("c", "other")])
    assert get_names((await raw("GET", f"/api/v1/configmaps?fieldSelector={selector}"))[1]) == names


@pytest.mark.parametrize("query", ["labelSelector=%3D", "labelSelector=a%20in", "fieldSelector=data.x%3D1"])
async def test_a_selector_that_cannot_be_is_refused(raw, query):
    assert (await raw("GET", f"{MAPS}?{query}"))[0] == 400


async def test_a_large_list_comes_compressed_where_the_client_can_read_it(raw, api_server):
    api_server.apply([build_map(f"a-{number}") | {"data": {"x": "y" * 1000}} for number in range(200)])
    for accepted, sent in (("gzip", "gzip"), ("identity", None)):
        _, found, headers = await raw.send("GET", MAPS, headers=raw.headers | {"Accept-Encoding": accepted})
        assert (len(found["items"]), headers.get("Content-Encoding")) == (200, sent)


async def test_the_server_says_what_it_serves(raw):
    assert (await raw("GET", "/api"))[1]["versions"] == ["v1"]
    groups = {group["name"]: group for group in (await raw("GET", "/apis"))[1]["groups"]}
    assert groups["discovery.k8s.io"]["preferredVersion"] == {"groupVersion": "discovery.k8s.io/v1", "version": "v1"}
    _, found = await raw("GET", "/apis/apps")
    assert (found["kind"], found["versions"][0]["groupVersion"]) == ("APIGroup", "apps/v1")
    _, found = await raw("GET", "/api/v1")
    assert (found["kind"], found["groupVersion"]) == ("APIResourceList", "v1")
    services = {each["name"]: each for each in found["resources"]}["services"]
    assert services["namespaced"] is True
    assert {"list", "watch", "create", "patch"} <= set(services["verbs"])
    assert (await raw("GET", "/version"))[1]["gitVersion"].startswith("v1.")
    for path in ("/apis/acme.com", "/apis/acme.com/v1", "/api/v2"):
        assert (await raw("GET", path))[0] == 404


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_the_server_says_that_it_lives(raw, path):
    async with raw.session.get(raw.server.url + path) as response:
        assert (response.status, await response.text()) == (200, "ok")


async def test_a_definition_brings_its_resource_in_all_its_versions(raw, api_server):
    assert (await raw("GET", "/apis/split.smi-spec.io"))[0] == 404
    api_server.add_crds(CRDS)
    _, group = await raw("GET", "/apis/split.smi-spec.io")
    versions = [each["version"] for each in group["versions"]]
    assert versions == ["v1alpha4", "v1alpha3", "v1alpha2", "v1alpha1"]
    path = "/apis/split.smi-spec.io/{}/namespaces/default/trafficsplits"
    assert (await raw("POST", path.format("v1alpha2"), SPLIT))[0] == 201
    for version in versions:
        _, found = await raw("GET", path.format(version))
        assert found["kind"] == "TrafficSplitList"
        (item,) = found["items"]
        assert (item["apiVersion"], item["kind"]) == (f"split.smi-spec.io/{version}", "TrafficSplit")
    assert (await raw("GET", path.format("v1beta1")))[0] == 404
    definition = api_server.get("customresourcedefinitions", "trafficsplits.split.smi-spec.io")
    conditions = {each["type"]: each["status"] for each in definition["status"]["conditions"]}
    assert conditions == {"NamesAccepted": "True", "Established": "True"}
    assert definition["status"]["storedVersions"] == ["v1alpha4"]


async def test_an_object_that_does_not_fit_its_schema_is_refused(raw, api_server):
    api_server.add_crds(CRDS)
    path = "/apis/split.smi-spec.io/v1alpha2/namespaces/default/trafficsplits"
    bad = SPLIT | {"spec": {"service": 1, "backends": [{"weight": 1}, "b"]}}
    status, found = await raw("POST", path, bad)
    assert (status, found["reason"]) == (422, "Invalid")
    causes = {cause["field"]: cause["reason"] for cause in found["details"]["causes"]}
    assert causes == {
        "spec.service": "FieldValueTypeInvalid",
        "spec.backends[0].service": "FieldValueRequired",
        "spec.backends[1]": "FieldValueTypeInvalid",
    }
    assert 'TrafficSplit.split.smi-spec.io "a" is invalid' in found["message"]


async def test_a_custom_resource_takes_no_strategic_patch(raw, api_server):
    api_server.add_crds(CRDS)
    api_server.apply(SPLIT)
    path = "/apis/split.smi-spec.io/v1alpha2/namespaces/default/trafficsplits/a"
    kind = "application/strategic-merge-patch+json"
    assert (await raw("PATCH", path, {}, content_type=kind))[0] == 415


async def test_without_its_definition_a_resource_is_gone_with_its_objects_and_watches(raw, api_server):
    api_server.add_crds(CRDS)
    api_server.apply(SPLIT)
    base = "/apis/split.smi-spec.io/v1alpha4/trafficsplits"
    async with raw.watch(f"{base}?resourceVersion={api_server.version}") as read:
        api_server.delete("customresourcedefinitions", "trafficsplits.split.smi-spec.io")
        assert (await read())["type"] == "DELETED"
        assert await read() is None
    assert (await raw("GET", base))[0] == 404
    assert (await raw("GET", "/apis/split.smi-spec.io"))[0] == 404
    api_server.add_crds(CRDS)
    assert get_names((await raw("GET", base))[1]) == []


async def test_a_watch_from_before_a_definition_went_and_came_again_has_to_list_anew(raw, api_server):
    api_server.add_crds(CRDS)
    api_server.apply(SPLIT)
    version = api_server.version
    api_server.delete("customresourcedefinitions", "trafficsplits.split.smi-spec.io")
    api_server.add_crds(CRDS)
    async with raw.watch(f"/apis/split.smi-spec.io/v1alpha4/trafficsplits?resourceVersion={version}") as read:
        found = await read()
    assert (found["type"], found["object"]["code"]) == ("ERROR", 410)


async def test_a_version_that_is_served_no_longer_vanishes(raw, api_server):
    definition = yaml.safe_load((CRDS / "trafficsplits.yaml").read_text())
    api_server.apply(definition)
    base = "/apis/split.smi-spec.io/v1alpha1/trafficsplits"
    assert (await raw("GET", base))[0] == 200
    for version in definition["spec"]["versions"]:
        version["served"] = version["name"] != "v1alpha1"
    async with raw.watch(base) as read:
        api_server.apply(definition)
        assert await read() is None
    assert (await raw("GET", base))[0] == 404
