"""Blocks in the ConfigMap coredns-custom, which some distributions mount for their users."""

import pytest

from maesh_core.controller.dns.corefile import ZONES, find_spans, insert_blocks, read_exact_rules
from maesh_core.controller.dns.edits import ADDED
from maesh_core.errors import ClusterDnsError

from .dns_cluster import EXACT, build_deployment, build_map


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


async def test_the_custom_map_is_used_if_it_is_mounted(aks, read_corefile, blocks):
    before = aks.strip()
    await aks.prepare()
    assert aks.get_corefile() == read_corefile("corefiles/aks")
    expected = {f"{zone}.server": f"{block}\n" for zone, block in blocks.items()}
    assert aks.get_map("coredns-custom")["data"] == expected
    assert aks.get_map("coredns-custom")["metadata"]["annotations"] == {ADDED: "maesh.server,traefik.mesh.server"}
    assert not await aks.prepare()
    await aks.clean_up()
    assert aks.strip() == before


async def test_blocks_move_to_the_custom_map(aks, read_corefile, blocks):
    patched = insert_blocks(read_corefile("corefiles/aks"), blocks)
    aks.server.apply(build_map("coredns", {"Corefile": patched}))
    await aks.prepare()
    assert aks.get_corefile() == read_corefile("corefiles/aks")
    assert set(aks.get_map("coredns-custom")["data"]) == {"maesh.server", "traefik.mesh.server"}
    assert aks.reported[0] == "ConfigMap kube-system/coredns: block for maesh, traefik.mesh removed"


async def test_keys_that_version_1_4_wrote_in_the_custom_map_are_removed(aks, read_corefile):
    old = read_corefile("patched/kubeadm-by-1.4").removeprefix(read_corefile("corefiles/kubeadm"))
    first, _, second = old.partition("\n\n#### Begin Traefik")
    data = {"maesh.server": f"{first}\n", "traefik.mesh.server": f"\n#### Begin Traefik{second}", "x.override": "log"}
    aks.server.apply(build_map("coredns-custom", data))
    await aks.clean_up()
    assert aks.get_map("coredns-custom")["data"] == {"x.override": "log"}


async def test_a_foreign_server_block_in_the_custom_map_is_refused(aks):
    aks.server.apply(build_map("coredns-custom", {"mine.server": "maesh:53 {\n}\n"}))
    with pytest.raises(ClusterDnsError, match=r"^ConfigMap kube-system/coredns-custom, mine.server: another server"):
        await aks.prepare()
    assert aks.list_writes() == []


async def test_the_custom_map_is_ignored_if_it_is_not_mounted(kubeadm):
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
async def test_the_custom_map_is_ignored_if_the_corefile_does_not_import_it(aks, lines, is_read):
    aks.server.apply(build_map("coredns", {"Corefile": f".:53 {{\n    errors\n}}\n{lines}\n"}))
    before = aks.strip()
    await aks.prepare()
    assert ("Begin Maesh" in aks.get_corefile()) is not is_read
    assert ("maesh.server" in aks.get_map("coredns-custom").get("data", {})) is is_read
    assert not await aks.prepare()
    await aks.clean_up()
    assert aks.strip() == before


async def test_imports_are_relative_to_the_folder_of_the_configured_corefile(aks):
    deployment = build_deployment("coredns", "coredns:v1.9.4", ["coredns", "coredns-custom"])
    deployment["spec"]["template"]["spec"]["containers"][0]["args"] = ["-conf", "/srv/dns/Corefile"]
    aks.server.apply(deployment)
    await aks.prepare()
    assert "Begin Maesh" in aks.get_corefile()


async def test_a_custom_map_with_only_single_files_mounted_is_not_used(aks):
    deployment = aks.server.get("deployments", "coredns", "kube-system")
    custom = deployment["spec"]["template"]["spec"]["volumes"][1]["configMap"]
    custom["items"] = [{"key": "mine.server", "path": "mine.server"}]
    aks.server.apply(deployment)
    await aks.prepare()
    assert "Begin Maesh" in aks.get_corefile()


async def test_blocks_move_out_of_a_custom_map_that_is_no_longer_imported(aks, read_corefile):
    aks.server.apply(build_map("coredns-custom", {"x.other": "maesh {\n}\n"}))
    await aks.prepare(EXACT)
    assert "maesh.server" in aks.get_map("coredns-custom")["data"]
    text = read_corefile("corefiles/aks").replace("import custom/*.server", "")
    aks.server.apply(build_map("coredns", {"Corefile": text}))
    await aks.prepare()
    assert read_exact_rules(aks.get_corefile()) == EXACT
    assert aks.get_map("coredns-custom")["data"] == {"x.other": "maesh {\n}\n"}


async def test_exact_rules_move_with_the_blocks(aks, builder, read_corefile):
    blocks = {zone: builder.build(zone, exact=EXACT) for zone in ZONES}
    aks.server.apply(build_map("coredns", {"Corefile": insert_blocks(read_corefile("corefiles/aks"), blocks)}))
    await aks.prepare()
    assert read_exact_rules(aks.get_map("coredns-custom")["data"]["maesh.server"]) == EXACT
