"""Protected controllers of a cluster: tokens of pods and people, replicas that ask each other, no API server."""

import base64
import json
import ssl
from datetime import UTC, datetime

import pytest
from maesh_mtls.controller.authority.ca import read_authority
from maesh_mtls.controller.authority.stores import Stored
from maesh_mtls.wire import ROTATION_PATH

from maesh_testing import find_free_port
from maesh_testing.api_server import ApiServer

from .certificates import encode, make_credentials, make_signer
from .cluster_nodes import PERMISSIONS
from .clusters import ACCOUNT, NAMESPACE, apply_secret, build_node, build_proxy
from .protected_mesh import send

pytestmark = pytest.mark.integration
PULL = "/api/configuration/current"
ADDRESSES = ("127.0.22.1", "127.0.22.2")
CREATING = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"], "namespace": NAMESPACE}
VIEWER = "system:serviceaccount:maesh:maesh-viewer"
READS = {"nonResourceURLs": ["/maesh/api/*", "/maesh/metrics"], "verbs": ["get"]}
REVIEWS = {"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}
USER = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"], "namespace": NAMESPACE},
    {"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get"], "namespace": NAMESPACE},
    {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["create"], "namespace": NAMESPACE},
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "namespace": NAMESPACE},
    {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"], "namespace": NAMESPACE},
]


class Replicas:
    """Two controllers of a cluster, on addresses at which the API is protected."""

    def __init__(self, start_maesh, folder, server):
        self._start_maesh, self.folder, self.server = start_maesh, folder, server
        self.port = find_free_port()
        server.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}])
        server.apply([build_node(node) for node in ("node-a", "node-b")])
        server.apply([build_proxy(node) for node in ("node-a", "node-b")])
        for account in ("maesh-viewer", ACCOUNT, "maesh-stranger"):
            metadata = {"name": account, "namespace": NAMESPACE}
            server.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        for number, address in enumerate(ADDRESSES, 1):
            self._apply_pod(f"c-{number}", address)
        self._apply_slice()
        server.set_rules(VIEWER, [READS])
        server.add_token("token-of-the-controllers", user="controllers")
        server.set_rules("controllers", [*PERMISSIONS, REVIEWS])
        server.add_token("token-of-ann", user="ann")
        server.set_rules("ann", [*USER, READS])

    def _apply_pod(self, name, address):
        labels = {"app": "maesh", "component": "controller"}
        pod = {"metadata": {"name": name, "namespace": NAMESPACE, "labels": labels}, "spec": {"containers": []}}
        status = {"phase": "Running", "podIP": address}
        self.server.apply({"apiVersion": "v1", "kind": "Pod", **pod, "status": status})
        self.server.connect_pod(NAMESPACE, name, 9000, (address, self.port))

    def _apply_slice(self):
        labels = {"kubernetes.io/service-name": "maesh-controller"}
        endpoints = [
            {"addresses": [address], "targetRef": {"kind": "Pod", "name": f"c-{number}"}}
            for number, address in enumerate(ADDRESSES, 1)
        ]
        self.server.apply(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": "maesh-controller-1", "namespace": NAMESPACE, "labels": labels},
                "addressType": "IPv4",
                "ports": [{"name": "api", "port": self.port, "protocol": "TCP"}],
                "endpoints": endpoints,
            }
        )

    def start(self, number=1, *flags, is_ready=True):
        kubeconfig = self.server.write_kubeconfig(self.folder / "controllers", token="token-of-the-controllers")
        command = self._start_maesh(
            *("controller", "--kubeconfig", kubeconfig, "--mtls", "--api-port", self.port),
            *("--api-host", ADDRESSES[number - 1], "--http-port", find_free_port(), "--limit-http-port", 2),
            *flags,
        )
        if is_ready:
            command.wait_until(lambda: self.ask("/api/status/readiness", number, is_tls=False).status == 200, "it")
        return command

    def ask(self, path, number=1, *, token="", is_tls=True, credentials=None, method="GET"):
        context = None
        if is_tls:
            context = ssl.create_default_context(cadata=encode(self.load_signer().certificate))
            if credentials is not None:
                file = self.folder / "client.pem"
                file.write_text(f"{credentials.key}\n{credentials.chain}")
                context.load_cert_chain(file)
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        return send(ADDRESSES[number - 1], self.port, path, context, fields, method=method)

    def load_signer(self):
        data = self.server.find("secrets", "maesh-ca", NAMESPACE)["data"]
        files = {name: base64.b64decode(text) for name, text in data.items()}
        return read_authority(Stored(files=files, rotation="", version="1"), datetime.now(UTC))

    def issue(self, account=ACCOUNT, *, audiences=("maesh-api",), pod="proxy-node-a"):
        return self.server.issue_token(NAMESPACE, account, audiences=list(audiences), pod=pod)

    def run(self, run_maesh, *arguments, token="token-of-ann"):
        kubeconfig = self.server.write_kubeconfig(self.folder / "user", token=token)
        return run_maesh(*arguments, "--kubeconfig", kubeconfig)


@pytest.fixture
def replicas(start_maesh, tmp_path):
    with ApiServer() as server:
        yield Replicas(start_maesh, tmp_path, server)


def test_tokens_of_pods_are_those_of_their_nodes(replicas):
    replicas.start()
    token = replicas.issue()
    assert replicas.ask(f"{PULL}?node=node-a", token=token).status == 200
    assert replicas.ask(f"{PULL}?node=node-b", token=token).status == 403
    assert replicas.ask("/api/services", token=token).status == 403
    for other in (
        replicas.issue(audiences=["maesh-ca"]),
        replicas.issue(audiences=["another"]),
        "eyJhbGciOiJub25lIn0.eyJhdWQiOiJtYWVzaC1hcGkifQ.eA",
    ):
        assert replicas.ask(f"{PULL}?node=node-a", token=other).status == 401
    stranger = replicas.server.issue_token(NAMESPACE, "maesh-stranger", audiences=["maesh-api"])
    assert replicas.ask(f"{PULL}?node=node-a", token=stranger).status == 403
    own = replicas.issue(audiences=[])
    assert replicas.ask(f"{PULL}?node=node-a", token=own).status == 403, "one for the API server proves no node"


def test_people_read_what_their_account_may_read(replicas):
    replicas.start()
    assert replicas.ask("/api/services", token="token-of-ann").status == 200
    assert replicas.ask("/metrics", token="token-of-ann").status == 200
    assert replicas.ask(f"{PULL}?node=node-a", token="token-of-ann").status == 403
    replicas.server.add_token("token-of-bob", user="bob")
    replicas.server.set_rules("bob", [])
    answer = replicas.ask("/api/services", token="token-of-bob")
    assert (answer.status, "a ClusterRole with nonResourceURLs allows it" in answer.text) == (403, True)


def test_only_people_whose_account_may_post_change_the_authority(replicas):
    replicas.start()
    replicas.server.add_token("token-of-eve", user="eve")
    replicas.server.set_rules("eve", [{"nonResourceURLs": [f"/maesh{ROTATION_PATH}"], "verbs": ["post"]}])
    assert replicas.ask(ROTATION_PATH, token="token-of-ann").status == 403
    assert replicas.ask(ROTATION_PATH, token="token-of-ann", method="POST").status == 403
    assert replicas.ask(ROTATION_PATH, token="token-of-eve").status == 403
    answer = replicas.ask(ROTATION_PATH, token="token-of-eve", method="POST")
    assert (answer.status, answer.text.startswith("the body is wrong")) == (400, True), "the page has got the request"


def test_without_the_api_server_tokens_are_refused_and_certificates_are_not(replicas):
    replicas.start()
    credentials = make_credentials(replicas.load_signer(), "node-a")
    signer = replicas.load_signer()
    replicas.load_signer = lambda: signer
    replicas.server.stop_listening()
    assert replicas.ask("/api/services", token="token-of-ann").status == 503
    assert replicas.ask(f"{PULL}?node=node-a", credentials=credentials).status == 200
    replicas.server.resume()


def test_replicas_ask_each_other_with_their_certificates(replicas):
    replicas.start(1)
    replicas.start(2)
    credentials = make_credentials(replicas.load_signer(), "node-a")
    assert replicas.ask(f"{PULL}?node=node-a&admin=1", 2, credentials=credentials).status == 200
    report = replicas.ask("/api/traffic", 1, token="token-of-ann").json
    assert report["missing"] == []
    assert [each["name"] for each in report["nodes"]] == ["node-a"], "the other replica has told of this proxy"


def test_commands_reach_protected_replicas_by_themselves(replicas, run_maesh):
    command, _ = replicas.start(1), replicas.start(2)
    command.wait_until(lambda: replicas.server.find("configmaps", "maesh-trust", NAMESPACE), "the bundle")
    shown = replicas.run(run_maesh, "status", "--json")
    status = json.loads(shown.stdout)
    assert [each.get("error") for each in status["controllers"]] == [None, None]
    top = replicas.run(run_maesh, "top", "--json")
    assert json.loads(top.stdout)["services"] == []
    explained = replicas.run(run_maesh, "explain", "proxy-node-a.maesh", "cart.test")
    assert "the mesh knows no service cart in namespace test" in explained.stderr
    assert b"token-of-ann" not in replicas.server.forwarded


def test_a_replica_without_an_authority_answers_only_probes(replicas):
    without = [rule for rule in PERMISSIONS if rule != CREATING]
    assert len(without) == len(PERMISSIONS) - 1
    replicas.server.set_rules("controllers", [*without, REVIEWS])
    command = replicas.start(is_ready=False)
    command.wait_until(lambda: replicas.ask("/api/status/liveness", is_tls=False).status == 200, "the API")
    assert replicas.ask("/api/status/readiness", is_tls=False).status == 503
    assert replicas.ask(PULL, is_tls=False).status == 426
    signer = make_signer()
    replicas.load_signer = lambda: signer
    assert replicas.ask(PULL).status == 0
    apply_secret(replicas.server, signer)
    command.wait_until(lambda: replicas.ask("/api/status/readiness", is_tls=False).status == 200, "readiness")
    assert replicas.ask(f"{PULL}?node=node-a", credentials=make_credentials(signer, "node-a")).status == 200
