"""A controller whose API is protected by the authority, and a proxy, as processes on addresses of this machine.

The addresses are of the loopback network, but not those at which nothing is protected.
"""

import http.client
import json
import os
import ssl
from datetime import UTC, datetime

from maesh_mtls.controller.authority.ca import read_authority
from maesh_mtls.controller.authority.folder_store import FolderStore

from maesh_testing import find_free_port
from maesh_testing.http_client import Answer

API, ADMIN = "127.0.21.1", "127.0.21.2"
NODE, NODE_TOKEN = "node-a", "token-of-node-a-0123"
PERSON_TOKEN = "token-of-a-person-0123"


class ProtectedMesh:
    """Starts the commands, and sends requests to them."""

    def __init__(self, start_maesh, folder):
        self._start_maesh, self.folder = start_maesh, folder
        self.api_port, self.admin_port, self.http_port = (find_free_port() for _ in range(3))
        self.ca = folder / "ca"
        self.manifests = folder / "manifests"
        self.manifests.mkdir(parents=True)
        self._write("tokens", f"{NODE} {NODE_TOKEN}\nnode-b token-of-node-b-0123\n")
        self._write("api-tokens", f"person {PERSON_TOKEN}\n")
        self._write("token", NODE_TOKEN)
        self.person = self._write("person", PERSON_TOKEN)

    def _write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o600)
        return path

    @property
    def root(self):
        """The file of the authority's certificate."""
        return self.ca / "tls.crt"

    @property
    def endpoint(self):
        return f"https://{API}:{self.api_port}"

    def write_service(self, name, upstream):
        objects = [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"ports": [{"name": "a", "port": 80}]},
            },
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4",
                "ports": [{"name": "a", "port": upstream.port, "protocol": "TCP"}],
                "endpoints": [{"addresses": [upstream.address], "nodeName": NODE, "conditions": {"ready": True}}],
            },
        ]
        fresh = self.manifests / f"{name}.fresh"
        fresh.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        os.rename(fresh, self.manifests / f"{name}.json")

    def start_controller(self, *flags, tokens=True):
        """Start the controller, and wait until it is ready."""
        command = self._start_maesh(
            "controller",
            *("--api-host", API, "--api-port", self.api_port, "--log-level", "info"),
            *("--http-port", self.http_port, "--limit-http-port", 5, "--port-mapping", self.folder / "ports.json"),
            *("--mtls", "--set", f"mtls.ca={self.ca}", "--set", f"mtls.tokens={self.folder / 'tokens'}"),
            *(("--api-tokens", self.folder / "api-tokens") if tokens else ()),
            *flags,
            self.manifests,
        )
        command.wait_until(lambda: self.ask("/api/status/readiness", is_tls=False).status == 200, "readiness")
        return command

    def start_proxy(self, *flags, node=NODE, endpoint=""):
        """Start a proxy, which proves its node with the token of node-a, and do not wait."""
        return self._start_maesh(
            "proxy",
            *("--node", node, "--endpoint", endpoint or self.endpoint, "--bind", "127.0.0.1"),
            *("--admin-host", ADMIN, "--admin-port", self.admin_port),
            *("--root-ca-controller", self.root),
            *("--mtls", "--set", f"mtls.token={self.folder / 'token'}", "--set", f"mtls.port={find_free_port()}"),
            *flags,
        )

    def wait_for_proxy(self, command):
        command.wait_until(lambda: self.ask_admin("/ready", is_tls=False).status == 200, "a configuration")

    def ask(self, path, *, token="", is_tls=True, credentials=None, trusted=True, method="GET", headers=None):
        """Send a request to the API."""
        context = self._build_context(credentials, is_trusted=trusted) if is_tls else None
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        return send(API, self.api_port, path, context, {**fields, **(headers or {})}, method=method)

    def ask_admin(self, path, *, is_tls=True, credentials=None):
        """Send a request to the admin port of the proxy."""
        context = self._build_context(credentials, is_named=False) if is_tls else None
        return send(ADMIN, self.admin_port, path, context, {})

    def _build_context(self, credentials, *, is_trusted=True, is_named=True):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = is_named and is_trusted
        context.verify_mode = ssl.CERT_REQUIRED if is_trusted else ssl.CERT_NONE
        if is_trusted:
            context.load_verify_locations(self.root)
        if credentials is not None:
            path = self.folder / "client.pem"
            path.write_text(f"{credentials.key}\n{credentials.chain}")
            context.load_cert_chain(path)
        return context

    def load_signer(self):
        """Load the authority, as someone who has stolen its key."""
        return read_authority(FolderStore(self.ca).load_now(), datetime.now(UTC))


def send(address, port, path, context, headers, *, method="GET"):
    if context is None:
        connection = http.client.HTTPConnection(address, port, timeout=60)
    else:
        connection = http.client.HTTPSConnection(address, port, timeout=60, context=context)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())  # type: ignore[arg-type]
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, {}, f"{type(error).__name__}: {error}".encode())
    finally:
        connection.close()
