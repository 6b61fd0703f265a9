"""The dashboard of `maesh up`, with traffic, and what other sites can do with it."""

import pytest

from maesh_testing import build_pod, build_service, send_request

from . import browsing

CLIENT, STRANGER, SERVER = "127.0.1.1", "127.0.1.2", "127.0.2.1"
needs_browser = pytest.mark.skipif(bool(browsing.find_missing()), reason=browsing.find_missing())

pytestmark = pytest.mark.integration

TARGET = {
    "apiVersion": "access.smi-spec.io/v1alpha3",
    "kind": "TrafficTarget",
    "metadata": {"name": "open", "namespace": "test"},
    "spec": {
        "destination": {"kind": "ServiceAccount", "name": "server", "namespace": "test"},
        "sources": [{"kind": "ServiceAccount", "name": "caller", "namespace": "test"}],
    },
}


def start_guarded(start_mesh, start_upstream, *flags):
    """Start a mesh with access control, a client that may call its service, and one that may not."""
    objects = [build_pod("client", CLIENT, "caller"), build_pod("stranger", STRANGER, "other"), TARGET]
    objects += build_service("broken", annotations={"retry-attempts": "many"})
    upstream = start_upstream("app-1", SERVER)
    return start_mesh("--acl", *flags, servers=[upstream], account="server", objects=objects)


def test_the_page_is_on_in_maesh_up_and_can_be_switched_off(start_mesh):
    mesh = start_mesh()
    found = send_request(mesh.api_port, path="/")
    assert (found.status, found.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in found.headers["Content-Security-Policy"]
    assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert send_request(mesh.api_port, "evil.example", path="/").status == 421
    mesh.command.stop()
    assert send_request(start_mesh("--no-dashboard").api_port, path="/").status == 404


@needs_browser
@pytest.mark.peer
def test_every_page_shows_a_real_mesh(start_mesh, start_upstream):
    mesh = start_guarded(start_mesh, start_upstream)
    for client, status in ((CLIENT, 200), (STRANGER, 403)):
        assert {mesh.get(client=client).status for _ in range(20)} == {status}
    with browsing.open_browser() as browser:
        page = browsing.open_page(browser, f"http://127.0.0.1:{mesh.api_port}")
        page.get_by_role("link", name="broken").wait_for()
        page.get_by_role("link", name="app").click()
        page.get_by_text("app.test.maesh").first.wait_for()
        page.get_by_text("test/open").wait_for()
        page.get_by_text("20 × in the last minute").wait_for()
        for label in ("Servers", "Callers"):
            row = page.get_by_role("group", name=label).locator("tbody tr").first
            assert row.inner_text().count(" ms") == 3, row.inner_text()
        page.get_by_role("link", name="Why is a request").click()
        for client, text in (("client.test", "✓ Allowed"), ("stranger.test", "✕ Refused with 403")):
            page.get_by_label("Client").fill(client)
            page.get_by_role("button", name="Explain").click()
            page.get_by_text(text).wait_for()
        for path, text in (("nodes", "current"), ("graph", "stranger"), ("tap", "Watch requests as they end")):
            page.evaluate("path => { location.hash = `#/${path}`; }", path)
            page.get_by_text(text).filter(visible=True).first.wait_for()
            if path == "graph":
                page.locator(".edge .lock.granted").wait_for()
                page.locator(".edge .lock.denied").wait_for()
        assert page.troubles == []


@needs_browser
@pytest.mark.peer
def test_the_page_audit_names_who_would_be_denied_and_its_rule_allows_them(start_mesh, start_upstream):
    mesh = start_guarded(start_mesh, start_upstream, "--set", "acl.mode=audit")
    for client, path in ((CLIENT, "/allowed"), (STRANGER, "/secrets/7")):
        assert {mesh.get(path, client=client).status for _ in range(3)} == {200}
    with browsing.open_browser() as browser:
        page = browsing.open_page(browser, f"http://127.0.0.1:{mesh.api_port}")
        page.evaluate("() => { location.hash = '#/audit'; }")
        page.get_by_text("would be denied 3 times").wait_for()
        assert page.locator(".card h2").all_inner_texts()[0].startswith("other@test → test/app:80")
        assert page.locator("tbody th code").all_inner_texts() == ["GET /secrets/7"]
        page.get_by_text("would allow it").click()
        rule = page.locator("pre code").inner_text()
        mesh.manifests.write("suggested.yaml", rule)
        path = f"/api/explain?client={STRANGER}&service=app.test&path=/secrets/7"
        mesh.wait_until(lambda: not send_request(mesh.api_port, path=path).json["wouldDeny"], "the rule")
        assert page.troubles == []


@needs_browser
@pytest.mark.peer
def test_the_tap_shows_requests_with_the_mesh_s_reasons_while_it_runs(start_mesh, start_upstream):
    mesh = start_guarded(start_mesh, start_upstream, "--set", "acl.audit-by-annotation=service")
    with browsing.open_browser() as browser:
        page = browsing.open_page(browser, f"http://127.0.0.1:{mesh.api_port}")
        page.evaluate("() => { location.hash = '#/tap'; }")
        page.get_by_role("button", name="Start").click()
        page.get_by_text("No request yet").wait_for()

        def show(path, status, text):
            """Send a request of the stranger until the tap shows it with a status and a text."""
            record = page.locator(".record").filter(has_text=f"GET {path}").filter(has_text=text).first
            mesh.wait_until(lambda: mesh.get(path, client=STRANGER).status == status and record.count(), text)
            assert str(status) in record.locator(".status").inner_text()

        show("/denied", 403, "no rule allows this client")
        mesh.set_annotations({"acl-mode": "audit"})
        show("/audited", 200, "would be denied: no rule allows this client")
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("Stopped").wait_for()
        assert page.troubles == []


@needs_browser
@pytest.mark.peer
def test_another_site_cannot_read_the_api_by_pointing_its_name_at_it(start_mesh):
    mesh = start_mesh()
    with browsing.open_browser("--host-resolver-rules=MAP evil.example 127.0.0.1") as browser:
        page = browser.new_page()
        for path in ("/", "/api/services", "/api/configuration/current"):
            assert page.goto(f"http://evil.example:{mesh.api_port}{path}").status == 421
        assert page.goto(f"http://localhost:{mesh.api_port}/api/services").status == 200


@needs_browser
@pytest.mark.peer
def test_another_site_cannot_start_a_tap_at_an_address(start_mesh):
    mesh = start_mesh()
    # Without this check, which not every browser has, the requests arrive, as they do from a site in the same network.
    flags = ("--host-resolver-rules=MAP 10.99.0.1 127.0.0.1", "--disable-features=LocalNetworkAccessChecks")
    paths = ("/api/tap", "/api/explain", "/api/traffic")
    with browsing.open_browser(*flags) as browser:
        page = browser.new_page()
        page.route("http://evil.example/", lambda route: route.fulfill(body="<p>evil</p>", content_type="text/html"))
        page.goto("http://evil.example/")
        for path in paths:
            load = "url => new Promise(done => { const image = new Image(); image.onerror = done; image.src = url; })"
            page.evaluate(load, f"http://10.99.0.1:{mesh.api_port}{path}?client=10.0.0.1&service=app.test")
    metrics = send_request(mesh.api_port, path="/metrics").body.decode()
    for path in paths:
        assert f'maesh_controller_api_requests_total{{code="403",path="{path}"}} 1' in metrics
