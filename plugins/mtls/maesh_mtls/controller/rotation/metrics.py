"""The controller's metrics of certificates: those of proxies, as they report them, and of the authority.

Takes facts and the state; returns metric families. Nodes are counted, not named: `maesh mtls status` names them.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from maesh_core.plugin import MetricFamily
from maesh_mtls.controller.authority.ca import SigningAuthority
from maesh_mtls.controller.authority.effective import get_key_id
from maesh_mtls.controller.authority.state import RENEW, SETTLED, SPREAD, AuthorityState
from maesh_mtls.facts import NEAR_END, CertificateFacts
from maesh_mtls.trust import hash_trust

PHASES: Final = (SETTLED, SPREAD, RENEW)


def collect_certificates(
    proxies: Sequence[CertificateFacts],
    state: AuthorityState,
    authority: SigningAuthority | None,
    *,
    waiting: int,
    now: float,
) -> list[MetricFamily]:
    """Return the families."""
    states = Counter(_judge(facts, now) for facts in proxies)
    ends = [facts.ends for facts in proxies if facts.ends]
    trust = hash_trust(authority.bundle) if authority is not None else ""
    issuer = get_key_id(authority) if authority is not None else ""
    follows = Counter(
        (str(facts.trust == trust).lower(), str(facts.authority == issuer).lower()) for facts in proxies if facts.ends
    )
    families = [
        _gauge("maesh_mtls_proxies", "Proxies of this controller, by their certificate.", states, ("certificate",)),
        MetricFamily(
            name="maesh_mtls_proxies_current",
            type="gauge",
            help="Proxies with a certificate: whether they trust what the authority trusts now, and whether it signed.",
            labels=("trust", "signer"),
            samples=tuple((labels, count) for labels, count in sorted(follows.items())),
        ),
        _gauge(
            "maesh_mtls_rotation_phase",
            "The phase of the rotation of the authority.",
            {phase: int(state.phase == phase) for phase in PHASES},
            ("phase",),
        ),
        _gauge("maesh_mtls_rotation_waiting", "Nodes that the phase of a rotation waits for.", {"": waiting}, ()),
        _gauge("maesh_mtls_revocations", "Nodes and certificates that are revoked.", {"": len(state.revoked)}, ()),
    ]
    if ends:
        text = "The Unix time at which the first of the proxies' certificates ends."
        families.append(_gauge("maesh_mtls_first_expiry_seconds", text, {"": min(ends)}, ()))
    return families


def _judge(facts: CertificateFacts, now: float) -> str:
    if not facts.ends:
        return "none"
    if now >= facts.ends:
        return "expired"
    return "overdue" if facts.ends - now < NEAR_END * (facts.ends - facts.starts) else "valid"


def _gauge(
    name: str, text: str, samples: "Counter[str] | dict[str, int] | dict[str, float]", labels: tuple[str, ...]
) -> MetricFamily:
    found = tuple(((label,) if labels else (), value) for label, value in sorted(samples.items()))
    return MetricFamily(name=name, type="gauge", help=text, labels=labels, samples=found)
