"""A controller with TLS and tokens: its proxies and commands need both, and files may be replaced."""

import json
import socket
import ssl

import pytest
import trustme

pytestmark = pytest.mark.integration

TOKEN = "0123456789abcdef"


class Files:
    """The files of the API and of its clients."""

    def __init__(self, folder):
        self._authority = trustme.CA()
        names = ("tls.crt", "tls.key", "ca.crt", "tokens", "wrong")
        self.cert, self.key, self.ca, self.tokens, self.wrong = (folder / name for name in names)
        self.ca.write_bytes(self._authority.cert_pem.bytes())
        self.tokens.write_text(f"all {TOKEN}\n")
        self.wrong.write_text("all fedcba9876543210\n")
        self.replace_certificate()

    def replace_certificate(self):
        issued = self._authority.issue_cert("127.0.0.1")
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        return self.read_certificate()

    def read_certificate(self):
        return ssl.PEM_cert_to_DER_cert(self.cert.read_text().partition("-----END CERTIFICATE-----")[0] + END)

    def list_client_flags(self, tokens=None):
        return ("--root-ca-controller", self.ca, "--controller-token", tokens or self.tokens)


END = "-----END CERTIFICATE-----\n"


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.fixture
def api_port(start_maesh, free_port, files, manifests):
    """Start a controller; gives the port of its API."""
    port = free_port()
    protection = ("--api-cert", files.cert, "--api-key", files.key, "--api-tokens", files.tokens)
    command = start_maesh("controller", manifests.path, "--api-host", "127.0.0.1", "--api-port", port, *protection)
    command.wait_until(lambda: show_certificate(port, files), "the API")
    return port


def show_certificate(port, files):
    """Give the certificate that the API shows now; None if nobody listens."""
    context = ssl.create_default_context(cafile=files.ca)
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as sock,
            context.wrap_socket(sock, server_hostname="127.0.0.1") as secured,
        ):
            return secured.getpeercert(binary_form=True)
    except ConnectionRefusedError:
        return None


def build_flags(api_port, admin_port):
    return (
        *("--endpoint", f"https://127.0.0.1:{api_port}", "--bind", "127.0.0.1"),
        *("--admin-host", "127.0.0.1", "--admin-port", admin_port),
    )


def test_a_proxy_with_the_token_routes_traffic_also_after_the_certificate_was_replaced(
    files, api_port, start_maesh, free_port, get, manifests, start_upstream, build_service
):
    admin_port = free_port()
    proxy = start_maesh("proxy", *build_flags(api_port, admin_port), *files.list_client_flags())
    proxy.wait_until(lambda: get(admin_port, path="/ready").status == 200, "readiness")
    renewed = files.replace_certificate()
    proxy.wait_until(lambda: show_certificate(api_port, files) == renewed, "the new certificate")
    manifests.write("cart.json", build_service("cart", start_upstream("cart-1").port))
    proxy.wait_until(lambda: has_cart(get(admin_port, path="/configuration").json), "the service")


def has_cart(configuration):
    return "test/cart:80" in configuration["http"]["services"]


def test_a_proxy_with_another_token_gets_nothing(files, api_port, start_maesh, free_port, get):
    admin_port = free_port()
    proxy = start_maesh("proxy", *build_flags(api_port, admin_port), *files.list_client_flags(files.wrong))
    proxy.wait_until(lambda: "401" in proxy.stderr, "the reason in the log")
    assert get(admin_port, path="/ready").status == 503
    assert "fedcba9876543210" not in proxy.stderr


def test_commands_need_the_token(files, api_port, run_maesh):
    flags = ("--endpoint", f"https://127.0.0.1:{api_port}")
    shown = run_maesh("status", "--json", *flags, *files.list_client_flags())
    assert json.loads(shown.stdout)["serviceCount"] == 0
    refused = run_maesh("status", *flags, "--root-ca-controller", files.ca)
    assert "401" in refused.stdout + refused.stderr
    explained = run_maesh("explain", *flags, *files.list_client_flags(), "10.0.0.1", "cart.test")
    assert "the mesh knows no service cart in namespace test" in explained.stderr
