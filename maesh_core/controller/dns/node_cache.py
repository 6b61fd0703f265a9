"""NodeLocal DNSCache: finds its DaemonSets, what they read, and where they forward queries for the mesh's zones.

Takes objects of the API server and Corefiles, returns values. Pure. The rules are those of node-cache (kubernetes/dns,
cmd/node-cache): a template Corefile whose variables it replaces, followed by a server for each stub domain of a mounted
ConfigMap. Some installations run a plain CoreDNS instead, or mount no stub domains.
"""

from collections.abc import Sequence
from ipaddress import ip_address

import msgspec

from maesh_core.controller.dns.corefile import ZONES
from maesh_core.controller.dns.corefile_parsing import ServerBlock, parse_corefile, read_address
from maesh_core.controller.dns.detection import (
    COREFILE_KEY,
    DNS_NAMESPACE,
    MountedMap,
    Object,
    find_corefile_key,
    find_file,
    find_flag,
    get_image,
    get_label,
    get_name,
    list_containers,
    list_corefile_candidates,
    list_mounted_maps,
)
from maesh_core.controller.dns.stub_domains import STUB_DOMAINS

NAMES = ("node-local-dns", "nodelocaldns")
"""The names used by the addons of Kubernetes and Kubespray: DaemonSet, ConfigMap, label."""
CLUSTER_DNS = "__PILLAR__CLUSTER__DNS__"
"""In its template: the address of the Service that `-upstreamsvc` names."""

_IMAGE = "dns-node-cache"
_TEMPLATE, _COREFILE, _STUB_FOLDER = "/etc/coredns/Corefile.base", "/etc/Corefile", "/etc/kube-dns"
_UPSTREAM_SERVICE = "kube-dns"
_DOMAIN_VARIABLE = "__pillar__dns__domain__"


class CorefilePlace(msgspec.Struct, frozen=True):
    """A ConfigMap and a key of it. node-cache adds servers for stub domains only after a template."""

    name: str
    key: str
    is_template: bool


class NodeCache(msgspec.Struct, frozen=True, kw_only=True):
    """One DaemonSet. Its Corefile is the first of `corefiles` that exists; `stubs` has its stub domains."""

    name: str
    corefiles: tuple[CorefilePlace, ...]
    stubs: MountedMap | None
    upstream_service: str

    @property
    def title(self) -> str:
        """The object in messages."""
        return f"DaemonSet {DNS_NAMESPACE}/{self.name} (NodeLocal DNSCache)"


class Forwarding(msgspec.Struct, frozen=True, kw_only=True):
    """How a node cache's Corefile forwards queries. `zones` are those of the mesh that it would forward elsewhere.

    `targets` are the servers for the cluster's own names, `bind` the addresses that it listens on.
    """

    zones: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    bind: tuple[str, ...] = ()
    port: str = ""

    def list_addresses(self) -> list[str]:
        """List the targets that are addresses, with their ports, if any."""
        return [target for target in self.targets if _is_address(target)]

    def render_entry(self, addresses: Sequence[str]) -> str:
        """Render the server that its Corefile lacks."""
        port = f":{self.port}" if self.port else ""
        lines = [
            f"{' '.join(f'{zone}{port}' for zone in self.zones)} {{",
            "    errors",
            "    cache 30",
            *([f"    bind {' '.join(self.bind)}"] if self.bind else []),
            f"    forward . {' '.join(addresses or self.targets)}",
            "}",
        ]
        return "\n".join(lines)


def find_node_caches(daemon_sets: Sequence[Object]) -> list[NodeCache]:
    """Find the DaemonSets of NodeLocal DNSCache by name, label or image. There may be one for each node pool."""
    return [_read_node_cache(each) for each in daemon_sets if _is_node_cache(each)]


def read_forwarding(text: str, cluster_domain: str) -> Forwarding:
    """Parse a node cache's Corefile. Raises ClusterDnsError.

    Nothing is missing if the zones have servers, or if all names go to the servers of the cluster's names.
    """
    servers = {zone: (key, block) for block in parse_corefile(text).blocks for key, zone in _list_zones(block)}
    domain = servers.get(cluster_domain) or servers.get(_DOMAIN_VARIABLE)
    if domain is None:
        return Forwarding()
    key, block = domain
    targets = _list_targets(block)
    root = servers.get("")
    has_all = root is not None and targets == _list_targets(root[1])
    return Forwarding(
        zones=() if has_all else tuple(zone for zone in ZONES if zone not in servers),
        targets=targets,
        bind=next((line[1:] for line in block.lines if line[0] == "bind"), ()),
        port=read_address(key)[1],
    )


def _is_node_cache(daemon_set: Object) -> bool:
    is_named = get_name(daemon_set) in NAMES or get_label(daemon_set, "k8s-app") in NAMES
    return is_named or any(_IMAGE in get_image(each) for each in list_containers(daemon_set))


def _read_node_cache(daemon_set: Object) -> NodeCache:
    containers = list_containers(daemon_set)
    container = next((each for each in containers if _IMAGE in get_image(each)), containers[0] if containers else {})
    maps = list_mounted_maps(daemon_set)
    template = find_flag(container, "basecorefile") or _TEMPLATE
    path = find_flag(container, "conf") or find_flag(container, "corefile") or _COREFILE
    places = [
        CorefilePlace(found[0].name, found[1], is_template)
        for each, is_template in ((template, True), (path, False))
        if (found := find_file(maps, each)) is not None
    ]
    return NodeCache(
        name=get_name(daemon_set),
        corefiles=tuple(places or _guess_corefiles(daemon_set)),
        stubs=_find_stubs(maps, find_flag(container, "kubednscm") or _STUB_FOLDER),
        upstream_service=find_flag(container, "upstreamsvc") or _UPSTREAM_SERVICE,
    )


def _guess_corefiles(daemon_set: Object) -> list[CorefilePlace]:
    found = ((mounted.name, _find_key(mounted)) for mounted in list_corefile_candidates(daemon_set))
    return [CorefilePlace(name, key, is_template=False) for name, key in found if key is not None]


def _find_key(mounted: MountedMap) -> str | None:
    """Find the key of the Corefile; if all keys of a ConfigMap are files, it must have one of the known names."""
    known = {COREFILE_KEY: ""} if mounted.name in NAMES else {}
    return find_corefile_key(mounted, mounted.keys or known)


def _find_stubs(maps: Sequence[MountedMap], folder: str) -> MountedMap | None:
    found = find_file(maps, f"{folder.rstrip('/')}/{STUB_DOMAINS}")
    return found[0] if found is not None and found[1] == STUB_DOMAINS else None


def _list_zones(block: ServerBlock) -> list[tuple[str, str]]:
    return [(key, read_address(key)[0]) for key in block.keys if not key.startswith("(")]


def _list_targets(block: ServerBlock) -> tuple[str, ...]:
    for line in block.lines:
        if line[0] in ("forward", "proxy"):
            return tuple(word for word in line[2:] if word != "{")
    return ()


def _is_address(target: str) -> bool:
    host, _, port = target.rpartition(":") if target.count(":") == 1 else (target, "", "")
    if target.startswith("["):
        host, _, port = target[1:].partition("]")
        port = port.removeprefix(":")
    try:
        ip_address(host)
    except ValueError:
        return False
    return not port or port.isdecimal()
