"""CoreDNS is patched, restarted and restored, in clusters of several distributions."""

import pytest

from maesh_core.controller.dns.corefile import ZONES, find_spans, insert_blocks, read_exact_rules
from maesh_core.controller.dns.corefile_parsing import parse_corefile
from maesh_core.controller.dns.edits import RESTART
from maesh_core.errors import ClusterDnsError, KubernetesError
from maesh_testing.api_server import FaultKind

from .dns_cluster import EXACT, build_deployment, build_map


async def test_a_cluster_is_prepared_from_prepare_until_cleanup(kubeadm):
    assert not await kubeadm.make_dns().is_prepared()
    await kubeadm.prepare()
    assert await kubeadm.make_dns().is_prepared()
    kubeadm.server.patch("configmaps", "coredns", {"data": {"Corefile": ".:53 {\n}\n"}}, "kube-system")
    assert await kubeadm.make_dns().is_prepared(), "an operator has put the Corefile back"
    await kubeadm.clean_up()
    assert not await kubeadm.make_dns().is_prepared()


@pytest.mark.parametrize("keeps_comments", [True, False])
async def test_a_cluster_stays_prepared_when_kubeadm_rewrites_its_deployment(keeps_comments, kubeadm):
    await kubeadm.prepare()
    annotations = {"spec": {"template": {"metadata": {"annotations": None}}}}
    kubeadm.server.patch("deployments", "coredns", annotations, "kube-system")
    if not keeps_comments:
        lines = [line for line in kubeadm.get_corefile().splitlines() if not line.startswith("#")]
        data = {"data": {"Corefile": "\n".join(lines)}}
        kubeadm.server.patch("configmaps", "coredns", data, "kube-system")
    assert await kubeadm.make_dns().is_prepared()
    await kubeadm.prepare()
    assert [span.is_ours for span in find_spans(kubeadm.get_corefile())] == [True, True]
    assert RESTART in kubeadm.get_annotations()
    assert not await kubeadm.prepare()


async def test_a_cluster_with_blocks_in_custom_servers_stays_prepared_too(kubeadm):
    kubeadm.server.apply(
        [build_deployment("coredns", "coredns:1.11.3", ["coredns", "coredns-custom"]), build_map("coredns-custom")]
    )
    text = kubeadm.get_corefile() + "import custom/*.server\n"
    kubeadm.server.patch("configmaps", "coredns", {"data": {"Corefile": text}}, "kube-system")
    await kubeadm.prepare()
    assert "Begin Maesh" not in kubeadm.get_corefile()
    annotations = {"spec": {"template": {"metadata": {"annotations": None}}}}
    kubeadm.server.patch("deployments", "coredns", annotations, "kube-system")
    assert await kubeadm.make_dns().is_prepared()


@pytest.mark.parametrize("text", ["patched/kubeadm-by-1.2", "patched/kubeadm-by-1.3", "patched/kubeadm-by-1.4"])
async def test_a_cluster_with_only_the_blocks_of_an_older_version_is_not_prepared(text, kubeadm, read_corefile):
    data = {"data": {"Corefile": read_corefile(text)}}
    kubeadm.server.patch("configmaps", "coredns", data, "kube-system")
    assert not await kubeadm.make_dns().is_prepared()


async def test_a_cluster_with_an_unreadable_corefile_is_not_prepared(kubeadm):
    kubeadm.server.patch("configmaps", "coredns", {"data": {"Corefile": ".:53 {\n"}}, "kube-system")
    assert not await kubeadm.make_dns().is_prepared()
    kubeadm.server.set_rules("admin", [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}])
    assert not await kubeadm.make_dns().is_prepared()
    kubeadm.server.set_rules("admin", [])
    with pytest.raises(KubernetesError, match="403"):
        await kubeadm.make_dns().is_prepared()


async def test_patching_writes_blocks_and_restarts_pods_and_cleanup_restores_all(kubeadm, blocks, read_corefile):
    before = kubeadm.strip()
    assert await kubeadm.prepare()
    assert kubeadm.get_corefile() == insert_blocks(read_corefile("corefiles/kubeadm"), blocks)
    assert RESTART in kubeadm.get_annotations()
    assert kubeadm.reported == [
        "ConfigMap kube-system/coredns: block for maesh, traefik.mesh added",
        "Deployment kube-system/coredns: restarted",
    ]
    assert await kubeadm.clean_up()
    assert kubeadm.strip() == before
    assert kubeadm.reported[2:] == [
        "ConfigMap kube-system/coredns: block for maesh, traefik.mesh removed",
        "Deployment kube-system/coredns: restarted",
    ]


async def test_a_second_run_writes_nothing(kubeadm):
    await kubeadm.prepare()
    writes = kubeadm.list_writes()
    assert not await kubeadm.prepare()
    assert kubeadm.list_writes() == writes
    await kubeadm.clean_up()
    writes = kubeadm.list_writes()
    assert not await kubeadm.clean_up()
    assert kubeadm.list_writes() == writes


async def test_a_plan_shows_every_change_and_writes_nothing(kubeadm):
    plan = await kubeadm.make_dns().plan()
    assert kubeadm.list_writes() == []
    assert "+  #### Begin Maesh Block\n" in plan.render_diff()
    assert f"+spec.template.metadata.annotations.{RESTART}: " in plan.render_diff()


@pytest.mark.parametrize(
    ("name", "deployment", "map_name"),
    [
        ("eks", build_deployment("coredns", "eks/coredns:v1.8.7-eksbuild.1", ["coredns"]), "coredns"),
        (
            "rke2",
            build_deployment("rke2-coredns-rke2-coredns", "hardened-coredns:v1.10.1", ["rke2-coredns-rke2-coredns"]),
            "rke2-coredns-rke2-coredns",
        ),
        (
            "k3s",
            build_deployment("coredns", "mirrored-coredns:1.10.1", ["coredns", "coredns-custom"], optional=True),
            "coredns",
        ),
        (
            "minikube",
            build_deployment("dns", "coredns:1.9", ["other", "coredns"], labels={"kubernetes.io/name": "CoreDNS"}),
            "coredns",
        ),
    ],
)
async def test_each_distribution_is_patched_in_the_map_that_it_reads(
    cluster, read_corefile, name, deployment, map_name
):
    cluster.server.apply([deployment, build_map(map_name, {"Corefile": read_corefile(f"corefiles/{name}")})])
    before = cluster.strip()
    await cluster.prepare()
    assert [span.zone for span in find_spans(cluster.get_corefile(map_name))] == list(ZONES)
    await cluster.clean_up()
    assert cluster.strip() == before


async def test_the_block_has_no_port_if_the_root_zone_has_none(kubeadm):
    kubeadm.server.apply(build_map("coredns", {"Corefile": ". {\n    errors\n}\n"}))
    await kubeadm.prepare()
    assert [block.keys for block in parse_corefile(kubeadm.get_corefile()).blocks[1:]] == [
        ("maesh",),
        ("traefik.mesh",),
    ]


async def test_a_rewritten_corefile_is_patched_again_with_a_restart(kubeadm, read_corefile):
    await kubeadm.prepare()
    first = kubeadm.get_annotations()[RESTART]
    kubeadm.server.apply(build_map("coredns", {"Corefile": read_corefile("corefiles/kubeadm")}))
    assert await kubeadm.prepare()
    assert kubeadm.get_annotations()[RESTART] == f"{first}-2"
    assert not await kubeadm.prepare()


async def test_a_run_that_ended_before_the_restart_is_finished_by_another(kubeadm):
    kubeadm.server.add_fault(FaultKind.STATUS, verb="update", resource="deployments", status=403, reason="Forbidden")
    with pytest.raises(Exception, match="403"):
        await kubeadm.prepare()
    assert RESTART not in kubeadm.get_annotations()
    assert await kubeadm.prepare()
    assert kubeadm.reported[-1] == "Deployment kube-system/coredns: restarted"


async def test_exact_rules_are_added_and_removed_without_a_restart(kubeadm):
    await kubeadm.prepare()
    assert await kubeadm.prepare(EXACT)
    assert read_exact_rules(kubeadm.get_corefile()) == EXACT
    assert not await kubeadm.prepare(EXACT)
    assert not await kubeadm.prepare(None)
    assert await kubeadm.prepare({})
    assert read_exact_rules(kubeadm.get_corefile()) == {}
    assert kubeadm.reported[2:] == ["ConfigMap kube-system/coredns: block for maesh, traefik.mesh replaced"] * 2


async def test_a_concurrent_foreign_change_is_kept(kubeadm):
    dns = kubeadm.make_dns()
    plan = await dns.plan()
    theirs = kubeadm.get_corefile() + "example.org {\n}\n"
    kubeadm.server.patch("configmaps", "coredns", {"data": {"Corefile": theirs}}, "kube-system")
    kubeadm.server.patch("deployments", "coredns", {"spec": {"replicas": 7}}, "kube-system")
    assert await dns.apply(plan)
    assert kubeadm.get_corefile().startswith(theirs)
    assert kubeadm.server.get("deployments", "coredns", "kube-system")["spec"]["replicas"] == 7


async def test_two_concurrent_runs_restart_the_pods_once(kubeadm):
    one, other = kubeadm.make_dns(), kubeadm.make_dns()
    plans = [await one.plan(), await other.plan()]
    assert [await one.apply(plans[0]), await other.apply(plans[1])] == [True, False]


@pytest.mark.parametrize(
    ("corefile", "error"),
    [
        (".:53 {\n", r"^ConfigMap kube-system/coredns, Corefile: line 1: a brace is never closed$"),
        ("maesh {\n}\n", r"^ConfigMap kube-system/coredns, Corefile: another server"),
        ("#### Begin Maesh Block\n", r"^ConfigMap kube-system/coredns, Corefile: the mark "),
    ],
)
async def test_what_is_not_understood_is_refused(kubeadm, corefile, error):
    kubeadm.server.apply(build_map("coredns", {"Corefile": corefile}))
    with pytest.raises(ClusterDnsError, match=error):
        await kubeadm.prepare()
    assert kubeadm.list_writes() == []


async def test_a_removal_that_is_refused_deletes_nothing(kubeadm):
    kubeadm.server.apply([build_shadow("one"), build_map("coredns", {"Corefile": "#### Begin Maesh Block\n"})])
    with pytest.raises(ClusterDnsError, match="the mark"):
        await kubeadm.clean_up()
    assert kubeadm.list_writes() == []


async def test_a_cluster_without_dns_is_refused_but_can_be_cleaned(cluster):
    with pytest.raises(ClusterDnsError, match="namespace kube-system has neither CoreDNS nor kube-dns"):
        await cluster.prepare()
    plan = await cluster.make_dns().plan_removal()
    assert (plan.changes, len(plan.warnings)) == ((), 1)


async def test_a_coredns_without_corefile_is_refused_but_can_be_cleaned(kubeadm):
    kubeadm.server.delete("configmaps", "coredns", "kube-system")
    with pytest.raises(ClusterDnsError, match="mounts no ConfigMap that has a Corefile"):
        await kubeadm.prepare()
    assert len((await kubeadm.make_dns().plan_removal()).warnings) == 1


def build_shadow(name, labels=None):
    labels = {"app": "maesh", "type": "shadow"} if labels is None else labels
    metadata = {"name": name, "namespace": "maesh", "labels": labels}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [{"port": 80}]}}


async def test_cleanup_deletes_shadow_services_and_no_others(kubeadm):
    kubeadm.server.apply([build_shadow("one"), build_shadow("two"), build_shadow("other", {"app": "maesh"})])
    await kubeadm.clean_up()
    assert [each["metadata"]["name"] for each in kubeadm.server.list("services", "maesh")] == ["other"]
    assert kubeadm.reported == ["Service maesh/one: deleted", "Service maesh/two: deleted"]


async def test_the_names_of_the_mesh_are_checked(kubeadm):
    with pytest.raises(ClusterDnsError, match="not the domain of a cluster"):
        await kubeadm.prepare(cluster_domain="a b")
    await kubeadm.prepare(cluster_domain="Corp.Example.")
    assert "kubernetes corp.example in-addr.arpa" in kubeadm.get_corefile()
