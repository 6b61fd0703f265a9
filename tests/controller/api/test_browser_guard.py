import socket

import pytest

from maesh_core.controller.api.browser_guard import BrowserGuard, cut_port

BROWSER = (b"accept-language", b"en")


def check(host, *fields, is_page=True, guard=None):
    refusal = (guard or BrowserGuard()).check([(b"host", host.encode()), *fields], is_page=is_page)
    return refusal and refusal.status


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:9000",
        "[::1]:9000",
        "[fd00::1]",
        "10.0.0.1",
        "localhost:9000",
        "LOCALHOST.",
        "mesh.localhost:9000",
        "maesh-controller:9000",
        "maesh-controller.maesh:9000",
        "maesh-controller.maesh.svc:9000",
        socket.gethostname(),
    ],
)
def test_addresses_and_names_that_no_other_site_can_have_are_known(host):
    assert check(host, BROWSER) is None


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9000", "127.0.0.1.evil.example", "svc", "", "[::1", "a.svc.evil.example"]
)
def test_a_name_that_another_site_can_have_is_refused(host):
    assert check(host, BROWSER) == (None if host in ("svc", "[::1") else 421)


def test_the_cluster_domain_and_further_names_are_known():
    guard = BrowserGuard(("Mesh.Example",), namespace="net", cluster_domain="corp.internal")
    for host in ("mesh.example:80", "maesh-controller.net", "maesh-controller.net.svc.corp.internal"):
        assert check(host, guard=guard) is None
    assert check("maesh-controller.maesh", guard=guard) == 421
    assert check("evil.example", guard=BrowserGuard(("all",))) is None


@pytest.mark.parametrize("field", [b"accept-language", b"origin", b"referer", b"sec-fetch-site", b"sec-fetch-mode"])
def test_only_browsers_are_checked_outside_of_pages(field):
    assert check("controller.example", is_page=False) is None
    assert check("controller.example", (field, b"http://controller.example"), is_page=False) == 421


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({b"origin": b"http://localhost:9000"}, None),
        ({b"origin": b"https://LOCALHOST:9000"}, None),
        ({b"origin": b"http://localhost:3000"}, 403),
        ({b"origin": b"http://evil.example"}, 403),
        ({b"origin": b"null"}, 403),
        ({b"sec-fetch-site": b"same-origin", b"sec-fetch-mode": b"cors"}, None),
        ({b"sec-fetch-site": b"none", b"sec-fetch-mode": b"navigate"}, None),
        ({b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"no-cors"}, 403),
        ({b"sec-fetch-site": b"same-site", b"sec-fetch-mode": b"cors"}, 403),
        ({b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"}, None),
        ({b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"iframe"}, 403),
    ],
)
def test_what_another_site_sends_is_refused_but_a_link_from_there_is_followed(fields, status):
    for is_page in (True, False):
        assert check("localhost:9000", *fields.items(), is_page=is_page) == status


@pytest.mark.parametrize(
    ("host", "name"), [("a:1", "a"), ("[::1]:1", "::1"), ("[::1]", "::1"), ("a.", "a"), ("", ""), (":1", "")]
)
def test_the_port_is_cut_off(host, name):
    assert cut_port(host) == name
