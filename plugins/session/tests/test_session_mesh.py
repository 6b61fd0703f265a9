"""Sessions through a real mesh: by cookie and by header, and after the server is gone."""

import pytest

from maesh_testing import build_service


def test_a_client_stays_at_its_server_by_a_cookie_until_it_is_gone(start_mesh):
    mesh = start_mesh(annotations={"session-cookie": "shop"}, servers=3)
    assert len({mesh.get().text for _ in range(12)}) == 3
    first = mesh.get()
    cookie = first.headers["Set-Cookie"].partition(";")[0]
    for _ in range(6):
        again = mesh.get(headers={"Cookie": cookie})
        assert again.text == first.text
        assert again.headers["Set-Cookie"] is None
    others = [each for each in mesh.upstreams if each.name != first.text]
    objects = build_service(
        "app", [(each.address, each.port) for each in others], annotations={"session-cookie": "shop"}
    )
    mesh.manifests.write("app.json", objects)
    gone = mesh.wait_until(
        lambda: (found := mesh.get(headers={"Cookie": cookie})).text != first.text and found, "another server"
    )
    cookie = gone.headers["Set-Cookie"].partition(";")[0]
    assert {mesh.get(headers={"Cookie": cookie}).text for _ in range(6)} == {gone.text}


def test_a_client_stays_at_its_server_by_a_header(start_mesh):
    mesh = start_mesh("--set", "session.secret=sesame", annotations={"session-header": "X-Session"}, servers=3)
    first = mesh.get()
    headers = {"X-Session": first.headers["X-Session"]}
    assert {mesh.get(headers=headers).text for _ in range(6)} == {first.text}


def build_backends(start_upstream, *names):
    objects = []
    for name in names:
        servers = [start_upstream(f"{name}-{number}") for number in (1, 2)]
        objects += build_service(name, [(each.address, each.port) for each in servers])
    return objects


def build_route(*rules):
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "app", "namespace": "test"},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "app"}], "rules": list(rules)},
    }


def build_rule(path, weights, *, filters=(), **persistence):
    backends = [{"name": name, "port": 80, "weight": weight} for name, weight in weights.items()]
    if filters:
        backends[-1]["filters"] = list(filters)
    return {
        "matches": [{"path": {"value": path}}],
        "sessionPersistence": {"type": "Cookie", "cookie": {"name": "shop", **persistence}},
        "backendRefs": backends,
    }


def begin(mesh, path, version):
    """Begin a session that a version has answered; return its cookie and the server."""
    found = mesh.wait_until(lambda: (answer := mesh.get(path)).text.startswith(version) and answer, version)
    return found.headers["Set-Cookie"].partition(";")[0], found.text


FILTER = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "X-Canary", "value": "yes"}]}}


@pytest.mark.parametrize("filters", [(), (FILTER,)], ids=["plain", "filtered"])
def test_a_session_of_a_rule_beats_the_weights_even_if_they_change_to_0(start_mesh, start_upstream, filters):
    objects = build_backends(start_upstream, "v1", "v2")
    mesh = start_mesh(objects=[*objects, build_route(build_rule("/", {"v1": 1, "v2": 1}, filters=filters))])
    cookie, server = begin(mesh, "/", "v2")
    assert {mesh.get(headers={"Cookie": cookie}).text for _ in range(8)} == {server}
    fresh = build_route(build_rule("/", {"v1": 1, "v2": 0}, filters=filters))
    mesh.manifests.write("more.json", [*objects, fresh])
    mesh.wait_until(lambda: all(mesh.get().text.startswith("v1") for _ in range(8)), "no new session at v2")
    assert {mesh.get(headers={"Cookie": cookie}).text for _ in range(8)} == {server}


def test_rules_never_share_a_session_even_with_one_name(start_mesh, start_upstream):
    objects = build_backends(start_upstream, "v1", "v2")
    weights = {"v1": 1, "v2": 1}
    mesh = start_mesh(objects=[*objects, build_route(build_rule("/a", weights), build_rule("/b", weights))])
    cookie, server = begin(mesh, "/a", "v1")
    assert {mesh.get("/a", headers={"Cookie": cookie}).text for _ in range(8)} == {server}
    assert len({mesh.get("/b", headers={"Cookie": cookie}).text for _ in range(8)}) > 1
    assert mesh.get("/b", headers={"Cookie": cookie}).headers["Set-Cookie"].startswith("shop=")
