"""Stub domains in a ConfigMap: the mesh's zones put in and taken out again.

Takes a ConfigMap as it is, returns changes, or raises ClusterDnsError. Pure. kube-dns reads such a ConfigMap, and so
does NodeLocal DNSCache.
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
    """Find what must be written for addresses to answer for zones. None for `found` has the ConfigMap made.

    Zones of the mesh that are not among them are taken out.
    """
    edit = partial(_put, key=key, addresses=tuple(addresses), zones=tuple(zones))
    summary = f"stub domains {', '.join(zones)} set to {', '.join(addresses)}"
    return build_change(CONFIG_MAPS, found, edit, summary, key=key)


def plan_stub_domain_removal(found: Object) -> list[Change]:
    """Find what must be written for no zone of the mesh to be among the stub domains."""
    return build_change(CONFIG_MAPS, found, _take, f"stub domains {', '.join(ZONES)} removed")


def has_stub_domains(found: Object) -> bool:
    """Whether prepare has written into a ConfigMap, or a zone of the mesh is among its stub domains."""
    if edits.is_annotated(found):
        return True
    try:
        domains = kube_dns.parse_stub_domains((found.get("data") or {}).get(STUB_DOMAINS) or "{}")
    except ClusterDnsError:
        return False  # another's, and nobody here has to understand it
    return not domains.keys().isdisjoint(ZONES)


def _put(found: Object | None, *, key: ObjectKey, addresses: tuple[str, ...], zones: tuple[str, ...]) -> Object:
    def put(text: str) -> str:
        whole = text if text.strip() else edits.EMPTY_OBJECT + text
        return kube_dns.add_zones(kube_dns.remove_zones(whole, ZONES), zones, addresses)

    return edits.put_texts(found or edits.build_map(key.name, key.namespace), {STUB_DOMAINS: put})


def _take(found: Object | None) -> Object | None:
    def take(text: str) -> str:
        return kube_dns.remove_zones(text, ZONES) if text.strip() else text

    return None if found is None else edits.take_texts(found, {STUB_DOMAINS: take})
