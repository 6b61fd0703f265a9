"""With NodeLocal DNSCache, names of the mesh reach the cluster's DNS, or somebody hears what is missing."""

import json

import pytest

from maesh_core.controller.dns.node_cache_patching import NodeCachePlanner
from maesh_core.controller.dns.objects import ObjectStore
from maesh_core.controller.dns.patching import ClusterDns
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access
from maesh_core.errors import KubernetesError

NAMESPACE = "kube-system"
COREFILE = """cluster.local:53 {
    errors
    bind 169.254.20.10
    forward . __PILLAR__CLUSTER__DNS__ {
        force_tcp
    }
}
.:53 {
    bind 169.254.20.10
    forward . __PILLAR__UPSTREAM__SERVERS__
}
"""
ELSEWHERE = COREFILE.replace("__PILLAR__CLUSTER__DNS__", "/etc/resolv.conf")
ENTRY = """maesh:53 traefik.mesh:53 {
    errors
    cache 30
    bind 169.254.20.10
    forward . __PILLAR__CLUSTER__DNS__
}"""


def build_workload(kind, name, container, volumes):
    labels = {"k8s-app": name}
    mounts = [{"name": f"v{place}", "mountPath": folder} for place, folder in enumerate(volumes)]
    maps = [{"name": f"v{place}", "configMap": each} for place, each in enumerate(volumes.values())]
    pod = {"containers": [{"name": "dns", **container, "volumeMounts": mounts}], "volumes": maps}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }


def build_cache(name="node-local-dns", *, stubs="kube-dns", is_optional=True, corefile="node-local-dns"):
    volumes = {"/etc/coredns": {"name": corefile, "items": [{"key": "Corefile", "path": "Corefile.base"}]}}
    if stubs:
        volumes["/etc/kube-dns"] = {"name": stubs, "optional": is_optional}
    container = {"image": "dns/k8s-dns-node-cache:1.26.4", "args": ["-upstreamsvc", "kube-dns-upstream"]}
    return build_workload("DaemonSet", name, container, volumes)


def build_map(name, data, namespace=NAMESPACE):
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def build_service(name, namespace=NAMESPACE):
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 53}]}}


class Cluster:
    """A cluster whose CoreDNS has a node cache before it."""

    def __init__(self, server, client):
        self.server = server
        self.client = client

    async def prepare(self):
        """Prepare DNS; return the warnings."""
        dns = ClusterDns(self.client, mesh_namespace="maesh")
        plan = await dns.plan()
        await dns.apply(plan)
        return plan.warnings

    async def clean_up(self):
        dns = ClusterDns(self.client, mesh_namespace="maesh")
        plan = await dns.plan_removal()
        await dns.apply(plan)
        return plan.warnings

    def get_stubs(self, name="kube-dns"):
        found = self.server.find("configmaps", name, NAMESPACE)
        return None if found is None else json.loads(found["data"]["stubDomains"])

    def list_maps(self):
        return {
            each["metadata"]["name"]: (each.get("data"), each["metadata"].get("annotations"))
            for each in self.server.list("configmaps", NAMESPACE)
        }

    @property
    def address(self):
        return self.server.get("services", "kube-dns-upstream", NAMESPACE)["spec"]["clusterIP"]


@pytest.fixture
async def cluster(api_server, tmp_path):
    coredns = build_workload(
        "Deployment", "coredns", {"image": "coredns:1.11.3"}, {"/etc/coredns": {"name": "coredns"}}
    )
    api_server.apply(
        [
            coredns,
            build_map("coredns", {"Corefile": ".:53 {\n    errors\n}\n"}),
            build_cache(),
            build_map("node-local-dns", {"Corefile": COREFILE}),
            build_service("kube-dns-upstream"),
        ]
    )
    client = KubernetesClient(find_access(str(api_server.write_kubeconfig(tmp_path / "kubeconfig")), "", {}))
    yield Cluster(api_server, client)
    await client.close()


@pytest.mark.parametrize(
    "data",
    [
        None,
        {"stubDomains": ""},
        {"stubDomains": "{}"},
        {"stubDomains": '{"acme.local": ["1.2.3.4"]}'},
        {"upstreamNameservers": "[]"},
    ],
)
async def test_stub_domains_are_written_where_it_reads_them_and_come_back_byte_for_byte(cluster, data):
    if data is not None:
        cluster.server.apply(build_map("kube-dns", data))
    before = cluster.list_maps()
    assert await cluster.prepare() == ()
    expected = {"maesh": [cluster.address], "traefik.mesh": [cluster.address]}
    assert cluster.get_stubs() == expected | json.loads((data or {}).get("stubDomains") or "{}")
    written = cluster.list_maps()
    assert await cluster.prepare() == ()
    assert cluster.list_maps() == written
    assert await cluster.clean_up() == ()
    assert cluster.list_maps() == before


async def test_removed_stub_domains_are_restored_by_the_next_plan(cluster):
    await cluster.prepare()
    cluster.server.apply(build_map("kube-dns", {"stubDomains": '{"a": ["1.2.3.4"]}'}))
    await cluster.prepare()
    assert set(cluster.get_stubs()) == {"a", "maesh", "traefik.mesh"}


async def test_they_go_too_when_the_cache_itself_has_gone(cluster):
    before = cluster.list_maps()
    await cluster.prepare()
    cluster.server.delete("daemonsets", "node-local-dns", NAMESPACE)
    await cluster.clean_up()
    assert cluster.list_maps() == before


async def test_addresses_that_its_corefile_names_are_used(cluster):
    text = COREFILE.replace("__PILLAR__CLUSTER__DNS__", "10.96.0.10 10.96.0.11")
    cluster.server.apply(build_map("node-local-dns", {"Corefile": text}))
    assert await cluster.prepare() == ()
    assert cluster.get_stubs()["maesh"] == ["10.96.0.10", "10.96.0.11"]


async def test_several_caches_are_each_looked_at(cluster):
    cluster.server.apply([build_cache("cache-2"), build_cache("cache-3", stubs="stubs")])
    await cluster.prepare()
    assert cluster.get_stubs("stubs") == cluster.get_stubs()
    await cluster.clean_up()
    assert set(cluster.list_maps()) == {"coredns", "node-local-dns"}


async def test_a_cache_that_sends_all_names_to_the_clusters_dns_needs_nothing(cluster):
    text = COREFILE.replace("__PILLAR__UPSTREAM__SERVERS__", "__PILLAR__CLUSTER__DNS__")
    cluster.server.apply(build_map("node-local-dns", {"Corefile": text}))
    assert await cluster.prepare() == ()
    assert cluster.get_stubs() is None


async def test_a_zone_that_its_corefile_serves_is_no_stub_domain_too(cluster):
    await cluster.prepare()
    cluster.server.apply(build_map("node-local-dns", {"Corefile": f"{COREFILE}maesh:53 {{\n}}\n"}))
    await cluster.prepare()
    assert set(cluster.get_stubs()) == {"traefik.mesh"}, "CoreDNS does not start with two servers of a zone"
    cluster.server.apply(build_map("node-local-dns", {"Corefile": f"{COREFILE}{ENTRY}\n"}))
    await cluster.prepare()
    assert cluster.get_stubs() is None


async def test_a_cache_that_reads_no_stub_domains_is_warned_of_with_the_entry_that_it_lacks(cluster):
    cluster.server.apply(build_cache(stubs=None))
    before = cluster.list_maps()
    (warning,) = await cluster.prepare()
    first, _, entry = warning.partition("\n")
    assert first == (
        "DaemonSet kube-system/node-local-dns (NodeLocal DNSCache) reads no stub domains and does not forward maesh, "
        "traefik.mesh to the cluster's DNS. Add to ConfigMap kube-system/node-local-dns, Corefile:"
    )
    assert entry == ENTRY
    assert cluster.list_maps()["node-local-dns"] == before["node-local-dns"]
    cluster.server.apply(build_map("node-local-dns", {"Corefile": f"{COREFILE}{entry}\n"}))
    assert await cluster.prepare() == ()


async def test_a_cache_without_a_template_reads_no_stub_domains_though_it_mounts_them(cluster):
    cache = build_cache()
    pod = cache["spec"]["template"]["spec"]
    del pod["volumes"][0]["configMap"]["items"]
    pod["containers"][0]["args"] += ["-conf", "/etc/coredns/Corefile"]
    cluster.server.apply(cache)
    (warning,) = await cluster.prepare()
    assert warning.endswith(ENTRY)
    cluster.server.apply(build_map("node-local-dns", {"Corefile.base": COREFILE}))
    assert await cluster.prepare() == ()
    assert set(cluster.get_stubs()) == {"maesh", "traefik.mesh"}


@pytest.mark.parametrize(
    ("objects", "text"),
    [
        ([build_map("node-local-dns", {"Corefile": "cluster.local {"})], "node-local-dns, Corefile: line 1: a brace"),
        ([build_map("node-local-dns", {"other": ""})], "its Corefile is in no ConfigMap that it mounts"),
        ([build_cache(corefile="nowhere")], "its Corefile is in no ConfigMap that it mounts"),
        ([build_cache(is_optional=False)], "lacks its ConfigMap kube-dns and does not forward"),
        ([build_map("kube-dns", {"stubDomains": "no json"})], "stubDomains is not a JSON object"),
        (
            [build_map("node-local-dns", {"Corefile": ELSEWHERE})],
            "has no address of the cluster's DNS and does not forward",
        ),
    ],
)
async def test_what_is_not_understood_is_a_warning_and_the_clusters_dns_is_prepared(cluster, objects, text):
    cluster.server.apply(objects)
    (warning,) = await cluster.prepare()
    assert warning.startswith("DaemonSet kube-system/node-local-dns (NodeLocal DNSCache)")
    assert text in warning
    assert "Begin Maesh" in cluster.server.get("configmaps", "coredns", NAMESPACE)["data"]["Corefile"]
    await cluster.clean_up()


async def test_a_service_upstream_that_is_missing_is_a_warning(cluster):
    cluster.server.delete("services", "kube-dns-upstream", NAMESPACE)
    (warning,) = await cluster.prepare()
    assert warning.endswith(ENTRY)


RULES = [
    {"apiGroups": ["", "apps"], "resources": ["configmaps", "deployments", "services"], "verbs": ["*"]},
]


async def test_without_the_right_to_look_it_says_so_and_the_clusters_dns_is_prepared(cluster):
    cluster.server.set_rules("admin", RULES)
    (warning,) = await cluster.prepare()
    assert warning.startswith("it cannot be seen whether NodeLocal DNSCache runs: GET /apis/apps/v1/")
    assert await cluster.clean_up() == ()
    named = {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["coredns"], "verbs": ["*"]}
    sets = {"apiGroups": ["apps"], "resources": ["deployments", "daemonsets"], "verbs": ["*"]}
    services = {"apiGroups": [""], "resources": ["services"], "verbs": ["*"]}
    cluster.server.set_rules("admin", [named, sets, services])
    (warning,) = await cluster.prepare()
    assert warning.startswith("DaemonSet kube-system/node-local-dns (NodeLocal DNSCache) cannot be looked at: GET ")
    assert await cluster.clean_up() == ()


async def test_an_api_server_that_fails_is_no_warning(cluster):
    planner = NodeCachePlanner(ObjectStore(cluster.client, patience_s=0), "cluster.local")
    cluster.server.stop()
    for plan in (planner.plan, planner.plan_removal):
        with pytest.raises(KubernetesError):
            await plan()


async def test_beside_kube_dns_both_ask_the_meshs_own_coredns(cluster):
    cluster.server.delete("deployments", "coredns", NAMESPACE)
    kube_dns = build_workload(
        "Deployment", "kube-dns", {"image": "kube-dns:1"}, {"/kube-dns-config": {"name": "kube-dns"}}
    )
    own = build_workload("Deployment", "coredns", {"image": "coredns:1.11.3"}, {"/etc/coredns": {"name": "coredns"}})
    own["metadata"]["namespace"] = "maesh"
    cluster.server.apply(
        [
            kube_dns,
            build_map("kube-dns", {"stubDomains": ""}),
            own,
            build_map("coredns", {"Corefile": ".:53 {\n}\n"}, "maesh"),
            build_service("coredns", "maesh"),
            build_cache("second", stubs="others"),
        ]
    )
    before = cluster.list_maps()
    address = cluster.server.get("services", "coredns", "maesh")["spec"]["clusterIP"]
    assert await cluster.prepare() == ()
    for name in ("kube-dns", "others"):
        assert cluster.get_stubs(name) == {"maesh": [address], "traefik.mesh": [address]}
    cluster.server.apply(build_cache("third", stubs=None))
    (warning,) = await cluster.prepare()
    assert f"forward . {address}\n" in warning
    await cluster.clean_up()
    assert cluster.list_maps() == before
