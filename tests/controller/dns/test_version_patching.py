"""Blocks of older versions of the mesh are replaced, and blocks suit the version of CoreDNS."""

import pytest

from maesh_core.controller.dns.corefile import insert_blocks
from maesh_core.controller.dns.edits import RESTART, RESTARTED_AT
from maesh_core.errors import ClusterDnsError

from .dns_cluster import build_deployment, build_map


@pytest.mark.parametrize("version", ["1.2", "1.3", "1.4"])
async def test_blocks_and_label_of_an_older_version_are_replaced(kubeadm, read_corefile, blocks, version):
    text = read_corefile(f"patched/kubeadm-by-{version}")
    kubeadm.server.apply(build_map("coredns", {"Corefile": text}, labels={"maesh-patched": "true", "a": "b"}))
    await kubeadm.prepare()
    assert kubeadm.get_corefile() == insert_blocks(read_corefile("corefiles/kubeadm"), blocks)
    assert kubeadm.get_map()["metadata"]["labels"] == {"a": "b"}
    assert kubeadm.reported[0] == "ConfigMap kube-system/coredns: block for maesh, traefik.mesh replaced"


async def test_changes_of_an_older_version_are_restored(kubeadm, read_corefile):
    text = read_corefile("patched/kubeadm-by-1.2")
    kubeadm.server.apply(build_map("coredns", {"Corefile": text}, labels={"maesh-patched": "true"}))
    await kubeadm.clean_up()
    assert kubeadm.get_corefile() == read_corefile("corefiles/kubeadm")
    assert "labels" not in kubeadm.get_map()["metadata"]
    assert kubeadm.get_annotations() == {RESTARTED_AT: "2020-01-02T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("image", "has_upstream", "warnings"),
    [
        ("coredns:1.3.0", True, 0),
        ("coredns:v1.6.9-x", True, 0),
        ("coredns:1.7.0", False, 0),
        ("coredns:latest", False, 1),
    ],
)
async def test_the_block_suits_the_version_of_coredns(kubeadm, image, has_upstream, warnings):
    kubeadm.server.apply(build_deployment("coredns", image, ["coredns"]))
    plan = await kubeadm.make_dns().plan()
    assert len(plan.warnings) == warnings
    assert ("+          upstream\n" in plan.render_diff()) == has_upstream


async def test_an_old_coredns_is_refused_but_can_be_restored(kubeadm, read_corefile):
    await kubeadm.prepare()
    kubeadm.server.apply(build_deployment("coredns", "coredns:1.2.6", ["coredns"]))
    with pytest.raises(ClusterDnsError, match=r"CoreDNS 1.2 is too old"):
        await kubeadm.prepare()
    await kubeadm.clean_up()
    assert kubeadm.get_corefile() == read_corefile("corefiles/kubeadm")


async def test_an_upgrade_of_coredns_removes_an_obsolete_option(kubeadm):
    kubeadm.server.apply(build_deployment("coredns", "coredns:1.6.9", ["coredns"]))
    await kubeadm.prepare()
    first = kubeadm.get_annotations()[RESTART]
    assert "upstream" in kubeadm.get_corefile()
    kubeadm.server.apply(build_deployment("coredns", "coredns:1.7.0", ["coredns"]))
    await kubeadm.prepare()
    assert "upstream" not in kubeadm.get_corefile()
    assert kubeadm.get_annotations()[RESTART] not in ("", first)
