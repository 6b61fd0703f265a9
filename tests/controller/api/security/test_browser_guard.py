import socket

import pytest

from maesh_core.controller.api.security.browser_guard import BrowserGuard, cut_port

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
def test_the_host_is_checked_for_every_client_and_the_origin_only_for_browsers(field):
    assert check("controller.example", is_page=False) == 421
    assert check("controller.example", (field, b"http://controller.example"), is_page=False) == 421
    assert check("localhost", is_page=False) is None


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


OWN = b"x-maesh-request"
AGENT = {b"user-agent": b"Mozilla/5.0 (X11; Linux x86_64)"}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, None),
        ({b"user-agent": b"curl/8.5.0", b"accept": b"*/*"}, None),
        (AGENT, 403),
        ({b"user-agent": b"curl/8.5.0", b"accept": b"text/html,*/*;q=0.8"}, 403),
        ({b"accept-language": b"en"}, 403),
        ({**AGENT, OWN: b"1"}, None),
        ({**AGENT, b"origin": b"http://10.0.0.1:9000"}, None),
        ({**AGENT, b"origin": b"http://10.0.0.2"}, 403),
        ({**AGENT, b"origin": b"http://10.0.0.2", OWN: b"1"}, 403),
        ({**AGENT, b"origin": b"null"}, 403),
        ({**AGENT, b"referer": b"http://10.0.0.1:9000/"}, None),
        ({**AGENT, b"referer": b"http://10.0.0.1:9000"}, None),
        ({**AGENT, b"referer": b"http://10.0.0.1:90001/"}, 403),
        ({**AGENT, b"referer": b"http://evil.example/http://10.0.0.1:9000/"}, 403),
        ({**AGENT, b"referer": b""}, 403),
        ({**AGENT, b"sec-fetch-site": b"same-origin", b"sec-fetch-mode": b"cors"}, None),
        ({**AGENT, b"sec-fetch-site": b"none", b"sec-fetch-mode": b"navigate"}, None),
        ({b"sec-fetch-site": b"cross-site", b"sec-fetch-mode": b"navigate", b"sec-fetch-dest": b"document"}, 403),
    ],
)
def test_a_browser_gets_a_costly_answer_only_for_the_controllers_own_pages(fields, status):
    lines = [(b"host", b"10.0.0.1:9000"), *fields.items()]
    refusal = BrowserGuard().check(lines, is_page=False, is_costly=True)
    assert (refusal and refusal.status) == status


def test_a_name_of_another_site_gets_no_costly_answer_whatever_it_sends():
    lines = [(b"host", b"evil.example"), BROWSER, (OWN, b"1"), (b"sec-fetch-site", b"same-origin")]
    refusal = BrowserGuard().check(lines, is_page=False, is_costly=True)
    assert refusal is not None
    assert refusal.status == 421


@pytest.mark.parametrize(
    ("host", "name"), [("a:1", "a"), ("[::1]:1", "::1"), ("[::1]", "::1"), ("a.", "a"), ("", ""), (":1", "")]
)
def test_the_port_is_cut_off(host, name):
    assert cut_port(host) == name
