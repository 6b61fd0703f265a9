"""The cluster's DNS is found whatever the distribution calls it."""

from typing import Any

import pytest

from maesh_core.controller.dns.detection import (
    MountedMap,
    find_coredns,
    find_corefile_key,
    find_file,
    find_flag,
    find_image,
    find_kube_dns,
    get_name,
    list_corefile_candidates,
    list_mounted_maps,
    read_version,
)
from maesh_core.errors import ClusterDnsError


def build(name, image, labels=None, container="coredns", volumes=()):
    spec = {"containers": [{"name": "other", "image": "x:1"}, {"name": container, "image": image}]}
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"template": {"spec": spec | {"volumes": volumes}}},
    }


KUBE_DNS = build("kube-dns", "k8s-dns-kube-dns-amd64:1.14.7", {"k8s-app": "kube-dns"}, "kubedns")
AUTOSCALER = build("coredns-autoscaler", "cluster-proportional-autoscaler:1.8", {"kubernetes.io/name": "CoreDNS"}, "a")
LABELLED = build("dns", "coredns/coredns:1.6.3", {"kubernetes.io/name": "CoreDNS"})
KUBEADM = build("named-otherwise", "registry.k8s.io/coredns/coredns:v1.11.3", {"k8s-app": "kube-dns"}, "dns")


@pytest.mark.parametrize(
    ("deployments", "name"),
    [
        ([], None),
        ([KUBE_DNS, AUTOSCALER], None),
        ([LABELLED, build("coredns", "coredns:1.9")], "coredns"),
        (
            [LABELLED, build("rke2-coredns-rke2-coredns", "rancher/hardened-coredns:v1.10.1-build2", {})],
            "rke2-coredns-rke2-coredns",
        ),
        ([KUBE_DNS, AUTOSCALER, KUBEADM, LABELLED], "dns"),
        ([KUBE_DNS, KUBEADM], "named-otherwise"),
        ([build("coredns", "internal/dns:5", container="x")], "coredns"),
    ],
)
def test_coredns_is_found_by_name_then_by_labels(deployments, name):
    found = find_coredns(deployments)
    assert (found and get_name(found)) == name


def test_several_that_could_be_it_are_refused():
    with pytest.raises(ClusterDnsError, match="look like CoreDNS: dns, second"):
        find_coredns([build("second", "coredns:1.9", {"kubernetes.io/name": "CoreDNS"}), LABELLED])


def test_kube_dns_is_found_by_its_name():
    assert find_kube_dns([LABELLED, KUBE_DNS]) is KUBE_DNS
    assert find_kube_dns([LABELLED]) is None


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("coredns/coredns:1.6.3", (1, 6)),
        ("k8s.gcr.io/coredns:1.7.0", (1, 7)),
        ("coredns:1.3", (1, 3)),
        ("602401143452.dkr.ecr.eu-west-1.amazonaws.com/eks/coredns:v1.11.3-eksbuild.1", (1, 11)),
        ("registry:5000/coredns:v1.8.7@sha256:0123", (1, 8)),
        ("rancher/mirrored-coredns-coredns:1.10.1", (1, 10)),
        ("mcr.microsoft.com/oss/v2/kubernetes/coredns:v1.11.3-7", (1, 11)),
        ("registry:5000/coredns", None),
        ("registry:5000/coredns@sha256:0123", None),
        ("coredns:latest", None),
        ("coredns:k8s-1.20", None),
        ("coredns:1", None),
        ("coredns:1.x", None),
        ("", None),
    ],
)
def test_the_version_is_in_the_tag(image, version):
    assert read_version(image) == version


def test_the_container_of_that_name_counts_then_the_image():
    assert find_image(LABELLED) == "coredns/coredns:1.6.3"
    assert find_image(KUBEADM) == "registry.k8s.io/coredns/coredns:v1.11.3"
    assert find_image(KUBE_DNS) is None


def test_mounted_maps_are_volumes_and_projected_sources():
    volumes = [
        {"name": "a", "configMap": {"name": "coredns", "items": [{"key": "conf", "path": "etc/Corefile"}]}},
        {"name": "b", "configMap": {"name": "coredns-custom", "optional": True}},
        {"name": "c", "projected": {"sources": [{"configMap": {"name": "x"}}, {"secret": {"name": "y"}}]}},
        {"name": "d", "emptyDir": {}},
    ]
    assert list_mounted_maps(build("coredns", "coredns:1.9", volumes=volumes)) == [
        MountedMap("coredns", is_optional=False, keys={"conf": "etc/Corefile"}),
        MountedMap("coredns-custom", is_optional=True, keys={}),
        MountedMap("x", is_optional=False, keys={}),
    ]


def mount(name, path, **more):
    return {"name": name, "mountPath": path, **more}


def test_mounted_maps_have_the_folders_of_all_containers():
    deployment = build("coredns", "coredns:1.9", volumes=[{"name": "a", "configMap": {"name": "x"}}])
    first, second = deployment["spec"]["template"]["spec"]["containers"]
    first["volumeMounts"] = [mount("a", "/one"), mount("b", "/two")]
    second["volumeMounts"] = [mount("a", "/three/"), "odd"]
    (found,) = list_mounted_maps(deployment)
    assert found.folders == ("/one", "/three")


def test_a_map_that_is_mounted_file_by_file_is_listed_for_each():
    items = [{"key": "k", "path": "sub/f"}]
    volumes = [{"name": "a", "configMap": {"name": "x"}}, {"name": "b", "configMap": {"name": "y", "items": items}}]
    deployment = build("coredns", "coredns:1.9", volumes=volumes)
    deployment["spec"]["template"]["spec"]["containers"][1]["volumeMounts"] = [
        mount("a", "/etc/Corefile", subPath="main"),
        mount("b", "/etc/y"),
        mount("b", "/etc/z", subPath="sub/f"),
    ]
    assert [(each.name, each.keys, each.folders) for each in list_mounted_maps(deployment)] == [
        ("x", {"main": "Corefile"}, ("/etc",)),
        ("y", {"k": "sub/f"}, ("/etc/y",)),
        ("y", {"k": "z"}, ("/etc",)),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/Corefile", ("whole", "Corefile")),
        ("/b/Corefile", ("items", "key")),
        ("/b/key", None),
        ("/a/sub/Corefile", None),
        ("/c/Corefile", None),
        ("/ab/Corefile", None),
    ],
)
def test_a_file_is_found_in_the_map_that_has_it(path, expected):
    maps = [
        MountedMap("whole", is_optional=False, keys={}, folders=("/a",)),
        MountedMap("items", is_optional=False, keys={"key": "Corefile"}, folders=("/b", "/c/d")),
        MountedMap("nowhere", is_optional=False, keys={}),
    ]
    found = find_file(maps, path)
    assert (found and (found[0].name, found[1])) == expected


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["-conf", "/a"], "/a"),
        (["--conf", "/a"], "/a"),
        (["-conf=/a"], "/a"),
        (["--conf=/a=b"], "/a=b"),
        (["-other", "/a"], ""),
        (["conf", "/a"], ""),
        (["-conf"], ""),
        (["-configuration=/a"], ""),
        ([], ""),
    ],
)
def test_flags_are_read_from_command_and_arguments(words, value):
    assert find_flag({"args": words}, "conf") == value
    assert find_flag({"command": ["coredns", *words[:1]], "args": words[1:]}, "conf") == value
    assert find_flag({"args": "odd"}, "conf") == ""


def test_likely_places_of_the_corefile_are_looked_at_first_and_impossible_ones_never():
    names = ["other", "coredns-custom", "dns", "coredns"]
    volumes: list[dict[str, Any]] = [{"configMap": {"name": name}} for name in names]
    volumes.append({"configMap": {"name": "hosts", "items": [{"key": "NodeHosts", "path": "NodeHosts"}]}})
    found = list_corefile_candidates(build("dns", "coredns:1.9", volumes=volumes))
    assert [mounted.name for mounted in found] == ["dns", "coredns", "other"]


@pytest.mark.parametrize(
    ("keys", "data", "found"),
    [
        ({}, {"Corefile": ""}, "Corefile"),
        ({}, {"other": ""}, None),
        ({"conf": "Corefile"}, {"conf": "", "Corefile": ""}, "conf"),
        ({"NodeHosts": "NodeHosts"}, {"Corefile": ""}, None),
        ({"Corefile": "Corefile"}, {}, None),
    ],
)
def test_the_corefile_is_the_key_mounted_as_such(keys, data, found):
    assert find_corefile_key(MountedMap("coredns", is_optional=False, keys=keys), data) == found


@pytest.mark.parametrize(
    "odd", [{}, {"metadata": None}, {"spec": []}, {"spec": {"template": {"spec": {"containers": [1]}}}}]
)
def test_odd_objects_are_not_it(odd):
    assert find_coredns([odd]) is None
    assert find_kube_dns([odd]) is None
    assert list_mounted_maps(odd) == []
