"""Plans changes of the stub domains in a ConfigMap: it adds the mesh's zones and removes them.

Takes the current ConfigMap; returns changes, or raises ClusterDnsError. Pure. kube-dns and NodeLocal DNSCache read such
a ConfigMap.
"""

from collections.abc import Sequence
from functools import partial

from maesh_core.controller.dns import edits, kube_dns
from maesh_core.controller.dns.corefile import ZONES
from maesh_core.controller.dns.objects import CONFIG_MAPS, Object
from maesh_core.controller.dns.plan import Change, build_change
from maesh_core.errors import ClusterDnsError
from maesh_core.model.keys import ObjectKey

STUB_DOMAINS = "stubDomains"


def plan_stub_domains(
    found: Object | None, key: ObjectKey, addresses: Sequence[str], *, zones: Sequence[str] = ZONES
) -> list[Change]:
    """Plan the changes that set the name servers of zones. None for `found` creates the ConfigMap.

    Other zones of the mesh are removed.
    """
    edit = partial(_insert, key=key, addresses=tuple(addresses), zones=tuple(zones))
    summary = f"stub domains {', '.join(zones)} set to {', '.join(addresses)}"
    return build_change(CONFIG_MAPS, found, edit, summary, key=key)


def plan_stub_domain_removal(found: Object) -> list[Change]:
    """Plan the changes that remove all zones of the mesh from the stub domains."""
    return build_change(CONFIG_MAPS, found, _remove, f"stub domains {', '.join(ZONES)} removed")


def has_stub_domains(found: Object) -> bool:
    """Whether prepare has written into a ConfigMap, or a zone of the mesh is among its stub domains."""
    if edits.is_annotated(found):
        return True
    try:
        domains = kube_dns.parse_stub_domains((found.get("data") or {}).get(STUB_DOMAINS) or "{}")
    except ClusterDnsError:
        return False  # somebody else's, which need not be understood
    return not domains.keys().isdisjoint(ZONES)


def _insert(found: Object | None, *, key: ObjectKey, addresses: tuple[str, ...], zones: tuple[str, ...]) -> Object:
    def insert(text: str) -> str:
        whole = text if text.strip() else edits.EMPTY_OBJECT + text
        return kube_dns.add_zones(kube_dns.remove_zones(whole, ZONES), zones, addresses)

    return edits.add_texts(found or edits.build_map(key.name, key.namespace), {STUB_DOMAINS: insert})


def _remove(found: Object | None) -> Object | None:
    def remove(text: str) -> str:
        return kube_dns.remove_zones(text, ZONES) if text.strip() else text

    return None if found is None else edits.remove_texts(found, {STUB_DOMAINS: remove})
