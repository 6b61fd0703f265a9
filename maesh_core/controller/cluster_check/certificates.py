"""Checks the certificates of a mesh with the plugin mtls: those of the authority, and those of the proxies.

Takes the ConfigMap with the certificates to trust, and what the controllers report of proxies; returns outcomes.
"""

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from maesh_core.controller.api_clients.pod_api import TRUST_KEY
from maesh_core.controller.cluster_check.controllers import MeshAnswers
from maesh_core.controller.cluster_check.objects import Reader
from maesh_core.controller.cluster_check.outcomes import SectionBuilder
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import MaeshError

NEAR_END_S: Final = 30 * 24 * 3600
"""Time before the end of the authority's certificate from which there is a warning."""


class _ConfigMap(msgspec.Struct, frozen=True):
    data: Mapping[str, str] | None = None


async def check_authority(
    section: SectionBuilder, reader: Reader, *, namespace: str, config_map: str, now: float
) -> None:
    """Check the certificates to trust; `now` is a Unix time."""
    path = build_path("v1", "configmaps", namespace=namespace, name=config_map)
    try:
        found = await reader.find(path, _ConfigMap)
    except MaeshError as error:
        section.fail("authority-valid", error)
        return
    if found is None:
        section.judge("authority-valid", [f"there is no ConfigMap {namespace}/{config_map}"])
        return
    ends = list_ends((found.data or {}).get(TRUST_KEY, ""))
    if not ends:
        section.judge("authority-valid", [f"ConfigMap {namespace}/{config_map} has no certificates in {TRUST_KEY}"])
        return
    last = max(ends)
    day = f"{datetime.fromtimestamp(last, UTC):%Y-%m-%d}"
    if last <= now:
        section.judge("authority-valid", [f"the certificate of the authority ended on {day}"])
    elif last - now < NEAR_END_S:
        section.warn("authority-valid", [f"the certificate of the authority ends on {day}"])
    else:
        section.succeed("authority-valid", f"until {day}")


def list_ends(bundle: str) -> list[float]:
    """List the ends of certificates (PEM) as Unix times; none if the text is not one of certificates."""
    if not bundle.isascii():
        return []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=bundle)
    except (ssl.SSLError, ValueError):
        return []
    certificates: list[dict[str, Any]] = context.get_ca_certs()
    return [float(ssl.cert_time_to_seconds(each["notAfter"])) for each in certificates]


def check_proxies(section: SectionBuilder, mesh: MeshAnswers, *, now: float) -> None:
    """Check what the proxies report of their certificates. A certificate that was not renewed in time is a warning."""
    if not mesh.reports:
        section.skip("proxy-certificates", "no controller answers")
        return
    lost: list[str] = []
    late: list[str] = []
    count = 0
    for proxy, _ in mesh.list_proxies():
        if not proxy.is_active or proxy.transport is msgspec.UNSET:
            continue
        count += 1
        if proxy.transport.problem:
            text = f"{proxy.name}: {proxy.transport.problem}"
            (late if _find_end(proxy.transport.facts) > now else lost).append(text)
    if lost:
        section.judge("proxy-certificates", [*lost, *late])
    elif count or late:
        section.warn("proxy-certificates", late, found=[f"{count} {'proxy' if count == 1 else 'proxies'}"])
    else:
        section.skip("proxy-certificates", "no proxy reports its certificate")


def _find_end(facts: Mapping[str, str]) -> float:
    try:
        return float(facts.get("ends", "0"))
    except ValueError:
        return 0.0
