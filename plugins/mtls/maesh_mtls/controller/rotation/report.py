"""The report for `maesh mtls status`: the authority, the phase of a rotation, each node's certificate, and problems.

Takes the content of the store and what proxies report; returns values that are sent as JSON. Contains no key.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from maesh_core.plugin import ConfigurationError, NodeReport
from maesh_mtls.controller.authority.effective import get_key_id, is_adopted, read_effective
from maesh_mtls.controller.authority.state import SETTLED, AuthorityState, parse_state
from maesh_mtls.controller.authority.stores import Stored
from maesh_mtls.controller.rotation.service import read_facts
from maesh_mtls.controller.rotation.steps import MeshView, find_waiting
from maesh_mtls.facts import render_moment, render_span
from maesh_mtls.trust import hash_trust, split_bundle

AUTHORITY_NOTICE_S: Final = 60 * 86400.0
"""An authority that ends within this time is a problem."""
NODES_SHOWN: Final = 10_000


class CertificateReport(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate of an authority; `fingerprint` is its SHA-256, times are RFC 3339."""

    subject: str
    fingerprint: str
    ends: str


class RotationReport(msgspec.Struct, frozen=True, kw_only=True):
    """The phase of a rotation, which ends at `until` even if the nodes in `waiting` do not report."""

    phase: str
    since: str = ""
    until: str = ""
    waiting: tuple[str, ...] = ()


class NodeCertificate(msgspec.Struct, frozen=True, kw_only=True):
    """One proxy and its certificate. `trust`, `signer`: whether they are the current ones."""

    node: str
    address: str
    state: str
    ends: str = ""
    serial: str = ""
    trust: bool = False
    signer: bool = False
    revoked: bool = False
    problem: str = ""


class RevocationReport(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is revoked, or one certificate of it."""

    node: str
    serial: str
    at: str


class AuthorityReport(msgspec.Struct, frozen=True, kw_only=True):
    """The whole report. `problems` say what is wrong, and what to do."""

    place: str
    signer: CertificateReport | None = None
    trusted: tuple[CertificateReport, ...] = ()
    rotation: RotationReport = RotationReport(phase=SETTLED)
    nodes: tuple[NodeCertificate, ...] = ()
    revoked: tuple[RevocationReport, ...] = ()
    problems: tuple[str, ...] = ()


def build_report(
    stored: Stored,
    view: MeshView,
    reports: Sequence[NodeReport],
    now: float,
    *,
    place: str,
    nodes: Mapping[str, object],
) -> AuthorityReport:
    """Build the report. `nodes` are those that take part. Raises ConfigurationError if the state cannot be read."""
    state = parse_state(stored.rotation)
    revoked = tuple(
        RevocationReport(node=each.node, serial=each.serial, at=render_moment(each.at)) for each in state.revoked
    )
    try:
        effective = read_effective(stored, datetime.fromtimestamp(now, UTC))
    except ConfigurationError as error:
        problems = (f"the authority cannot be used: {error}",)
        return AuthorityReport(place=place, revoked=revoked, problems=problems)
    trust, signer = hash_trust(effective.bundle), get_key_id(effective)
    described = (
        _describe_node(report, state, trust=trust, signer=signer, now=now) for report in reports if report.is_active
    )
    certificates = list(dict.fromkeys(described))  # several controllers may know the same proxy
    rotation = _describe_rotation(stored, state, view, now)
    return AuthorityReport(
        place=place,
        signer=_describe(effective.certificate),
        trusted=tuple(_describe(x509.load_der_x509_certificate(each)) for each in split_bundle(effective.bundle)),
        rotation=rotation,
        nodes=tuple(sorted(certificates, key=lambda each: (each.node, each.address))[:NODES_SHOWN]),
        revoked=revoked,
        problems=(
            *_find_authority_problems(stored, effective.certificate, now),
            *_find_silent(nodes, certificates),
            *(f"{each.node}: {each.problem}" for each in certificates if each.problem),
        ),
    )


def _describe(certificate: x509.Certificate) -> CertificateReport:
    return CertificateReport(
        subject=certificate.subject.rfc4514_string()[:256],
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
        ends=render_moment(certificate.not_valid_after_utc.timestamp()),
    )


def _describe_rotation(stored: Stored, state: AuthorityState, view: MeshView, now: float) -> RotationReport:
    if state.phase == SETTLED:
        return RotationReport(phase=SETTLED)
    return RotationReport(
        phase=state.phase,
        since=render_moment(state.since),
        until=render_moment(max(state.until, state.since)),
        waiting=tuple(find_waiting(stored, view, now)),
    )


def _describe_node(
    report: NodeReport, state: AuthorityState, *, trust: str, signer: str, now: float
) -> NodeCertificate:
    facts = read_facts(report)
    serials = {each.serial for each in state.revoked if each.node == report.name}
    is_revoked = state.is_revoked(report.name) or facts.serial in serials - {""}
    return NodeCertificate(
        node=report.name,
        address=report.ip,
        state="valid" if facts.is_valid(now) else "expired" if facts.ends else "none",
        ends=render_moment(facts.ends) if facts.ends else "",
        serial=facts.serial,
        trust=facts.trust == trust,
        signer=facts.authority == signer,
        revoked=is_revoked,
        problem="" if is_revoked else facts.find_problem(now),
    )


def _find_authority_problems(stored: Stored, certificate: x509.Certificate, now: float) -> list[str]:
    left = certificate.not_valid_after_utc.timestamp() - now
    problems = []
    if left <= 0:
        problems.append("the authority has ended: no certificate is valid; run `maesh mtls rotate` now")
    elif left < AUTHORITY_NOTICE_S:
        problems.append(f"the authority ends in {render_span(left)}: replace it, for instance by `maesh mtls rotate`")
    if not is_adopted(stored):
        problems.append("the leader has not recorded the authority yet, so nothing is rotated in phases")
    return problems


def _find_silent(nodes: Mapping[str, object], certificates: Sequence[NodeCertificate]) -> list[str]:
    reported = {each.node for each in certificates}
    return [f"{name}: its proxy reports nothing to any controller" for name in sorted(nodes) if name not in reported]
