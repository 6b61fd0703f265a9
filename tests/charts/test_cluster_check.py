"""`maesh check --cluster` with a release of the chart: real commands, the rights of the chart, and DNS that answers."""

import contextlib
import json
from pathlib import Path

import pytest

from maesh_core.controller.cluster_check.installation import parse_flags
from maesh_core.controller.cluster_check.permissions import DnsNames
from maesh_core.controller.cluster_check.plugin_kinds import choose_plugins, load_kinds
from maesh_core.controller.cluster_check.running import list_needed
from maesh_core.model.shadow_names import NAME_ANNOTATION, NAMESPACE_ANNOTATION
from maesh_core.plugin_system.metadata import list_installed
from maesh_testing.commands import wait_until
from maesh_testing.dns_server import TcpDnsServer
from maesh_testing.ports import find_free_port

CRDS = Path(__file__).resolve().parents[2] / "charts" / "maesh" / "crds"
COREFILE = ".:53 {\n    errors\n    kubernetes cluster.local in-addr.arpa ip6.arpa\n    forward . /etc/resolv.conf\n}\n"
VALUES = {"mtls": {"enabled": False}, "acl": True}
CONTROLLER = ("Deployment", "maesh-controller")
DNS_NAMES = ("coredns", "coredns-custom", "kube-dns", "rke2-coredns-rke2-coredns")
ACCOUNT = "system:serviceaccount:maesh:maesh-controller"


def build_pod(name, namespace, labels, *, account, arguments=(), node="node-1"):
    container = {"name": "main", "image": "maesh:2.0.0", "args": list(arguments)}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"serviceAccountName": account, "nodeName": node, "containers": [container]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def build_dns():
    selector = {"k8s-app": "kube-dns"}
    spec = {
        "containers": [{"name": "coredns", "image": "coredns:v1.11.1"}],
        "volumes": [{"name": "config-volume", "configMap": {"name": "coredns"}}],
    }
    metadata = {"name": "coredns", "namespace": "kube-system", "labels": selector}
    template = {"metadata": {"labels": selector}, "spec": spec}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"Corefile": COREFILE}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": selector}, "template": template},
        },
        build_pod("coredns-1", "kube-system", selector, account="coredns"),
    ]


class Release:
    """A release of the chart with one controller and one proxy, whose pods are in the API server."""

    def __init__(self, server, objects, permissions, folder):
        self.server, self._objects, self._folder = server, objects, folder
        self.grants = [
            {**rule, "namespace": namespace} if namespace else rule
            for namespace, rule in permissions(objects).list_grants("maesh/maesh-controller")
        ]
        server.set_rules(ACCOUNT, self.grants)
        self.admin = server.write_kubeconfig(folder / "admin")
        self.dns = TcpDnsServer(self._resolve)
        for name in ("maesh", "shop"):
            server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        server.add_crds(CRDS)
        server.apply(build_dns())
        server.connect_pod("kube-system", "coredns-1", 53, ("127.0.0.1", self.dns.port))

    def _resolve(self, host, kind):
        """Answer as CoreDNS with the blocks of the mesh: with the address of the shadow service."""
        assert kind == "A"
        for each in self.server.list("services", "maesh"):
            found = each["metadata"].get("annotations", {})
            name = f"{found.get(NAME_ANNOTATION)}.{found.get(NAMESPACE_ANNOTATION)}"
            if host in (f"{name}.maesh", f"{name}.traefik.mesh"):
                return [each["spec"]["clusterIP"]]
        return []

    def start(self, start_maesh, run_maesh):
        prepared = run_maesh("prepare", "--kubeconfig", self.admin)
        assert prepared.status == 0, prepared.stderr
        token = self.server.issue_token("maesh", "maesh-controller")
        kubeconfig = self.server.write_kubeconfig(self._folder / "controller", token=token)
        arguments = find_arguments(self._objects)
        api_port = find_free_port()
        self.controller = start_maesh(
            *(*arguments, "--kubeconfig", kubeconfig, "--api-port", api_port, "--api-host", "127.0.0.1"),
            *("--http-port", find_free_port(), "--limit-http-port", 1),
            env={"POD_NAME": "maesh-controller-1"},
        )
        self.server.connect_pod("maesh", "maesh-controller-1", 9000, ("127.0.0.1", api_port))
        labels = {"app": "maesh", "release": "maesh"}
        self.server.apply(
            [
                build_pod(
                    *("maesh-controller-1", "maesh", {**labels, "component": "controller"}),
                    account="maesh-controller",
                    arguments=arguments,
                ),
                build_pod("maesh-mesh-1", "maesh", {**labels, "component": "maesh-mesh"}, account="maesh-mesh"),
            ]
        )
        endpoint = f"http://127.0.0.1:{api_port}"
        start_maesh(
            *("proxy", "--endpoint", endpoint, "--bind", "127.0.0.1", "--node", "node-1", "--acl"),
            *("--admin-host", "127.0.0.1", "--admin-port", find_free_port()),
        )

    def serve(self, upstream):
        metadata = {"name": "web", "namespace": "shop"}
        self.server.apply(
            [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": metadata,
                    "spec": {"ports": [{"name": "http", "port": 80}]},
                },
                {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "web"}},
                    "addressType": "IPv4",
                    "ports": [{"name": "http", "port": upstream.port, "protocol": "TCP"}],
                    "endpoints": [{"addresses": [upstream.address], "conditions": {"ready": True}}],
                },
            ]
        )


@pytest.fixture
def release(api_server, render, permissions, tmp_path):
    found = Release(api_server, render(VALUES), permissions, tmp_path)
    with found.dns:
        yield found


@pytest.fixture
def check(run_maesh, release):
    """Run the command; return its status and the checks by id."""

    def run(*arguments):
        result = run_maesh("check", "--cluster", "--json", "--kubeconfig", release.admin, *arguments)
        return result.status, read_checks(result)

    return run


def read_checks(result):
    """Read the checks by id from what the command prints."""
    assert result.status in (0, 3), result.stderr
    sections = json.loads(result.stdout)["sections"]
    return {each["id"]: each for section in sections for each in section["checks"]}


@pytest.mark.integration
def test_a_release_that_is_well_has_no_complaint_and_each_fault_has_its_line(
    release, check, start_maesh, start_upstream, run_maesh
):
    release.start(start_maesh, run_maesh)
    release.serve(start_upstream("web"))
    status, found = check("--wait", "2m")
    assert {name: each for name, each in found.items() if each["result"] not in ("success", "skipped")} == {}
    assert status == 0
    assert found["dns-answers"]["details"] == ["asked for web.shop.maesh"]
    assert found["shadow-services"]["details"] == ["1 shadow service"]

    # A Role without a rule, a CoreDNS that has not loaded its configuration, and a proxy that has gone.
    release.server.set_rules(
        ACCOUNT, [rule for rule in release.grants if "trafficsplits" not in rule.get("resources", ())]
    )
    release.server.connect_pod("kube-system", "coredns-1", 53, ("127.0.0.1", 1))
    release.server.patch(
        *("pods", "maesh-mesh-1", {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, "maesh")
    )
    status, found = check()
    assert status == 3
    assert found["controller-permissions"]["details"][0] == (
        "maesh-controller may not get trafficsplits.split.smi-spec.io in all namespaces"
    )
    assert "no answer" in found["dns-answers"]["details"][0]
    assert found["proxy-pods"]["details"] == ["maesh-mesh-1 on node-1: its phase is Running"]
    assert found["proxy-pods"]["docs"] == "docs/check-cluster.md#proxy-pods"


@pytest.mark.parametrize(
    "values",
    [{}, VALUES, {"kubedns": True}, {"plugins": {"smi": False, "gateway": False}}],
    ids=["defaults", "access-control", "kube-dns", "no-routes"],
)
def test_the_permissions_that_are_checked_are_those_of_the_chart(values, render, permissions):
    granted = permissions(render(values))
    wanted = list_wanted(find_arguments(render(values)), is_kube_dns="kubedns" in values)
    assert [str(each) for each in wanted if not granted.allows("maesh/maesh-controller", **to_call(each))] == []
    covered = {(each.verb, each.group, to_whole(each), each.namespace, each.name) for each in wanted}
    assert [
        name
        for namespace, rule in granted.list_grants("maesh/maesh-controller")
        for name in list_combinations(namespace, rule)
        if name not in covered and not is_alternative(name)
    ] == []


def find_arguments(objects):
    (found,) = [each for each in objects if (each["kind"], each["metadata"]["name"]) == CONTROLLER]
    return found["spec"]["template"]["spec"]["containers"][0]["args"]


def list_wanted(arguments, *, is_kube_dns):
    """List what the command checks for a controller with these arguments, in a cluster with all kinds."""
    flags = parse_flags(arguments)
    installed = list_installed()
    kinds = load_kinds(installed, choose_plugins(installed, flags), flags)
    served = {kind.label: kind.api_versions[0] for kind in (*kinds.core, *kinds.added)}
    name = "kube-dns" if is_kube_dns else "coredns"
    return list_needed("maesh", kinds, served, DnsNames(deployments=(name,), config_maps=(name,)), flags)


def to_whole(permission):
    return f"{permission.resource}/{permission.subresource}" if permission.subresource else permission.resource


def to_call(permission):
    return {name: getattr(permission, name) for name in permission.__struct_fields__}


def list_combinations(namespace, rule):
    for group in rule["apiGroups"]:
        for resource in rule["resources"]:
            for verb in rule["verbs"]:
                for name in rule.get("resourceNames") or [""]:
                    yield verb, group, resource, namespace, name


def is_alternative(combination):
    """Whether it is about DNS of other distributions, or about a Secret that others may make."""
    verb, _, resource, namespace, name = combination
    is_other_dns = namespace == "kube-system" and name in DNS_NAMES
    return is_other_dns or (verb, resource) == ("create", "secrets")


@pytest.mark.integration
def test_with_encryption_the_protected_api_is_asked_and_certificates_are_checked(
    small_cluster, api_server, render, permissions, start_maesh, start_upstream, run_maesh, tmp_path
):
    with contextlib.closing(small_cluster(api_server, render, permissions, start_maesh, tmp_path)) as cluster:
        cluster.serve(start_upstream("web", "127.0.41.201"))
        values = {"mtls": {"enabled": True, "port": cluster.tunnel_port}}
        cluster.upgrade(values)
        arguments = find_arguments(render(values))
        for each in cluster.controllers:
            labels = {"app": "maesh", "component": "controller"}
            pod = build_pod(each.name, "maesh", labels, account="maesh-controller", arguments=arguments)
            api_server.apply(pod)
            api_server.connect_pod("maesh", each.name, 9000, ("127.0.0.1", each.port))
        viewer = permissions(render(values)).list_grants("maesh/maesh-viewer")
        api_server.set_rules("system:serviceaccount:maesh:maesh-viewer", [rule for _, rule in viewer])
        metadata = {"name": "maesh-viewer", "namespace": "maesh"}
        api_server.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        kubeconfig = api_server.write_kubeconfig(tmp_path / "admin")

        def check():
            found = read_checks(run_maesh("check", "--cluster", "--json", "--kubeconfig", kubeconfig))
            return found if found["proxy-certificates"]["details"] == ["2 proxies"] else None

        found = wait_until(check, "certificates of both proxies")
        assert found["controllers-answer"]["result"] == "success", found["controllers-answer"]
        assert found["authority-valid"]["result"] == "success", found["authority-valid"]
        assert found["proxies-accept"]["result"] == "success", found["proxies-accept"]
        assert found["dns-configured"]["result"] == "error", "this cluster has no DNS"
