"""Sessions through a real mesh: by cookie and by header, and after the server is gone."""

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
