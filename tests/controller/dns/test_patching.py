"""DNS is patched and put back in clusters of every kind, against an API server."""

import json
from datetime import UTC, datetime

import pytest

from maesh_core.controller.dns.corefile import ZONES, find_spans, insert_blocks, read_exact_rules
from maesh_core.controller.dns.corefile_parsing import parse_corefile
from maesh_core.controller.dns.edits import ADDED, RESTART, RESTARTED_AT
from maesh_core.controller.dns.patching import ADDRESS_TRIES, ClusterDns
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access
from maesh_core.errors import ClusterDnsError, KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_testing.api_server import FaultKind

FOLDERS = {"coredns-custom": "/etc/coredns/custom/", "kube-dns": "/kube-dns-config"}
EXACT = {ObjectKey("shop", "a" * 60): "maesh-cut-0123", ObjectKey("lab", "b" * 60): "maesh-cut-4567"}


def build_deployment(name, image, maps, *, namespace="kube-system", container="coredns", labels=None, optional=False):
    volumes = [{"name": f"v-{each}", "configMap": {"name": each, "optional": optional}} for each in maps]
    mounts = [{"name": f"v-{each}", "mountPath": FOLDERS.get(each, "/etc/coredns")} for each in maps]
    template = {
        "metadata": {"labels": {"k8s-app": name}},
        "spec": {"containers": [{"name": container, "image": image, "volumeMounts": mounts}], "volumes": volumes},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {"selector": {"matchLabels": {"k8s-app": name}}, "template": template},
    }


def build_map(name, data=None, *, namespace="kube-system", labels=None):
    metadata = {"name": name, "namespace": namespace} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata} | ({"data": data} if data else {})


class Cluster:
    """An API server with shortcuts, and a mesh's view of its DNS; time passes in pauses alone."""

    def __init__(self, server, client):
        self.server = server
        self.client = client
        self.pauses = []
        self.reported = []

    def make_dns(self, **options):
        async def pause(seconds):
            self.pauses.append(seconds)

        return ClusterDns(
            self.client,
            mesh_namespace="maesh",
            pause=pause,
            now=lambda: datetime(2020, 1, 2, tzinfo=UTC),
            clock=lambda: sum(self.pauses),
            **options,
        )

    async def prepare(self, exact=None, **options):
        dns = self.make_dns(**options)
        return await dns.apply(await dns.plan(exact), report=self.reported.append)

    async def clean_up(self):
        dns = self.make_dns()
        return await dns.apply(await dns.plan_removal(), report=self.reported.append)

    def get_map(self, name="coredns", namespace="kube-system"):
        return self.server.find("configmaps", name, namespace)

    def get_corefile(self, name="coredns", namespace="kube-system"):
        return self.get_map(name, namespace)["data"]["Corefile"]

    def get_annotations(self, name="coredns", namespace="kube-system"):
        template = self.server.get("deployments", name, namespace)["spec"]["template"]
        return template["metadata"].get("annotations", {})

    def list_writes(self):
        return [call for call in self.server.calls if call.verb not in ("get", "list", "watch")]

    def strip(self):
        """Everything in kube-system and the mesh's namespace, without what a server counts."""
        found = {}
        for plural in ("configmaps", "deployments", "services"):
            for each in self.server.list(plural):
                metadata = {
                    k: v for k, v in each["metadata"].items() if k in ("labels", "annotations", "name", "namespace")
                }
                found[plural, metadata["namespace"], metadata["name"]] = {
                    **{key: value for key, value in each.items() if key not in ("metadata", "status")},
                    "metadata": metadata,
                }
        return found


@pytest.fixture
async def cluster(api_server, tmp_path):
    credentials = find_access(str(api_server.write_kubeconfig(tmp_path / "kubeconfig")), "", {})
    client = KubernetesClient(credentials)
    yield Cluster(api_server, client)
    await client.close()


@pytest.fixture
def kubeadm(cluster, read_corefile):
    """A cluster of kubeadm's kind."""
    cluster.server.apply(build_deployment("coredns", "registry.k8s.io/coredns/coredns:v1.11.3", ["coredns"]))
    cluster.server.apply(build_map("coredns", {"Corefile": read_corefile("corefiles/kubeadm")}))
    return cluster


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
async def test_blocks_of_an_older_mesh_alone_do_not_make_a_cluster_prepared(text, kubeadm, read_corefile):
    data = {"data": {"Corefile": read_corefile(text)}}
    kubeadm.server.patch("configmaps", "coredns", data, "kube-system")
    assert not await kubeadm.make_dns().is_prepared()


async def test_what_is_not_understood_or_not_readable_was_not_prepared(kubeadm):
    kubeadm.server.patch("configmaps", "coredns", {"data": {"Corefile": ".:53 {\n"}}, "kube-system")
    assert not await kubeadm.make_dns().is_prepared()
    kubeadm.server.set_rules("admin", [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}])
    assert not await kubeadm.make_dns().is_prepared()
    kubeadm.server.set_rules("admin", [])
    with pytest.raises(KubernetesError, match="403"):
        await kubeadm.make_dns().is_prepared()


async def test_blocks_are_written_pods_restarted_and_all_restored(kubeadm, blocks, read_corefile):
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


async def test_a_plan_alone_writes_nothing_and_shows_all(kubeadm):
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
async def test_every_distribution_is_patched_where_it_reads(cluster, read_corefile, name, deployment, map_name):
    cluster.server.apply([deployment, build_map(map_name, {"Corefile": read_corefile(f"corefiles/{name}")})])
    before = cluster.strip()
    await cluster.prepare()
    assert [span.zone for span in find_spans(cluster.get_corefile(map_name))] == list(ZONES)
    await cluster.clean_up()
    assert cluster.strip() == before


@pytest.fixture
def aks(cluster, read_corefile):
    """A cluster of AKS's kind, whose map for others is empty."""
    cluster.server.apply(
        [
            build_deployment("coredns", "coredns:v1.9.4-hotfix.1", ["coredns", "coredns-custom"]),
            build_map("coredns", {"Corefile": read_corefile("corefiles/aks")}),
            build_map("coredns-custom"),
        ]
    )
    return cluster


async def test_the_map_for_others_is_used_where_it_is_mounted(aks, read_corefile, blocks):
    before = aks.strip()
    await aks.prepare()
    assert aks.get_corefile() == read_corefile("corefiles/aks")
    expected = {f"{zone}.server": f"{block}\n" for zone, block in blocks.items()}
    assert aks.get_map("coredns-custom")["data"] == expected
    assert aks.get_map("coredns-custom")["metadata"]["annotations"] == {ADDED: "maesh.server,traefik.mesh.server"}
    assert not await aks.prepare()
    await aks.clean_up()
    assert aks.strip() == before


async def test_blocks_move_to_the_map_for_others(aks, read_corefile, blocks):
    patched = insert_blocks(read_corefile("corefiles/aks"), blocks)
    aks.server.apply(build_map("coredns", {"Corefile": patched}))
    await aks.prepare()
    assert aks.get_corefile() == read_corefile("corefiles/aks")
    assert set(aks.get_map("coredns-custom")["data"]) == {"maesh.server", "traefik.mesh.server"}
    assert aks.reported[0] == "ConfigMap kube-system/coredns: block for maesh, traefik.mesh removed"


async def test_keys_that_1_4_made_in_the_map_for_others_go(aks, read_corefile):
    old = read_corefile("patched/kubeadm-by-1.4").removeprefix(read_corefile("corefiles/kubeadm"))
    first, _, second = old.partition("\n\n#### Begin Traefik")
    data = {"maesh.server": f"{first}\n", "traefik.mesh.server": f"\n#### Begin Traefik{second}", "x.override": "log"}
    aks.server.apply(build_map("coredns-custom", data))
    await aks.clean_up()
    assert aks.get_map("coredns-custom")["data"] == {"x.override": "log"}


async def test_somebody_elses_server_in_the_map_for_others_is_refused(aks):
    aks.server.apply(build_map("coredns-custom", {"mine.server": "maesh:53 {\n}\n"}))
    with pytest.raises(ClusterDnsError, match=r"^ConfigMap kube-system/coredns-custom, mine.server: another server"):
        await aks.prepare()
    assert aks.list_writes() == []


async def test_the_map_for_others_counts_only_if_it_is_mounted(kubeadm):
    kubeadm.server.apply(build_map("coredns-custom", {"x.server": "maesh {\n}\n"}))
    await kubeadm.prepare()
    assert len(find_spans(kubeadm.get_corefile())) == 2


@pytest.mark.parametrize(
    ("lines", "is_read"),
    [
        ("import custom/*.server", True),
        ("import /etc/coredns/custom/*.server", True),
        ("import ./custom/*", True),
        ("import custom/maesh.server\nimport custom/traefik.mesh.server", True),
        ("import custom/[a-z]*.server", True),
        ("import custom/[^a-z]*.server", False),
        ("import custom/*.override", False),
        ("import custom/maesh.server", False),
        ("import other/*.server", False),
        ("import *.server", False),
        ("import /custom/*.server", False),
        ("example.org {\n    import custom/*.server\n}", False),
        ("# import custom/*.server", False),
        ("", False),
    ],
)
async def test_the_map_for_others_counts_only_if_the_corefile_imports_it(aks, lines, is_read):
    aks.server.apply(build_map("coredns", {"Corefile": f".:53 {{\n    errors\n}}\n{lines}\n"}))
    before = aks.strip()
    await aks.prepare()
    assert ("Begin Maesh" in aks.get_corefile()) is not is_read
    assert ("maesh.server" in aks.get_map("coredns-custom").get("data", {})) is is_read
    assert not await aks.prepare()
    await aks.clean_up()
    assert aks.strip() == before


async def test_imports_are_relative_to_the_folder_of_the_corefile_that_is_named(aks):
    deployment = build_deployment("coredns", "coredns:v1.9.4", ["coredns", "coredns-custom"])
    deployment["spec"]["template"]["spec"]["containers"][0]["args"] = ["-conf", "/srv/dns/Corefile"]
    aks.server.apply(deployment)
    await aks.prepare()
    assert "Begin Maesh" in aks.get_corefile()


async def test_a_map_for_others_of_which_single_files_are_mounted_is_not_used(aks):
    deployment = aks.server.get("deployments", "coredns", "kube-system")
    custom = deployment["spec"]["template"]["spec"]["volumes"][1]["configMap"]
    custom["items"] = [{"key": "mine.server", "path": "mine.server"}]
    aks.server.apply(deployment)
    await aks.prepare()
    assert "Begin Maesh" in aks.get_corefile()


async def test_blocks_leave_a_map_for_others_that_is_imported_no_more(aks, read_corefile):
    aks.server.apply(build_map("coredns-custom", {"x.other": "maesh {\n}\n"}))
    await aks.prepare(EXACT)
    assert "maesh.server" in aks.get_map("coredns-custom")["data"]
    text = read_corefile("corefiles/aks").replace("import custom/*.server", "")
    aks.server.apply(build_map("coredns", {"Corefile": text}))
    await aks.prepare()
    assert read_exact_rules(aks.get_corefile()) == EXACT
    assert aks.get_map("coredns-custom")["data"] == {"x.other": "maesh {\n}\n"}


async def test_the_block_names_no_port_where_the_root_zone_names_none(kubeadm):
    kubeadm.server.apply(build_map("coredns", {"Corefile": ". {\n    errors\n}\n"}))
    await kubeadm.prepare()
    assert [block.keys for block in parse_corefile(kubeadm.get_corefile()).blocks[1:]] == [
        ("maesh",),
        ("traefik.mesh",),
    ]


@pytest.mark.parametrize("version", ["1.2", "1.3", "1.4"])
async def test_what_an_older_version_wrote_is_replaced_with_its_label(kubeadm, read_corefile, blocks, version):
    text = read_corefile(f"patched/kubeadm-by-{version}")
    kubeadm.server.apply(build_map("coredns", {"Corefile": text}, labels={"maesh-patched": "true", "a": "b"}))
    await kubeadm.prepare()
    assert kubeadm.get_corefile() == insert_blocks(read_corefile("corefiles/kubeadm"), blocks)
    assert kubeadm.get_map()["metadata"]["labels"] == {"a": "b"}
    assert kubeadm.reported[0] == "ConfigMap kube-system/coredns: block for maesh, traefik.mesh replaced"


async def test_what_an_older_version_wrote_is_restored(kubeadm, read_corefile):
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
async def test_the_block_is_what_the_version_needs(kubeadm, image, has_upstream, warnings):
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


async def test_an_upgrade_of_coredns_takes_a_word_out(kubeadm):
    kubeadm.server.apply(build_deployment("coredns", "coredns:1.6.9", ["coredns"]))
    await kubeadm.prepare()
    first = kubeadm.get_annotations()[RESTART]
    assert "upstream" in kubeadm.get_corefile()
    kubeadm.server.apply(build_deployment("coredns", "coredns:1.7.0", ["coredns"]))
    await kubeadm.prepare()
    assert "upstream" not in kubeadm.get_corefile()
    assert kubeadm.get_annotations()[RESTART] not in ("", first)


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


async def test_exact_rules_come_and_go_without_a_restart(kubeadm):
    await kubeadm.prepare()
    assert await kubeadm.prepare(EXACT)
    assert read_exact_rules(kubeadm.get_corefile()) == EXACT
    assert not await kubeadm.prepare(EXACT)
    assert not await kubeadm.prepare(None)
    assert await kubeadm.prepare({})
    assert read_exact_rules(kubeadm.get_corefile()) == {}
    assert kubeadm.reported[2:] == ["ConfigMap kube-system/coredns: block for maesh, traefik.mesh replaced"] * 2


async def test_exact_rules_move_with_the_blocks(aks, builder, read_corefile):
    blocks = {zone: builder.build(zone, exact=EXACT) for zone in ZONES}
    aks.server.apply(build_map("coredns", {"Corefile": insert_blocks(read_corefile("corefiles/aks"), blocks)}))
    await aks.prepare()
    assert read_exact_rules(aks.get_map("coredns-custom")["data"]["maesh.server"]) == EXACT


async def test_somebody_elses_change_in_between_is_kept(kubeadm):
    dns = kubeadm.make_dns()
    plan = await dns.plan()
    theirs = kubeadm.get_corefile() + "example.org {\n}\n"
    kubeadm.server.patch("configmaps", "coredns", {"data": {"Corefile": theirs}}, "kube-system")
    kubeadm.server.patch("deployments", "coredns", {"spec": {"replicas": 7}}, "kube-system")
    assert await dns.apply(plan)
    assert kubeadm.get_corefile().startswith(theirs)
    assert kubeadm.server.get("deployments", "coredns", "kube-system")["spec"]["replicas"] == 7


async def test_two_at_a_time_restart_once(kubeadm):
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


async def test_shadow_services_are_deleted_and_no_others(kubeadm):
    kubeadm.server.apply([build_shadow("one"), build_shadow("two"), build_shadow("other", {"app": "maesh"})])
    await kubeadm.clean_up()
    assert [each["metadata"]["name"] for each in kubeadm.server.list("services", "maesh")] == ["other"]
    assert kubeadm.reported == ["Service maesh/one: deleted", "Service maesh/two: deleted"]


async def test_kube_dns_asks_the_meshs_own_coredns(with_kube_dns):
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
async def test_stub_domains_come_back_as_they_were(with_kube_dns, data):
    with_kube_dns.server.apply(build_map("kube-dns", data))
    before = with_kube_dns.strip()
    await with_kube_dns.prepare()
    await with_kube_dns.clean_up()
    assert with_kube_dns.strip() == before


async def test_stub_domains_that_are_no_json_are_refused(with_kube_dns):
    with_kube_dns.server.apply(build_map("kube-dns", {"stubDomains": "acme: 10.1.1.1"}))
    for run in (with_kube_dns.prepare, with_kube_dns.clean_up):
        with pytest.raises(ClusterDnsError, match=r"^ConfigMap kube-system/kube-dns, stubDomains: "):
            await run()
    assert with_kube_dns.list_writes() == []


async def test_a_config_map_that_is_not_optional_is_not_made(with_kube_dns):
    with_kube_dns.server.apply(build_deployment("kube-dns", "k8s-dns:1.14", ["kube-dns"], container="kubedns"))
    with pytest.raises(ClusterDnsError, match="there is no ConfigMap kube-system/kube-dns"):
        await with_kube_dns.prepare()


async def test_the_address_is_waited_for(with_kube_dns):
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


async def test_the_address_is_not_waited_for_without_end(with_kube_dns):
    with_kube_dns.server.delete("services", "coredns", "maesh")
    with pytest.raises(ClusterDnsError, match="Service maesh/coredns has no address after 110 s"):
        await with_kube_dns.prepare()
    assert len(with_kube_dns.pauses) == ADDRESS_TRIES - 1
    assert with_kube_dns.list_writes() == []


async def test_beside_kube_dns_the_meshs_own_coredns_is_needed(with_kube_dns):
    with_kube_dns.server.delete("deployments", "coredns", "maesh")
    with pytest.raises(ClusterDnsError, match="there is no Deployment maesh/coredns"):
        await with_kube_dns.prepare()


async def test_the_names_of_the_mesh_are_checked(kubeadm):
    with pytest.raises(ClusterDnsError, match="not the domain of a cluster"):
        await kubeadm.prepare(cluster_domain="a b")
    await kubeadm.prepare(cluster_domain="Corp.Example.")
    assert "kubernetes corp.example in-addr.arpa" in kubeadm.get_corefile()
