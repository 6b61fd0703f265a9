"""The state that is kept beside the authority: the phase of a rotation, and the revocations. A small JSON text.

Frozen values, and the changes of revocations. The time is Unix time. Every controller reads the state; each change is
written with the version that it is based on (stores.py).
"""

from typing import Final, Literal

import msgspec

from maesh_core.plugin import ConfigurationError
from maesh_mtls import LONGEST_LIFETIME_S

SETTLED: Final = "settled"
SPREAD: Final = "spread"
RENEW: Final = "renew"
Phase = Literal["settled", "spread", "renew"]
MARGIN_S: Final = 900.0
"""Added to the end of certificates: for clocks that differ, and signatures that are under way."""
KEPT_S: Final = 30 * 86400.0
"""How long the revocation of a certificate is kept after it must have ended: for a clock that is wrong by days."""
REVOCATIONS_LIMIT: Final = 1_000


class Revocation(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A node that is revoked, or only one certificate of it, by its serial number; since `at`."""

    node: str
    serial: str = ""
    at: float = 0.0

    @property
    def ends(self) -> float | None:
        """When it is dropped, long after the certificate has ended; None for a node."""
        return self.at + LONGEST_LIFETIME_S + MARGIN_S + KEPT_S if self.serial else None


class AuthorityState(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The state; a new authority has the defaults.

    `longest_s` is the longest life of certificates that the current signer has signed; `others_until` is when all those
    of other signers have ended. A user may end the wait of a phase: `skipped` is its name.
    """

    phase: Phase = SETTLED
    since: float = 0.0
    longest_s: float = 0.0
    others_until: float = 0.0
    skipped: str = ""
    revoked: tuple[Revocation, ...] = ()

    @property
    def until(self) -> float:
        """When the phase ends at the latest: no certificate that it waits for can be valid then."""
        if self.phase == SPREAD:
            return max(self.since + self.longest_s + MARGIN_S, self.others_until)
        return self.others_until

    def is_revoked(self, node: str) -> bool:
        """Whether a node gets no certificate."""
        return any(each.node == node and not each.serial for each in self.revoked)


def parse_state(text: str) -> AuthorityState:
    """Parse the state; empty text is that of a new authority. Raises ConfigurationError."""
    if not text:
        return AuthorityState()
    try:
        return msgspec.json.decode(text, type=AuthorityState)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise ConfigurationError(
            "the state of the rotation cannot be read: it is not what a controller wrote"
        ) from None


def render_state(state: AuthorityState) -> str:
    """Render the state."""
    return msgspec.json.encode(state).decode()


def revoke(state: AuthorityState, node: str, serial: str, now: float) -> AuthorityState:
    """Add a revocation. Raises ValueError if it exists, or if there are too many."""
    if any((each.node, each.serial) == (node, serial) for each in state.revoked):
        raise ValueError("it is revoked already")
    if len(state.revoked) >= REVOCATIONS_LIMIT:
        raise ValueError(f"there are {REVOCATIONS_LIMIT} revocations already")
    added = Revocation(node=node, serial=serial, at=now)
    return msgspec.structs.replace(state, revoked=(*state.revoked, added))


def undo_revocation(state: AuthorityState, node: str, serial: str) -> AuthorityState:
    """Remove a revocation. Raises ValueError if there is none."""
    kept = tuple(each for each in state.revoked if (each.node, each.serial) != (node, serial))
    if len(kept) == len(state.revoked):
        raise ValueError("it is not revoked")
    return msgspec.structs.replace(state, revoked=kept)


def drop_ended(state: AuthorityState, now: float) -> AuthorityState:
    """Remove revocations of certificates that have ended."""
    kept = tuple(each for each in state.revoked if each.ends is None or each.ends > now)
    return state if len(kept) == len(state.revoked) else msgspec.structs.replace(state, revoked=kept)
