"""The proxy for an API server is the one that kubectl would use."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.kubernetes.proxies import find_proxy
from maesh_core.errors import StartupError

PROXY = "http://proxy.acme.com:3128"
SERVER = "https://api.acme.com:6443"


@pytest.mark.parametrize(
    ("server", "environment", "expected"),
    [
        (SERVER, {}, None),
        (SERVER, {"HTTPS_PROXY": PROXY}, PROXY),
        (SERVER, {"https_proxy": PROXY}, PROXY),
        (SERVER, {"HTTPS_PROXY": PROXY, "https_proxy": "http://other"}, PROXY),
        (SERVER, {"HTTPS_PROXY": "", "https_proxy": PROXY}, PROXY),
        (SERVER, {"HTTP_PROXY": PROXY, "ALL_PROXY": PROXY}, None),
        ("http://api.acme.com", {"HTTP_PROXY": PROXY}, PROXY),
        ("http://api.acme.com", {"http_proxy": PROXY}, PROXY),
        ("http://api.acme.com", {"HTTPS_PROXY": PROXY}, None),
        (SERVER, {"HTTPS_PROXY": "proxy.acme.com:3128"}, PROXY),
        (SERVER, {"HTTPS_PROXY": "https://jo:secret@proxy"}, "https://jo:secret@proxy"),
        ("https://localhost:6443", {"HTTPS_PROXY": PROXY}, None),
        ("https://127.0.0.9:6443", {"HTTPS_PROXY": PROXY}, None),
        ("https://[::1]:6443", {"HTTPS_PROXY": PROXY}, None),
        ("https://10.0.0.1", {"HTTPS_PROXY": PROXY}, PROXY),
    ],
)
def test_the_variable_of_the_servers_scheme_counts_except_for_this_machine(server, environment, expected):
    assert find_proxy(server, None, environment) == expected


@pytest.mark.parametrize(
    ("server", "exceptions", "is_proxied"),
    [
        (SERVER, "*", False),
        (SERVER, "a, * ,b", False),
        (SERVER, "acme.com", False),
        (SERVER, "API.Acme.Com", False),
        (SERVER, ".acme.com", False),
        (SERVER, "*.acme.com", False),
        ("https://acme.com", "acme.com", False),
        ("https://acme.com", ".acme.com", True),
        ("https://acme.com", "*.acme.com", True),
        ("https://badacme.com", "acme.com", True),
        (SERVER, "*acme.com", True),
        (SERVER, "acme.com:6443", False),
        (SERVER, "acme.com:443", True),
        ("https://api.acme.com", "acme.com:443", False),
        (SERVER, ".acme.com:6443", False),
        (SERVER, "other.com,,  acme.com  ", False),
        (SERVER, "", True),
        (SERVER, ":6443", True),
        ("https://10.0.0.1:6443", "10.0.0.1", False),
        ("https://10.0.0.1:6443", "10.0.0.1:6443", False),
        ("https://10.0.0.1:6443", "10.0.0.1:443", True),
        ("https://10.0.0.1", "10.0.0.0/8", False),
        ("https://10.0.0.1", "10.1.2.3/8", False),
        ("https://10.0.0.1", "11.0.0.0/8", True),
        ("https://10.0.0.1", "0.1", True),
        (SERVER, "0.0.0.0/0", True),
        ("https://[fd00::1]:6443", "fd00::/8", False),
        ("https://[fd00::1]:6443", "fd00::1", False),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", False),
        ("https://[fd00::1]:6443", "[fd00::1]:443", True),
        ("https://[fd00::1]:6443", "fd00:0:0::0001", False),
        ("https://[fd00::1]:6443", "10.0.0.0/8", True),
        (SERVER, "acme.com/8", True),
    ],
)
@pytest.mark.parametrize("name", ["NO_PROXY", "no_proxy"])
def test_exceptions_are_hosts_suffixes_networks_and_ports(name, server, exceptions, is_proxied):
    environment = {"HTTPS_PROXY": PROXY, name: exceptions}
    assert find_proxy(server, None, environment) == (PROXY if is_proxied else None)


def test_that_of_the_kubeconfig_wins_and_knows_no_exceptions():
    environment = {"HTTPS_PROXY": "http://other", "NO_PROXY": "*"}
    assert find_proxy(SERVER, PROXY, environment) == PROXY
    assert find_proxy("https://127.0.0.1", PROXY, environment) == PROXY
    assert find_proxy(SERVER, "", environment) is None


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks4", "ftp", "HTTP2"])
def test_a_proxy_that_is_not_spoken_to_is_refused_by_name_and_without_its_password(scheme):
    text = f"the proxy {scheme.lower()}://proxy:1080 cannot be used"
    for configured, environment, origin in (
        (f"{scheme}://jo:secret@proxy:1080", {}, "proxy-url"),
        (None, {"https_proxy": f"{scheme}://jo:secret@proxy:1080"}, "https_proxy"),
    ):
        with pytest.raises(StartupError) as caught:
            find_proxy(SERVER, configured, environment)
        assert str(caught.value).startswith(f"{origin}: {text}")
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["http://", "http://:3128", "http://proxy:port", "http://proxy:99999", "http://[::1"])
def test_what_is_no_address_is_refused(proxy):
    with pytest.raises(StartupError, match="not the address of a proxy"):
        find_proxy(SERVER, proxy, {})


@pytest.mark.parametrize("server", ["https://host:port", "https://[::1"])
def test_a_server_that_is_no_address_is_refused(server):
    with pytest.raises(StartupError, match="not the address of a server"):
        find_proxy(server, None, {"HTTPS_PROXY": PROXY})


@given(st.text(alphabet=st.sampled_from(list("a.:*/[]0198,% ")), max_size=20))
def test_whatever_the_exceptions_are_there_is_an_answer(exceptions):
    for server in (SERVER, "https://10.0.0.1", "https://[fd00::1]:6443"):
        assert find_proxy(server, None, {"HTTPS_PROXY": PROXY, "NO_PROXY": exceptions}) in (PROXY, None)
