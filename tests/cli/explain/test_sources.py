"""What is explained comes from a controller, of this version or an earlier one, or from manifests."""

import json
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maesh_core.cli.explain.blocking_api import BlockingApi
from maesh_core.cli.explain.sources import SourcesClient
from maesh_core.controller.api_clients.controllers import open_apis
from maesh_core.errors import SettingsError, StartupError
from maesh_core.model.keys import ObjectKey

POD = {"namespace": "shop", "name": "web 0", "serviceAccount": "web", "addresses": ["10.0.0.1"], "newer": True}
EARLIER = {
    "/api/topology/current": {"services": {}, "pods": {"p@shop": {"name": "p", "namespace": "shop", "ip": "10.0.0.2"}}},
    "/api/configuration/current": {"revision": "e.1", "full": True, "plugins": ["acl"], "http": {}},
    "/api/status/controller": {"name": "me", "problems": {"a.yaml": "broken"}},
}
CURRENT = EARLIER | {
    "/api/pods": 400,
    "/api/pods?address=127.0.0.1": {"pods": []},
    "/api/pods?namespace=shop&name=web+0": {"pods": [POD]},
    "/api/objects": [{"kind": "Pod", "namespace": "shop", "name": "p", "errors": [], "notices": ["x"]}],
}


@pytest.fixture
def serve():
    """Serve documents as a controller does; return its endpoint."""
    servers = []

    def start(documents):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                found = documents.get(self.path)
                content = found if isinstance(found, bytes) else json.dumps(found).encode()
                self.send_response(found if isinstance(found, int) else 404 if found is None else 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def read():
    """Read the sources of the controller at an endpoint."""
    with ExitStack() as stack:

        def read_endpoint(endpoint):
            opened = BlockingApi(lambda: open_apis(endpoint, kubeconfig="", master_url="", namespace="maesh"))
            return SourcesClient(stack.enter_context(opened).fetch).read_sources()

        yield read_endpoint


def test_a_controller_is_asked_for_objects_problems_and_single_pods(serve, read):
    sources = read(serve(CURRENT) + "/api/configuration/current")
    assert sources.update.plugins == ("acl",)
    assert sources.problems == {"a.yaml": "broken"}
    assert [each["notices"] for each in sources.objects] == [["x"]]
    assert sources.pods.is_complete
    (pod,) = sources.pods.find_by_name(ObjectKey("shop", "web 0")).pods
    assert (pod.account, pod.addresses) == ("web@shop", ("10.0.0.1",))
    assert sources.pods.find_by_address("127.0.0.1").pods == ()


def test_a_controller_of_an_earlier_version_knows_the_pods_of_its_topology(serve, read):
    sources = read(serve({path: found for path, found in EARLIER.items() if path != "/api/status/controller"}))
    assert (sources.objects, sources.problems, sources.pods.is_complete) == ([], {}, False)
    assert [pod.name for pod in sources.pods.find_by_address("10.0.0.2").pods] == ["p"]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/api/topology/current", b"\xff"),
        ("/api/topology/current", b"[" * 100_000),
        ("/api/topology/current", b"{}"),
        ("/api/configuration/current", b'{"no": "revision"}'),
        ("/api/objects", b'{"not": "a list"}'),
        ("/api/status/controller", b"[]"),
    ],
)
def test_what_is_no_controller_is_said_to_be_none(serve, read, path, content):
    with pytest.raises(StartupError, match="the server is not a controller"):
        read(serve(CURRENT | {path: content}))


def test_an_answer_about_a_pod_that_is_none_and_an_error_of_the_controller_are_errors(serve, read):
    path = "/api/pods?address=127.0.0.1"
    for answer, text in ((b'{"pods": 7}', "the server is not a controller"), (503, "does not answer /api/pods")):
        sources = read(serve(CURRENT | {path: answer}))
        with pytest.raises(StartupError, match=text):
            sources.pods.find_by_address("127.0.0.1")


def test_nobody_there_and_no_url_are_errors_that_say_what_else_there_is(unused_tcp_port, read):
    with pytest.raises(StartupError, match="or use --manifests"):
        read(f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(SettingsError, match="is not the URL of a controller"):
        read("ftp://x")
