"""`maesh prepare` and `maesh cleanup` as a user types them, against an API server."""

import json
import signal

import pytest

from maesh_testing.api_server import FaultKind

pytestmark = pytest.mark.integration

COREFILE = ".:53 {\n    errors\n    kubernetes cluster.local\n    reload\n}\n"
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "coredns", "namespace": "kube-system"},
    "spec": {
        "selector": {"matchLabels": {"k8s-app": "kube-dns"}},
        "template": {
            "metadata": {"labels": {"k8s-app": "kube-dns"}},
            "spec": {
                "containers": [{"name": "coredns", "image": "coredns/coredns:1.11.3"}],
                "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
            },
        },
    },
}
SHADOW = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "maesh-a", "namespace": "mesh", "labels": {"app": "maesh", "type": "shadow"}},
    "spec": {"ports": [{"port": 80}]},
}
PERMISSIONS = [
    {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "update", "delete"]},
    {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "delete"]},
    {"apiGroups": ["apps"], "resources": ["deployments", "daemonsets"], "verbs": ["get", "list", "update"]},
]


def build_map(text):
    metadata = {"name": "coredns", "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"Corefile": text}}


@pytest.fixture
def cluster(api_server):
    api_server.apply([DEPLOYMENT, build_map(COREFILE), SHADOW])
    api_server.set_rules("admin", PERMISSIONS)
    return api_server


@pytest.fixture
def start(cluster, start_maesh, tmp_path):
    path = cluster.write_kubeconfig(tmp_path / "kubeconfig")
    return lambda *arguments: start_maesh(*arguments, "--kubeconfig", path, "--namespace", "mesh")


@pytest.fixture
def run(start):
    """Run a command to its end; gives status, standard output and standard error."""

    def run_to_end(*arguments):
        command = start(*arguments)
        command.wait(60)
        return command.status, command.stdout, command.stderr

    return run_to_end


def get_corefile(cluster):
    return cluster.get("configmaps", "coredns", "kube-system")["data"]["Corefile"]


def list_writes(cluster):
    return [call for call in cluster.calls if call.verb not in ("get", "list")]


def test_dns_is_patched_once_and_put_back(cluster, run):
    block, pods = (
        "ConfigMap kube-system/coredns: block for maesh, traefik.mesh",
        "Deployment kube-system/coredns: restarted",
    )
    assert run("prepare") == (0, f"{block} added\n{pods}\n", "")
    assert "mesh-{1}-6d61657368-{2}.mesh.svc.cluster.local" in get_corefile(cluster)
    assert run("prepare") == (0, "nothing to do\n", "")
    assert run("cleanup") == (0, f"{block} removed\n{pods}\nService mesh/maesh-a: deleted\n", "")
    assert get_corefile(cluster) == COREFILE
    assert cluster.list("services", "mesh") == []
    assert run("cleanup") == (0, "nothing to do\n", "")


def test_flags_of_1_2_and_of_plugins_are_taken(cluster, run):
    status, _, error = run("prepare", "--clusterDomain", "corp.example", "--acl", "--smi", "--logLevel=debug")
    assert (status, "error" in error) == (0, False)
    assert "kubernetes corp.example in-addr.arpa" in get_corefile(cluster)


@pytest.mark.parametrize("command", ["prepare", "cleanup"])
def test_a_dry_run_shows_all_and_writes_nothing(cluster, run, command):
    if command == "cleanup":
        assert run("prepare")[0] == 0
    before = list_writes(cluster)
    status, out, error = run(command, "--dry-run")
    assert (status, error, list_writes(cluster)) == (0, "", before)
    sign = "+" if command == "prepare" else "-"
    assert "--- ConfigMap kube-system/coredns\n+++ ConfigMap kube-system/coredns\n" in out
    assert f"\n{sign}  #### Begin Maesh Block\n" in out
    assert f"\n{sign}spec.template.metadata.annotations.maesh-hash: " in out


def test_a_dry_run_with_nothing_to_do_says_so(run):
    run("prepare")
    assert run("prepare", "--dry-run") == (0, "nothing to do\n", "")


def test_what_is_refused_is_one_line(cluster, run):
    cluster.apply(build_map(".:53 {\n"))
    text = "maesh: error: ConfigMap kube-system/coredns, Corefile: line 1: a brace is never closed\n"
    assert run("prepare") == (1, "", text)
    assert run("cleanup") == (1, "", text)
    assert list_writes(cluster) == []


def test_an_unknown_version_is_a_warning(cluster, run):
    containers = [{"name": "coredns", "image": "coredns/coredns"}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    cluster.patch("deployments", "coredns", patch, "kube-system")
    status, _, error = run("prepare")
    assert status == 0
    assert error.startswith(
        "maesh: warning: Deployment kube-system/coredns does not say which version of CoreDNS it is"
    )


@pytest.mark.parametrize("command", ["prepare", "cleanup"])
def test_without_a_cluster_it_says_what_to_give(run_maesh, command):
    ended = run_maesh(command)
    assert (ended.status, ended.stdout) == (1, "")
    assert ended.stderr == "maesh: error: no cluster found: set --kubeconfig FILE or --master-url URL\n"


@pytest.mark.parametrize("command", ["prepare", "cleanup"])
@pytest.mark.parametrize("content", [None, "", "[]", "clusters: 1", "{"])
def test_a_kubeconfig_that_is_none_is_refused_before_the_first_request(run_maesh, tmp_path, command, content):
    path = tmp_path / "kubeconfig"
    path.mkdir() if content is None else path.write_text(content)
    ended = run_maesh(command, "--kubeconfig", path)
    assert (ended.status, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert ended.stderr.startswith(f"maesh: error: kubeconfig {path} cannot be used: ")


def test_a_login_that_cannot_be_had_is_tried_once_and_not_taken_for_a_server_that_is_away(run_maesh, tmp_path):
    tries = tmp_path / "tries"
    script = f"echo tried >> {tries}; exit 1"
    plugin = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", script]}
    document = {
        "current-context": "a",
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {"exec": plugin}}],
    }
    (tmp_path / "kubeconfig").write_text(json.dumps(document))
    ended = run_maesh("prepare", "--kubeconfig", tmp_path / "kubeconfig")
    assert (ended.status, ended.stdout) == (1, "")
    assert "cannot be used: the credential plugin sh ended with status 1" in ended.stderr.splitlines()[-1]
    assert tries.read_text() == "tried\n"


def test_who_may_not_is_told_in_one_line(cluster, run):
    cluster.set_rules("admin", [])
    status, out, error = run("prepare")
    assert (status, out, error.count("\n")) == (1, "", 1)
    assert error.startswith("maesh: error: GET /apis/apps/v1/namespaces/kube-system/deployments: 403 ")


def test_a_server_that_is_away_for_a_moment_is_waited_for(cluster, run):
    cluster.add_fault(FaultKind.STATUS, status=503, count=2)
    cluster.add_fault(FaultKind.CLOSE_AFTER, verb="update")
    assert run("prepare")[0] == 0
    assert "maesh:53" in get_corefile(cluster)


def test_ctrl_c_ends_it_with_one_line(cluster, start):
    fault = cluster.add_fault(FaultKind.HANG, verb="update")
    command = start("prepare")
    command.wait_until(lambda: fault.hits, "the write is under way")
    command.stop(signal.SIGINT)
    assert (command.status, command.stdout) == (1, "")
    assert command.stderr == "maesh: error: stopped before everything was done; run the command again to finish\n"
