"""Detects a cluster's DNS: its Deployment, its version, and the ConfigMap that it reads.

Takes decoded objects of the API server; returns names, or raises ClusterDnsError. Pure. An object is only assumed to be
a mapping: fields that are missing or have another shape count as absent.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.errors import ClusterDnsError

DNS_NAMESPACE = "kube-system"
CUSTOM_MAP = "coredns-custom"
"""The ConfigMap for custom servers in AKS and k3s; CoreDNS imports its `.server` keys if it is mounted."""
COREFILE_KEY = "Corefile"
DEFAULT_FOLDER = "/etc/coredns"
"""The path where every known installation mounts the Corefile."""
KUBE_DNS = "kube-dns"
OLDEST_VERSION = (1, 3)
NO_UPSTREAM_VERSION = (1, 7)
"""From this version on, CoreDNS refuses the word `upstream` in a kubernetes block."""

_NAMES = ("coredns", "rke2-coredns-rke2-coredns")
_LABELS = (("kubernetes.io/name", "CoreDNS"), ("k8s-app", "kube-dns"))
_VERSION = re.compile(r"v?(\d{1,9})\.(\d{1,9})(?:[.+_-].*)?", re.ASCII)

Object = dict[str, Any]


class MountedMap(msgspec.Struct, frozen=True):
    """A ConfigMap among a pod's volumes. `keys` are the files' names by key; empty means all keys.

    `folders` are the mount points in containers; empty if no container mounts it.
    """

    name: str
    is_optional: bool
    keys: Mapping[str, str]
    folders: tuple[str, ...] = ()


def find_coredns(deployments: Sequence[Object]) -> Object | None:
    """Find CoreDNS by its known names, otherwise by its labels. Raises ClusterDnsError if several match."""
    for name in _NAMES:
        for deployment in deployments:
            if get_name(deployment) == name:
                return deployment
    for label, value in _LABELS:
        found = [each for each in deployments if _get_labels(each).get(label) == value and find_image(each) is not None]
        if len(found) > 1:
            names = ", ".join(sorted(get_name(each) for each in found))
            raise ClusterDnsError(f"several Deployments in {DNS_NAMESPACE} look like CoreDNS: {names}")
        if found:
            return found[0]
    return None


def find_kube_dns(deployments: Sequence[Object]) -> Object | None:
    """Find kube-dns."""
    return next((each for each in deployments if get_name(each) == KUBE_DNS), None)


def find_image(deployment: Object) -> str | None:
    """Find CoreDNS's image: that of the container with its name, otherwise one whose image has its name."""
    container = find_container(deployment)
    return None if container is None else str(container.get("image") or "")


def find_container(deployment: Object) -> Object | None:
    """Find CoreDNS's container."""
    containers = list_containers(deployment)
    named = (each for each in containers if each.get("name") == "coredns")
    return next(named, next((each for each in containers if "coredns" in get_image(each)), None))


def list_containers(workload: Object) -> list[Object]:
    """List the containers of a workload's pods."""
    return [each for each in _get_list(_get_pod_spec(workload), "containers") if isinstance(each, dict)]


def get_image(container: Object) -> str:
    """Return the last part of a container's image, without tag and digest."""
    return _get_repository(str(container.get("image") or ""))


def find_flag(container: Object, name: str) -> str:
    """Find the value of a flag on a container's command line, as Go's programs read it: `-name value`, `--name=value`.

    Empty if it is not given.
    """
    words = [str(word) for field in ("command", "args") for word in _get_list(container, field)]
    for place, word in enumerate(words):
        flag, is_joined, value = word.partition("=")
        if flag in (f"-{name}", f"--{name}"):
            return value if is_joined else next(iter(words[place + 1 :]), "")
    return ""


def read_version(image: str) -> tuple[int, int] | None:
    """Parse major and minor version from an image's tag; None if it has none."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    match = _VERSION.fullmatch(tag)
    return (int(match[1]), int(match[2])) if match else None


def _get_repository(image: str) -> str:
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0]


def list_mounted_maps(deployment: Object) -> list[MountedMap]:
    """List the ConfigMaps among the volumes of a Deployment's pods, projected ones too.

    A ConfigMap that is mounted file by file (`subPath`) is listed once for each file.
    """
    found = []
    mounts = [mount for container in list_containers(deployment) for mount in _get_list(container, "volumeMounts")]
    for volume in _get_list(_get_pod_spec(deployment), "volumes"):
        projected = _get_list(_get_dict(volume, "projected"), "sources")
        for source in [volume, *projected]:
            config_map = _get_dict(source, "configMap")
            name = config_map.get("name")
            if isinstance(name, str) and name:
                items = [item for item in _get_list(config_map, "items") if isinstance(item, dict)]
                keys = {str(item.get("key")): str(item.get("path")) for item in items}
                mounted = MountedMap(name, config_map.get("optional") is True, keys)
                own = [mount for mount in mounts if _get_text(mount, "name") == _get_text(volume, "name")]
                found += _list_places(mounted, own)
    return found


def _list_places(mounted: MountedMap, mounts: Sequence[Any]) -> list[MountedMap]:
    """List the mount points of a volume: of the whole, or of single files."""
    found = []
    folders = tuple(_get_text(mount, "mountPath").rstrip("/") for mount in mounts if not _get_text(mount, "subPath"))
    if folders or not mounts:
        found.append(msgspec.structs.replace(mounted, folders=folders))
    for mount in mounts:
        if file := _get_text(mount, "subPath"):
            folder, _, name = _get_text(mount, "mountPath").rpartition("/")
            key = next((key for key, path in mounted.keys.items() if path == file), file)
            found.append(msgspec.structs.replace(mounted, keys={key: name}, folders=(folder,)))
    return found


def find_file(maps: Sequence[MountedMap], path: str) -> tuple[MountedMap, str] | None:
    """Find the ConfigMap and key of a file, by its path in a container."""
    for mounted in maps:
        for folder in mounted.folders:
            file = path.removeprefix(f"{folder}/")
            if file == path:
                continue
            key = next((key for key, each in mounted.keys.items() if each == file), None) if mounted.keys else file
            if key is not None and "/" not in key:
                return mounted, key
    return None


def list_corefile_candidates(deployment: Object) -> list[MountedMap]:
    """List the mounted ConfigMaps that may have the Corefile, likely ones first: not all may be readable."""
    likely = (*_NAMES, get_name(deployment))
    found = [
        mounted
        for mounted in list_mounted_maps(deployment)
        if mounted.name != CUSTOM_MAP and (not mounted.keys or _find_mounted_key(mounted) is not None)
    ]
    return sorted(found, key=lambda mounted: mounted.name not in likely)


def find_corefile_key(mounted: MountedMap, data: Mapping[str, Any]) -> str | None:
    """Find the key of a mounted ConfigMap that CoreDNS reads as its Corefile."""
    key = _find_mounted_key(mounted) if mounted.keys else COREFILE_KEY
    return key if key in data else None


def _find_mounted_key(mounted: MountedMap) -> str | None:
    return next((key for key, path in mounted.keys.items() if path.rpartition("/")[2] == COREFILE_KEY), None)


def get_name(found: Object) -> str:
    """Return an object's name."""
    return str(_get_dict(found, "metadata").get("name") or "")


def get_label(found: Object, name: str) -> str:
    """Return a label's value, empty if it is absent."""
    return str(_get_labels(found).get(name) or "")


def _get_labels(found: Object) -> Mapping[str, Any]:
    return _get_dict(_get_dict(found, "metadata"), "labels")


def _get_pod_spec(deployment: Object) -> Mapping[str, Any]:
    return _get_dict(_get_dict(_get_dict(deployment, "spec"), "template"), "spec")


def _get_dict(parent: Any, key: str) -> Mapping[str, Any]:
    value = parent.get(key) if isinstance(parent, dict) else None
    return value if isinstance(value, dict) else {}


def _get_text(parent: Any, key: str) -> str:
    value = parent.get(key) if isinstance(parent, dict) else None
    return value if isinstance(value, str) else ""


def _get_list(parent: Any, key: str) -> Sequence[Any]:
    value = parent.get(key) if isinstance(parent, dict) else None
    return value if isinstance(value, list) else []
