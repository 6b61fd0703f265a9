import dns.rcode
import pytest

from maesh_core.controller.cluster_check import catalogue
from maesh_core.controller.cluster_check.dns import (
    DnsServers,
    Shadow,
    check_answers,
    check_configuration,
    find_servers,
)
from maesh_core.controller.cluster_check.objects import Reader
from maesh_core.controller.cluster_check.outcomes import SectionBuilder
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access
from maesh_testing.dns_server import TcpDnsServer

COREFILE = ".:53 {\n    kubernetes cluster.local\n    forward . /etc/resolv.conf\n}\n"
SHADOW = Shadow("web", "shop", "10.0.0.7")
LABELS = {"k8s-app": "kube-dns"}


def build_objects():
    spec = {
        "containers": [{"name": "coredns", "image": "coredns:v1.11.1"}],
        "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
    }
    metadata = {"name": "coredns", "namespace": "kube-system"}
    template = {"metadata": {"labels": LABELS}, "spec": spec}
    pod = {"name": "coredns-1", "namespace": "kube-system", "labels": LABELS}
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"Corefile": COREFILE}},
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"selector": {"matchLabels": LABELS}, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": pod,
            "spec": {"nodeName": "n1", "containers": [{"name": "coredns", "image": "coredns"}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        },
    ]


@pytest.fixture
async def reader(api_server, tmp_path):
    api_server.apply(build_objects())
    client = KubernetesClient(find_access(str(api_server.write_kubeconfig(tmp_path / "config")), ""))
    yield Reader(client)
    await client.close()


@pytest.fixture
def section():
    return SectionBuilder(catalogue.DNS, catalogue.CATALOGUE[catalogue.DNS])


def read(section):
    (found,) = section.build().checks
    return found.result, found.details


async def ask(api_server, reader, section, resolve, *shadows):
    servers = await find_servers(reader)
    with TcpDnsServer(resolve) as server:
        api_server.connect_pod("kube-system", "coredns-1", 53, ("127.0.0.1", server.port))
        await check_answers(section, reader, servers, shadows or (SHADOW,))
    return read(section)


async def test_the_deployment_its_config_map_and_its_pods_are_found(reader):
    servers = await find_servers(reader)
    assert [pod.name for pod in servers.pods] == ["coredns-1"]
    assert (servers.names.deployments, servers.names.config_maps) == (("coredns",), ("coredns",))


async def test_a_cluster_without_dns_says_so(api_server, reader, section):
    api_server.delete("deployments", "coredns", "kube-system")
    servers = await find_servers(reader)
    assert servers.problem == "namespace kube-system has neither CoreDNS nor kube-dns"
    await check_answers(section, reader, servers, [SHADOW])
    assert read(section) == ("skipped", (servers.problem,))


async def test_dns_is_configured_when_prepare_would_change_nothing(api_server, reader, section, run_maesh, tmp_path):
    await check_configuration(section, reader, mesh_namespace="maesh", cluster_domain="cluster.local")
    result, details = read(section)
    assert result == "error"
    assert details[0].startswith("ConfigMap kube-system/coredns must be changed")
    assert run_maesh("prepare", "--kubeconfig", tmp_path / "config").status == 0
    await check_configuration(section, reader, mesh_namespace="maesh", cluster_domain="cluster.local")
    assert read(section) == ("success", ())


async def test_both_zones_are_asked_for(api_server, reader, section):
    asked = []

    def resolve(host, kind):
        asked.append((host, kind))
        return [SHADOW.address]

    assert await ask(api_server, reader, section, resolve) == ("success", ("asked for web.shop.maesh",))
    assert asked == [("web.shop.maesh", "A"), ("web.shop.traefik.mesh", "A")]


async def test_a_service_with_an_ipv6_address_is_asked_for_by_that_type(api_server, reader, section):
    shadow = Shadow("web", "shop", "fd00::7")
    result, _ = await ask(
        api_server, reader, section, lambda _, kind: ["fd00::7"] if kind == "AAAA" else ["10.0.0.1"], shadow
    )
    assert result == "success"


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (["10.0.0.9"], "the answer is 10.0.0.9, but the shadow service has 10.0.0.7"),
        ([], "the answer has no address"),
        (dns.rcode.NXDOMAIN, "the answer is NXDOMAIN"),
    ],
)
async def test_a_wrong_answer_is_named(answer, text, api_server, reader, section):
    result, details = await ask(api_server, reader, section, lambda *_: answer)
    assert result == "error"
    assert details[0] == f"coredns-1: web.shop.maesh: {text}"


async def test_a_dns_pod_that_does_not_answer_is_named(reader, section):
    await check_answers(section, reader, await find_servers(reader), [SHADOW])
    result, details = read(section)
    assert result == "error"
    assert details[0].startswith("coredns-1: web.shop.maesh: no answer: port-forward: ")


async def test_who_may_not_forward_ports_gets_a_warning(api_server, reader, section):
    servers = await find_servers(reader)
    api_server.set_rules(api_server.token, [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}])
    await check_answers(section, reader, servers, [SHADOW])
    assert read(section)[0] == "warning"


@pytest.mark.parametrize(
    ("servers", "shadows", "reason"),
    [
        (DnsServers(), [SHADOW], "the cluster's DNS has no ready pod"),
        (DnsServers(problem="403"), [SHADOW], "403"),
    ],
)
async def test_without_a_pod_the_check_is_skipped(servers, shadows, reason, section):
    await check_answers(section, None, servers, shadows)
    assert read(section) == ("skipped", (reason,))


async def test_without_a_service_there_is_nothing_to_ask_for(reader, section):
    await check_answers(section, reader, await find_servers(reader), [])
    assert read(section) == ("skipped", ("the mesh has no service to ask for",))
