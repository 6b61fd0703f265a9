"""Edits the `stubDomains` of kube-dns: the name servers of zones, as JSON in a ConfigMap.

Takes text and returns text. Inserts the mesh's zones at the start and removes them byte for byte; everything else is
kept. Raises ClusterDnsError, without changes, if the text is not JSON of the expected shape.
"""

import json
import re
from collections.abc import Sequence

import msgspec

from maesh_core.errors import ClusterDnsError


def parse_stub_domains(text: str) -> dict[str, list[str]]:
    """Parse an object of lists of addresses. Raises ClusterDnsError."""
    try:
        return msgspec.json.decode(text.encode(), type=dict[str, list[str]])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ClusterDnsError(f"stubDomains is not a JSON object of zones and their name servers: {error}") from error


def add_zones(text: str, zones: Sequence[str], addresses: Sequence[str]) -> str:
    """Set the name servers of zones, in place of existing ones; the rest is kept. Raises ClusterDnsError."""
    rest = remove_zones(text, zones)
    if not zones:
        return rest
    ours = json.dumps({zone: list(addresses) for zone in zones})[1:-1]
    separator = ", " if parse_stub_domains(rest) else ""
    opening = rest.index("{") + 1
    return f"{rest[:opening]}{ours}{separator}{rest[opening:]}"


def remove_zones(text: str, zones: Sequence[str]) -> str:
    """Remove zones: exactly, or by rewriting the object if others have rewritten it.

    Raises ClusterDnsError.
    """
    found = parse_stub_domains(text)
    others = {zone: addresses for zone, addresses in found.items() if zone not in zones}
    if len(others) == len(found):
        return text
    ours = ", ".join(rf'"{re.escape(zone)}": \[[^\[\]]*\]' for zone in zones if zone in found)
    rest = re.sub(rf"^(\s*\{{){ours}{', ' if others else ''}", r"\1", text, count=1)
    return rest if _is_object(rest, others) else json.dumps(others)


def _is_object(text: str, expected: dict[str, list[str]]) -> bool:
    try:
        return parse_stub_domains(text) == expected
    except ClusterDnsError:
        return False
