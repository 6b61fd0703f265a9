"""NodeLocal DNSCache is recognised, and what it reads and forwards is understood."""

import pytest

from maesh_core.controller.dns.corefile import ZONES
from maesh_core.controller.dns.node_cache import Forwarding, find_node_caches, read_forwarding
from maesh_core.errors import ClusterDnsError

TEMPLATE = {"name": "node-local-dns", "items": [{"key": "Corefile", "path": "Corefile.base"}]}
STUBS = {"name": "kube-dns", "optional": True}
IMAGE = "registry.k8s.io/dns/k8s-dns-node-cache:1.26.4"


def build(name="node-local-dns", *, image=IMAGE, args=(), maps=None, labels=None):
    """Build a DaemonSet; `maps` are ConfigMaps by the folders that they are mounted at."""
    maps = {"/etc/coredns": TEMPLATE, "/etc/kube-dns": STUBS} if maps is None else maps
    container = {
        "name": "node-cache",
        "image": image,
        "args": list(args),
        "volumeMounts": [{"name": f"v{place}", "mountPath": folder} for place, folder in enumerate(maps)],
    }
    volumes = [{"name": f"v{place}", "configMap": each} for place, each in enumerate(maps.values())]
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"template": {"spec": {"containers": [container], "volumes": volumes}}},
    }


@pytest.mark.parametrize(
    ("daemon_set", "is_found"),
    [
        (build(), True),
        (build("nodelocaldns", image="internal/dns:1"), True),
        (build("node-local-dns-workers"), True),
        (build("cache", image="coredns:1.11", labels={"k8s-app": "node-local-dns"}), True),
        (build("cache", image="coredns:1.11", labels={"k8s-app": "kube-dns"}), False),
        (build("kube-proxy", image="kube-proxy:1.30"), False),
        (build("registry-node-cache", image="node-cache:1"), False),
        ({}, False),
        ({"metadata": {"name": "x"}, "spec": {"template": {"spec": {"containers": ["no"]}}}}, False),
    ],
)
def test_it_is_found_by_name_label_or_image(daemon_set, is_found):
    assert bool(find_node_caches([build("other", image="x"), daemon_set])) is is_found


WHOLE = {"name": "nodelocaldns"}
ONE = {"name": "own", "items": [{"key": "x", "path": "Corefile"}]}
BASE = ("node-local-dns", "Corefile", True)


@pytest.mark.parametrize(
    ("daemon_set", "corefiles", "stubs"),
    [
        (build(), [BASE], "kube-dns"),
        (build(maps={"/etc/coredns": TEMPLATE}), [BASE], None),
        (build(maps={"/etc/coredns/": TEMPLATE, "/etc/kube-dns/": STUBS}), [BASE], "kube-dns"),
        (build(maps={"/etc/coredns": TEMPLATE, "/etc/other": STUBS}), [BASE], None),
        (build(args=["-kubednscm", "/s"], maps={"/etc/coredns": TEMPLATE, "/s": STUBS}), [BASE], "kube-dns"),
        (build(args=["--basecorefile=/base/conf"], maps={"/base": WHOLE}), [("nodelocaldns", "conf", True)], None),
        (
            build(args=["-conf", "/etc/coredns/Corefile"], maps={"/etc/coredns": WHOLE}),
            [("nodelocaldns", "Corefile.base", True), ("nodelocaldns", "Corefile", False)],
            None,
        ),
        (build(args=["-conf=/etc/coredns/Corefile"], maps={"/etc/coredns": ONE}), [("own", "x", False)], None),
        (build(maps={"/elsewhere": ONE, "/other": {"name": "other"}}), [("own", "x", False)], None),
        (build(maps={"/elsewhere": WHOLE}), [("nodelocaldns", "Corefile", False)], None),
        (
            build(maps={"/etc/coredns": TEMPLATE, "/etc/kube-dns": STUBS | {"items": [{"key": "a", "path": "b"}]}}),
            [BASE],
            None,
        ),
        (build(maps={}), [], None),
    ],
)
def test_what_it_reads_is_where_it_is_mounted(daemon_set, corefiles, stubs):
    (found,) = find_node_caches([daemon_set])
    assert [(each.name, each.key, each.is_template) for each in found.corefiles] == corefiles
    assert (found.stubs and found.stubs.name) == stubs


def test_the_service_upstream_is_named_on_its_command_line():
    assert [each.upstream_service for each in find_node_caches([build(), build(args=["-upstreamsvc", "up"])])] == [
        "kube-dns",
        "up",
    ]


def build_corefile(
    domain="forward . __PILLAR__CLUSTER__DNS__ {\n        force_tcp\n    }", root="forward . 8.8.8.8", more=""
):
    return f"""cluster.local:53 {{
    errors
    bind 169.254.20.10 10.96.0.10
    {domain}
    health 169.254.20.10:8080
    }}
in-addr.arpa:53 {{
    bind 169.254.20.10 10.96.0.10
}}
.:53 {{
    bind 169.254.20.10 10.96.0.10
    {root}
}}
{more}"""


@pytest.mark.parametrize(
    ("text", "zones", "targets"),
    [
        (build_corefile(), ZONES, ("__PILLAR__CLUSTER__DNS__",)),
        (build_corefile(domain="forward . 10.0.0.2 10.0.0.3"), ZONES, ("10.0.0.2", "10.0.0.3")),
        (build_corefile(root="forward . __PILLAR__CLUSTER__DNS__"), (), ("__PILLAR__CLUSTER__DNS__",)),
        (build_corefile(root="errors"), ZONES, ("__PILLAR__CLUSTER__DNS__",)),
        (build_corefile(more="maesh:53 {\n}\n"), ZONES[1:], ("__PILLAR__CLUSTER__DNS__",)),
        (build_corefile(more="maesh:53 Traefik.Mesh.:53 {\n}\n"), (), ("__PILLAR__CLUSTER__DNS__",)),
        (build_corefile().replace("cluster.local", "__PILLAR__DNS__DOMAIN__"), ZONES, ("__PILLAR__CLUSTER__DNS__",)),
        (build_corefile().replace("cluster.local", "corp.example"), (), ()),
        (". {\n    forward . 10.0.0.2\n}\n", (), ()),
        ("", (), ()),
    ],
)
def test_the_zones_that_it_sends_elsewhere_are_known(text, zones, targets):
    found = read_forwarding(text, "cluster.local")
    assert (found.zones, found.targets) == (zones, targets)


def test_a_corefile_that_is_none_is_refused():
    with pytest.raises(ClusterDnsError):
        read_forwarding("cluster.local {", "cluster.local")


def test_the_entry_that_it_lacks_listens_where_the_others_do():
    found = read_forwarding(build_corefile(), "cluster.local")
    assert found.render_entry([]) == (
        "maesh:53 traefik.mesh:53 {\n"
        "    errors\n"
        "    cache 30\n"
        "    bind 169.254.20.10 10.96.0.10\n"
        "    forward . __PILLAR__CLUSTER__DNS__\n"
        "}"
    )
    assert "forward . 10.0.0.9\n" in found.render_entry(["10.0.0.9"])
    assert read_forwarding(build_corefile(more=found.render_entry([])), "cluster.local").zones == ()
    bare = Forwarding(zones=("maesh",), targets=("10.0.0.2",))
    assert bare.render_entry([]) == "maesh {\n    errors\n    cache 30\n    forward . 10.0.0.2\n}"


def test_targets_that_are_no_addresses_are_left_out():
    targets = ("10.0.0.2", "10.0.0.2:53", "fd00::2", "[fd00::2]:53", "/etc/resolv.conf", "tls://1.1.1.1", "10.0.0.2:x")
    assert Forwarding(targets=targets).list_addresses() == ["10.0.0.2", "10.0.0.2:53", "fd00::2", "[fd00::2]:53"]
