"""The facts of a node's certificate, which its proxy reports to the controller with each pull.

A proxy renders them, and the controller reads them as untrusted: a wrong one refuses all of them. Times are whole Unix
times up to the last one that a certificate can have. `state` is that of the proxy's own report: valid, overdue, expired
or none.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

import msgspec

from maesh_mtls.wire import Credentials

STATES: Final = frozenset({"valid", "overdue", "expired", "none"})
NEAR_END: Final = 0.35
"""A certificate is renewed between 0.4 and 0.6 of its life, so one with less than this left has not been renewed."""
LAST_TIME: Final = 253_402_300_799
"""The end of the year 9999, the last one that certificates (RFC 5280 section 4.1.2.5) and RFC 3339 can express."""
_TIMES: Final = ("starts", "ends")
_PATTERNS: Final = {
    "state": re.compile(r"[a-z]{4,7}"),
    "starts": re.compile(r"[0-9]{1,12}"),
    "ends": re.compile(r"[0-9]{1,12}"),
    "serial": re.compile(r"([0-9A-F]{2}){1,20}"),
    "trust": re.compile(r"[0-9a-f]{16}"),
    "authority": re.compile(r"([0-9a-f]{2}){1,32}"),
}


class CertificateFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a proxy says of its certificate; the defaults are those without any."""

    state: str = "none"
    starts: float = 0.0
    ends: float = 0.0
    serial: str = ""
    trust: str = ""
    authority: str = ""

    def is_valid(self, now: float) -> bool:
        """Whether the proxy has a certificate that is valid."""
        return now < self.ends

    def find_problem(self, now: float) -> str:
        """Describe what is wrong; empty if nothing is."""
        if not self.ends:
            return "the proxy has no certificate"
        if now >= self.ends:
            return "the certificate has ended"
        if self.ends - now < NEAR_END * (self.ends - self.starts):
            return f"the certificate ends in {render_span(self.ends - now)} and was not renewed"
        return ""


def render_facts(credentials: Credentials | None, state: str) -> dict[str, str]:
    """Render the facts of a node's current credentials."""
    facts = {"state": state}
    if credentials is not None:
        facts |= {
            "starts": f"{credentials.issued:.0f}",
            "ends": f"{credentials.not_after:.0f}",
            "serial": credentials.serial,
            "trust": credentials.trust,
            "authority": credentials.authority,
        }
    return {name: text for name, text in facts.items() if text}


def check_facts(facts: Mapping[str, str]) -> dict[str, str]:
    """Return facts that are known and valid. Raises ValueError if one is wrong."""
    for name, text in facts.items():
        if name in _PATTERNS and not _PATTERNS[name].fullmatch(text):
            raise ValueError(f"the fact {name} is wrong")
    if any(int(facts.get(name, "0")) > LAST_TIME for name in _TIMES):
        raise ValueError("a time of the facts is after the year 9999")
    if facts.get("state", "none") not in STATES or ("ends" in facts) != ("starts" in facts):
        raise ValueError("the facts do not belong together")
    return {name: text for name, text in facts.items() if name in _PATTERNS}


def parse_facts(facts: Mapping[str, str]) -> CertificateFacts:
    """Parse facts that were checked."""
    return msgspec.convert(dict(facts), CertificateFacts, strict=False)


def render_span(seconds: float) -> str:
    """Render a time span of some seconds in one unit, such as `23h`."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def render_moment(seconds: float) -> str:
    """Render a Unix time as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
