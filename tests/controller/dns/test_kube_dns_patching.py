"""Stub domains of kube-dns lead to the mesh's own CoreDNS."""

import json

import pytest

from maesh_core.controller.dns.corefile import find_spans
from maesh_core.controller.dns.edits import RESTART
from maesh_core.controller.dns.patching import ADDRESS_TRIES
from maesh_core.errors import ClusterDnsError

from .dns_cluster import build_deployment, build_map


@pytest.fixture
def with_kube_dns(cluster):
    """A cluster with kube-dns, and the mesh's CoreDNS beside it."""
    cluster.server.apply(
        [
            build_deployment("kube-dns", "k8s-dns:1.14", ["kube-dns"], container="kubedns", optional=True),
            build_deployment("coredns", "coredns/coredns:1.6.3", ["coredns"], namespace="maesh"),
            build_map("coredns", {"Corefile": ".:53 {\n}\n"}, namespace="maesh"),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "coredns", "namespace": "maesh"},
                "spec": {"ports": [{"port": 53, "protocol": "UDP"}]},
            },
        ]
    )
    return cluster


async def test_kube_dns_forwards_to_the_coredns_of_the_mesh(with_kube_dns):
    before = with_kube_dns.strip()
    address = with_kube_dns.server.get("services", "coredns", "maesh")["spec"]["clusterIP"]
    await with_kube_dns.prepare()
    stubs = json.loads(with_kube_dns.get_map("kube-dns")["data"]["stubDomains"])
    assert stubs == {"maesh": [address], "traefik.mesh": [address]}
    assert len(find_spans(with_kube_dns.get_corefile(namespace="maesh"))) == 2
    assert RESTART in with_kube_dns.get_annotations("kube-dns")
    assert RESTART in with_kube_dns.get_annotations("coredns", "maesh")
    assert not await with_kube_dns.prepare()
    await with_kube_dns.clean_up()
    assert with_kube_dns.strip() == before


@pytest.mark.parametrize(
    "data",
    [
        None,
        {"stubDomains": ""},
        {"stubDomains": "\n"},
        {"stubDomains": "{}"},
        {"stubDomains": "{ }\n"},
        {"stubDomains": '{ "acme": ["10.1.1.1"] }', "x": "y"},
    ],
)
async def test_stub_domains_are_restored(with_kube_dns, data):
    with_kube_dns.server.apply(build_map("kube-dns", data))
    before = with_kube_dns.strip()
    await with_kube_dns.prepare()
    await with_kube_dns.clean_up()
    assert with_kube_dns.strip() == before


async def test_stub_domains_that_are_not_json_are_refused(with_kube_dns):
    with_kube_dns.server.apply(build_map("kube-dns", {"stubDomains": "acme: 10.1.1.1"}))
    for run in (with_kube_dns.prepare, with_kube_dns.clean_up):
        with pytest.raises(ClusterDnsError, match=r"^ConfigMap kube-system/kube-dns, stubDomains: "):
            await run()
    assert with_kube_dns.list_writes() == []


async def test_a_required_config_map_is_not_created(with_kube_dns):
    with_kube_dns.server.apply(build_deployment("kube-dns", "k8s-dns:1.14", ["kube-dns"], container="kubedns"))
    with pytest.raises(ClusterDnsError, match="there is no ConfigMap kube-system/kube-dns"):
        await with_kube_dns.prepare()


async def test_patching_waits_for_the_address_of_the_coredns(with_kube_dns):
    service = with_kube_dns.server.get("services", "coredns", "maesh")
    with_kube_dns.server.delete("services", "coredns", "maesh")
    dns = with_kube_dns.make_dns()

    async def pause(seconds):
        with_kube_dns.pauses.append(seconds)
        if len(with_kube_dns.pauses) == 2:
            with_kube_dns.server.apply(service)

    dns._pause = pause
    await dns.plan()
    assert with_kube_dns.pauses == [10.0, 10.0]


async def test_waiting_for_the_address_has_a_limit(with_kube_dns):
    with_kube_dns.server.delete("services", "coredns", "maesh")
    with pytest.raises(ClusterDnsError, match="Service maesh/coredns has no address after 110 s"):
        await with_kube_dns.prepare()
    assert len(with_kube_dns.pauses) == ADDRESS_TRIES - 1
    assert with_kube_dns.list_writes() == []


async def test_a_cluster_with_kube_dns_needs_the_coredns_of_the_mesh(with_kube_dns):
    with_kube_dns.server.delete("deployments", "coredns", "maesh")
    with pytest.raises(ClusterDnsError, match="there is no Deployment maesh/coredns"):
        await with_kube_dns.prepare()
